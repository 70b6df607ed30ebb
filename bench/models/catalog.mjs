// The models that are measured: real ones from the tests' folder, synthetic ones of real shapes made here once.
import { spawnSync } from "node:child_process";
import { existsSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { benchFolder } from "../folder.mjs";
import { writeSyntheticModel } from "./synthetic-gguf.mjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A model that cannot be had; the message says why. */
export class ModelUnavailable extends Error {}

const real = ["smollm2-135m-instruct", "gemma-3-270m"];
const syntheticTypes = {
  "llama-1b-q4_0": "Q4_0",
  "llama-1b-q8_0": "Q8_0",
  "llama-1b-f16": "F16",
  "llama-1b-bf16": "BF16",
};
/** Made by our own quantizer from a synthetic model. */
const quantized = { "llama-1b-q4_k_m": { from: "llama-1b-f16", type: "Q4_K_M" } };

export const modelNames = [...real, ...Object.keys(syntheticTypes), ...Object.keys(quantized)];

export function isSynthetic(name) {
  return Object.hasOwn(syntheticTypes, name) || Object.hasOwn(quantized, name);
}

function run(...parameters) {
  return spawnSync(process.execPath, parameters, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 });
}

let testModels;

function provideReal(name) {
  testModels ??= run("scripts/fetch-test-models.mjs");
  const { status, stdout, stderr } = testModels;
  if (status !== 0) throw new ModelUnavailable(`it could not be fetched: ${stderr.trim()}`);
  return join(stdout.trim(), `${name}.gguf`);
}

/** The model's file in the cache; `make` writes it under another name first, so that it is never half there. */
async function provideMade(name, announce, make) {
  const path = join(benchFolder("models"), `${name}.gguf`);
  if (existsSync(path)) return path;
  announce(`making ${path}`);
  const temporary = `${path}.${process.pid}.partial`;
  try {
    await make(temporary);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
  return path;
}

/** Path of a model by its name here, or by its own path. Rejects with ModelUnavailable. */
export async function provideModel(name, { announce }) {
  if (real.includes(name)) return provideReal(name);
  if (Object.hasOwn(syntheticTypes, name)) {
    return provideMade(name, announce, (path) => writeSyntheticModel(path, "llama-1b", syntheticTypes[name]));
  }
  if (Object.hasOwn(quantized, name)) {
    const { from, type } = quantized[name];
    const input = await provideModel(from, { announce });
    return provideMade(name, announce, (path) => {
      const { status, stderr } = run("dist/cli/main.js", "quantize", input, path, "--type", type);
      if (status === 0 && existsSync(path)) return;
      throw new ModelUnavailable(`'tokenmill quantize' did not make it: ${stderr.trim().split("\n")[0]}`);
    });
  }
  if (existsSync(name)) return resolve(name);
  throw new ModelUnavailable(
    `there is no such file, and no model of that name; known are ${modelNames.join(", ")}`,
  );
}

/** The F16 file of a quantized model's weights, for which that model can guess. Rejects with ModelUnavailable. */
export function provideWidened(path, { announce }) {
  return provideMade(`${basename(path, ".gguf")}-widened-f16`, announce, (output) => {
    const flags = ["--type", "F16", "--allow-requantize"];
    const { status, stderr } = run("dist/cli/main.js", "quantize", path, output, ...flags);
    if (status === 0 && existsSync(output)) return;
    throw new ModelUnavailable(`'tokenmill quantize' did not make it: ${stderr.trim().split("\n")[0]}`);
  });
}

/** What a result calls a model. */
export function modelLabel(name) {
  return modelNames.includes(name) ? name : basename(name, ".gguf");
}
