// The command with a real model; needs the addon, and the models that scripts/fetch-test-models.mjs provides.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const { cacheFolder } = require("../../dist/sources/cache.js");
const { loadModel } = require("../../dist/index.js");
const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const folder = process.env.TOKENMILL_TEST_MODELS || join(cacheFolder(), "test-models");
const chatModel = join(folder, "smollm2-135m-instruct.gguf");
const baseModel = join(folder, "gemma-3-270m.gguf");
const skip = existsSync(chatModel) && existsSync(baseModel) ? false : `no models in ${folder}`;

const question = "What is the capital of France?";
const messages = [{ role: "user", content: question }];

async function run(parameters, { input = "", onOutput } = {}) {
  const child = spawn(process.execPath, [command, ...parameters]);
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const collected = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) {
    child[name].on("data", (chunk) => {
      collected[name] += chunk;
      onOutput?.(child, collected);
    });
  }
  const [exitCode] = await once(child, "close");
  return { exitCode, ...collected };
}

let model;
before(async () => {
  if (!skip) model = await loadModel(chatModel, { precision: "high" });
});
after(() => model?.dispose());

test("run prints what the library answers", { skip }, async () => {
  const { text } = await model.chat(messages, { maxTokens: 24 });
  const expected = { exitCode: 0, stdout: `${text}\n`, stderr: "" };
  assert.ok(text.length > 10);
  assert.deepEqual(await run(["run", chatModel, question, "--max-tokens", "24"]), expected);
  assert.deepEqual(await run(["run", chatModel, "--max-tokens", "24"], { input: `${question}\n` }), expected);
});

test("run --draft says the same with a draft model and with guesses from the prompt", { skip }, async () => {
  const { text } = await model.chat(messages, { maxTokens: 24 });
  for (const draft of [chatModel, "promptLookup"]) {
    const { exitCode, stdout } = await run([
      "run",
      chatModel,
      question,
      "--max-tokens",
      "24",
      "--draft",
      draft,
    ]);
    assert.deepEqual({ exitCode, stdout }, { exitCode: 0, stdout: `${text}\n` });
  }
  const { exitCode, stderr } = await run(["run", chatModel, question, "--draft", baseModel]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /the draft model '.*' has 262144 tokens, and the model has 49152/);
});

test("run --json prints the completion, with the options applied", { skip }, async () => {
  const flags = [
    "--temperature",
    "0.9",
    "--top-k",
    "40",
    "--top-p",
    "0.95",
    "--min-p",
    "0.01",
    "--seed",
    "7",
  ];
  const { stdout } = await run(["run", chatModel, question, "--json", "--max-tokens", "16", ...flags]);
  const options = { maxTokens: 16, temperature: 0.9, topK: 40, topP: 0.95, minP: 0.01, seed: 7 };
  const expected = await model.chat(messages, options);
  const printed = JSON.parse(stdout);
  assert.deepEqual(Object.keys(printed).sort(), Object.keys(expected).sort());
  for (const name of ["text", "tokens", "finishReason", "seed"])
    assert.deepEqual(printed[name], expected[name]);
  assert.equal(printed.usage.promptTokens, expected.usage.promptTokens);
});

test("--system, --raw and --stop reach the model", { skip }, async () => {
  const system = { role: "system", content: "You are a pirate." };
  const withSystem = await model.chat([system, ...messages], { maxTokens: 8 });
  const first = await run(["run", chatModel, question, "--max-tokens", "8", "--system", system.content]);
  assert.equal(first.stdout, `${withSystem.text}\n`);
  const raw = await model.generate("The capital of France is", { maxTokens: 8 });
  const second = await run(["run", chatModel, "The capital of France is", "--raw", "--max-tokens", "8"]);
  assert.equal(second.stdout, `${raw.text}\n`);
  const stop = raw.text.slice(3, 6);
  const third = await run([
    "run",
    chatModel,
    "The capital of France is",
    "--raw",
    "--max-tokens",
    "8",
    "--stop",
    stop,
  ]);
  assert.equal(third.stdout, `${raw.text.slice(0, raw.text.indexOf(stop))}\n`);
});

test("a model without a chat template continues the prompt, and has no place for a system message", {
  skip,
}, async () => {
  const { exitCode, stdout, stderr } = await run(["run", baseModel, "Once upon a time", "--max-tokens", "8"]);
  assert.equal(exitCode, 0);
  assert.ok(stdout.trim().length > 3);
  assert.match(stderr, /no chat template/);
  const refused = await run(["run", baseModel, "Once", "--system", "x"]);
  assert.equal(refused.exitCode, 2);
  assert.match(refused.stderr, /^tokenmill: The model has no chat template/);
});

test("Ctrl-C ends an answer with 130", { skip: skip || process.platform === "win32" }, async () => {
  // Once: a second one would end the process on the spot.
  const onOutput = (child, { stdout }) => stdout.length > 20 && !child.killed && child.kill("SIGINT");
  const long = ["run", chatModel, "1 2 3 4 5", "--raw", "--max-tokens", "4000"];
  const { exitCode, stdout, stderr } = await run(long, { onOutput });
  assert.equal(exitCode, 130);
  assert.ok(stdout.endsWith("\n"));
  assert.match(stderr, /^tokenmill: .*aborted/);
});

test("a prompt longer than the context is told as such", { skip }, async () => {
  const { exitCode, stderr } = await run(["run", chatModel, question, "--context-length", "16"]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /^tokenmill: .*\n$/);
});

test("bench measures prefill and decode", { skip }, async () => {
  const flags = ["--rounds", "2", "--prompt-tokens", "64", "--tokens", "16", "--threads", "1"];
  const result = JSON.parse((await run(["bench", chatModel, "--json", ...flags])).stdout);
  assert.equal(result.model.device.threads, 1);
  assert.ok(result.loadMs > 0 && result.rssBytes > 50e6);
  for (const [name, tokens] of [
    ["prefill", 64],
    ["decode", 16],
  ]) {
    const { median, best, rounds } = result[name];
    assert.equal(result[name].tokens, tokens);
    assert.equal(rounds.length, 2);
    assert.equal(best, Math.max(...rounds));
    assert.ok(Math.abs(median - (rounds[0] + rounds[1]) / 2) < 1e-9 && median > 0);
  }
  const text = (await run(["bench", chatModel, ...flags])).stdout;
  assert.match(text, /^prefill +64 tokens +[\d.]+ +[\d.]+$/m);
});

test("a bench that does not fit the context is a usage error", { skip }, async () => {
  const { exitCode, stderr } = await run(["bench", chatModel, "--prompt-tokens", "9000"]);
  assert.equal(exitCode, 2);
  assert.match(stderr, /9001 tokens of context; the model has 8192/);
});

test("inspect shows metadata, tensors and memory", { skip }, async () => {
  const { path, ...shown } = JSON.parse((await run(["inspect", chatModel, "--json"])).stdout);
  assert.equal(path, chatModel);
  assert.equal(shown.fileBytes, 98_362_432);
  assert.equal(shown.tensors.length, 272);
  // 30 layers, 3 key-value heads of 64, keys and values of 2 bytes, 8192 tokens; on the reference path 4 bytes.
  const elementBytes = process.env.TOKENMILL_ISA === "reference" ? 4 : 2;
  assert.equal(shown.memory.kv, 30 * 3 * 64 * 2 * elementBytes * 8192);
  const { weights, kv, scratch, total } = shown.memory;
  assert.ok(weights >= shown.tensors.reduce((sum, { bytes }) => sum + bytes, 0));
  assert.equal(total, weights + kv + scratch);
  const { stdout } = await run(["inspect", chatModel, "--context-length", "100"]);
  assert.match(stdout, /^general\.architecture +string +"llama"$/m);
  assert.match(stdout, /^Q4_1 +210 +66\.4 MB$/m);
  assert.match(stdout, /for 100 tokens of context/);
});

test("inspect refuses what is no GGUF file", async () => {
  const { exitCode, stderr } = await run(["inspect", fileURLToPath(import.meta.url)]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /^tokenmill: .*\n$/);
});
