// A request's tokens and log-probabilities depend on its prompt, options and seed only: bit for bit the same
// whatever else runs, with any number of threads and however its prompt is cut (prefix-cache.test.mjs: or cached).
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { gemma3, modelTest, root, smollm2, tinyModel } from "../support/models.mjs";

const words = "mill river wheel stone flour grain water sluice miller morning bread village road hill".split(
  " ",
);
const prompt = (seed, length) =>
  Array.from({ length }, (_, i) => words[(seed * 31 + i * i * 7 + i * seed) % words.length]).join(" ");

const requests = [
  { prompt: `${prompt(1, 90)}. The`, options: { temperature: 0 } },
  { prompt: `${prompt(2, 7)}. And then`, options: { temperature: 0.8, seed: 42 } },
  {
    prompt: `${prompt(3, 40)}. In the`,
    options: { temperature: 1, topK: 20, topP: 0.9, seed: 7, repetitionPenalty: 1.2 },
  },
];
const others = Array.from({ length: 15 }, (_, i) => ({
  prompt: prompt(i + 10, 3 + ((i * 17) % 60)),
  options: { temperature: i % 2, seed: i },
}));

/** Gives requests different priorities and tenants, some with a deadline. */
const mixed = (all) =>
  all.map(({ prompt: text, options }, i) => ({
    prompt: text,
    options: {
      ...options,
      priority: ((i * 7) % 5) - 2,
      tenant: `tenant ${i % 3}`,
      ...(i % 4 === 0 ? { deadline: 600_000 } : {}),
    },
  }));

const start = (model, { prompt: text, options }, maxTokens) =>
  model.generate(text, { ...options, maxTokens, logprobs: 3, ignoreEos: true });

const essence = ({ tokens, logprobs, text }) => ({ tokens, logprobs, text });

async function check(path, { maxTokens, contextLength }) {
  const variants = [
    { threads: 1, maxBatchTokens: 512 },
    { threads: 2, maxBatchTokens: 512 },
    { threads: 2, maxBatchTokens: 64 },
    { threads: 2, maxBatchTokens: 16 },
    { threads: 2, maxBatchTokens: 512, prefixCache: true }, // the crowd finds what was computed alone
    { threads: 2, targetTpot: 0.01 },
    { threads: 2, targetTpot: 1000, maxQueue: 100 },
  ];
  let expected;
  for (const variant of variants) {
    const model = await loadModel(path, { contextLength, prefixCache: false, ...variant });
    const alone = [];
    for (const request of requests) alone.push(essence(await start(model, request, maxTokens)));
    const crowd = mixed([...others.slice(0, 7), ...requests, ...others.slice(7)]).map((r) =>
      start(model, r, maxTokens),
    );
    const crowded = (await Promise.all(crowd)).slice(7, 7 + requests.length).map(essence);
    await model.dispose();
    expected ??= alone;
    const name = JSON.stringify(variant);
    assert.deepEqual(alone, expected, `alone, ${name}`);
    assert.deepEqual(crowded, expected, `among 15 others, ${name}`);
  }
  assert.ok(expected.every(({ tokens }) => tokens.length === maxTokens));
}

test("tiny llama", () => check(tinyModel({ context: 1024 }), { maxTokens: 24, contextLength: 1024 }));
test("tiny Gemma 3 with a window of 32 tokens", () =>
  check(join(root, "test/fixtures/model/tiny/gemma3.gguf"), { maxTokens: 24 }));
modelTest("SmolLM2", smollm2, (path) => check(path, { maxTokens: 16, contextLength: 1024 }));
modelTest("Gemma 3 270M", gemma3, (path) => check(path, { maxTokens: 6, contextLength: 1024 }));

test("preemption changes nothing", async () => {
  const path = tinyModel({ context: 512 });
  const roomy = await loadModel(path);
  const ask = (model) => Promise.all([...requests, ...others].map((request) => start(model, request, 30)));
  await roomy.generate("To the context's end", { ignoreEos: true });
  const { weights, scratch, kv } = roomy.stats().bytes;
  const expected = (await ask(roomy)).map(essence);
  await roomy.dispose();
  // Room for one full context.
  const tight = await loadModel(path, { contextLength: 512, memory: { budget: weights + scratch + kv } });
  assert.deepEqual((await ask(tight)).map(essence), expected);
  const all = mixed([...requests, ...others]);
  const ranked = await Promise.all(all.map((request) => start(tight, request, 30)));
  assert.deepEqual(ranked.map(essence), expected);
  assert.ok(tight.stats().preempted > 0, "pages ran out");
  assert.equal(tight.stats().pages.used, 0);
  await tight.dispose();
});
