// tokenmill as an engine of the benchmark, through its public API with default options.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { serve } from "./serve.mjs";

const startMs = performance.now();
const { loadModel } = await import("../../dist/index.mjs");
const importMs = performance.now() - startMs;

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
let model;

async function load({ model: path, threads, packedCache }) {
  const beginMs = performance.now();
  model = await loadModel(path, { threads, ...(packedCache === undefined ? {} : { packedCache }) });
  const loadMs = performance.now() - beginMs;
  const { contextLength, device } = model.info;
  return { version, importMs, loadMs, configuration: { contextLength, ...device } };
}

/** One stream: when its first token came, here and in the engine, and how many there were. */
async function generate(prompt, tokens, cacheSalt, beginMs) {
  const reply = model.generate(prompt, { maxTokens: tokens, temperature: 0, ignoreEos: true, cacheSalt });
  let firstMs;
  for await (const part of reply) {
    if (part.tokens.length > 0) firstMs ??= performance.now() - beginMs;
  }
  const { timings, usage } = await reply;
  return { firstMs, ttftMs: timings.ttftMs, count: usage.completionTokens };
}

async function run({ prompts, tokens }) {
  const salt = randomUUID(); // nothing is taken from the cache, neither from other runs nor among the streams
  const beginMs = performance.now();
  const streams = await Promise.all(
    prompts.map((prompt, i) => generate(prompt, tokens, `${salt} ${i}`, beginMs)),
  );
  const totalMs = performance.now() - beginMs;
  const latest = (key) => Math.max(...streams.map((stream) => stream[key]));
  return {
    firstMs: latest("firstMs"),
    // Where JavaScript is late for the first token, decoding has begun all the same.
    decodeMs: totalMs - latest("ttftMs"),
    totalMs,
    tokens: streams.reduce((sum, { count }) => sum + count, 0),
  };
}

await serve({ load, run });
