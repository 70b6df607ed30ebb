// node-llama-cpp as an engine of the benchmark: flash attention on, all streams in one context's batch, and for
// the prefill works the batch size that is the fastest of a few. Its folder is the first parameter.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { fastestOf } from "./fastest.mjs";
import { serve } from "./serve.mjs";

const folder = resolve(process.argv[2]);
const entry = createRequire(join(folder, "package.json")).resolve("node-llama-cpp");
const description = readFileSync(join(folder, "node_modules", "node-llama-cpp", "package.json"), "utf8");
const { version } = JSON.parse(description);

const startMs = performance.now();
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry));
const importMs = performance.now() - startMs;

/** Its default, and llama.cpp's for a physical batch. */
const defaultBatchSize = 512;
const streamContextSize = 512;

let model;
let threads;
let contextSize;
const contexts = new Map();
const batchSizes = new Map();

/** A context with its sequences, made once for each setting. */
async function contextOf({ sequences = 1, batchSize = defaultBatchSize, size = contextSize }) {
  const key = `${sequences}/${batchSize}/${size}`;
  if (!contexts.has(key)) {
    const context = await model.createContext({
      sequences,
      contextSize: size,
      batchSize,
      threads: { ideal: threads, min: threads },
      flashAttention: true,
      ignoreMemorySafetyChecks: true,
    });
    contexts.set(
      key,
      Array.from({ length: sequences }, () => context.getSequence()),
    );
  }
  return contexts.get(key);
}

async function load({ model: path, threads: wanted, contextTokens }) {
  const beginMs = performance.now();
  threads = wanted;
  contextSize = Math.ceil(contextTokens / 256) * 256;
  const llama = await getLlama({
    gpu: false,
    build: "never",
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
    maxThreads: threads,
    logger: (_level, message) => process.stderr.write(`${message.trimEnd()}\n`),
  });
  model = await llama.loadModel({ modelPath: path });
  await contextOf({});
  const loadMs = performance.now() - beginMs;
  const { release } = llama.llamaCppRelease;
  const configuration = { flashAttention: true, contextSize, batchSize: defaultBatchSize };
  return { version: `${version} (llama.cpp ${release})`, importMs, loadMs, configuration };
}

/** Continues past end tokens: the next token is given back whatever it is. */
async function generate(sequence, prompt, tokens, beginMs) {
  let firstMs;
  let count = 0;
  for await (const _token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    firstMs ??= performance.now() - beginMs;
    if (++count === tokens) break;
  }
  return { firstMs, count };
}

async function measure(sequences, prompts, tokens) {
  for (const sequence of sequences) await sequence.clearHistory();
  const beginMs = performance.now();
  const streams = await Promise.all(
    prompts.map((prompt, i) => generate(sequences[i], prompt, tokens, beginMs)),
  );
  const totalMs = performance.now() - beginMs;
  const firstMs = Math.max(...streams.map((stream) => stream.firstMs));
  const count = streams.reduce((sum, stream) => sum + stream.count, 0);
  return { firstMs, decodeMs: totalMs - firstMs, totalMs, tokens: count };
}

/** The batch size for a prompt of so many tokens, tried out at its first prompt. */
async function batchSizeFor(length, prompts) {
  if (!batchSizes.has(length)) {
    const candidates = [...new Set([defaultBatchSize, length])].filter((size) => size <= length);
    batchSizes.set(
      length,
      await fastestOf(candidates, async (batchSize) => {
        return (await measure(await contextOf({ batchSize }), prompts, 1)).totalMs;
      }),
    );
  }
  return batchSizes.get(length);
}

async function run({ prompts, tokens, purpose }) {
  if (purpose === "prefill") {
    const batchSize = await batchSizeFor(prompts[0].length, prompts);
    return { ...(await measure(await contextOf({ batchSize }), prompts, tokens)), setting: { batchSize } };
  }
  const streams = { sequences: prompts.length, size: streamContextSize };
  return measure(await contextOf(prompts.length > 1 ? streams : {}), prompts, tokens);
}

await serve({ load, run });
