// What has been computed before is not computed again, and nobody can tell from the results.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gemma3, modelTest, root, smollm2, tinyModel } from "../support/models.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel, TokenmillError } = await import("../../dist/index.mjs");

const tinyGemma3 = join(root, "test/fixtures/model/tiny/gemma3.gguf"); // a window of 32 tokens

const tokens = (seed, length) => Array.from({ length }, (_, i) => 3 + ((seed * 31 + i * i * 7 + i) % 200));

const essence = ({ tokens, logprobs, text }) => ({ tokens, logprobs, text });

const ask = (model, prompt, options = {}) =>
  model.generate(prompt, { maxTokens: 12, logprobs: 2, ignoreEos: true, ...options });

/** A shared beginning with several continuations, and the next turns of some. */
async function conversations(model, start) {
  const common = tokens(1, 75);
  const prompts = [
    common,
    [...common, ...tokens(2, 30)],
    [...common.slice(0, 70), ...tokens(3, 9)],
    tokens(4, 20),
  ];
  const sampled = { temperature: 0.9, seed: 11 };
  const first = await start(prompts.map((prompt, i) => ask(model, prompt, i % 2 ? sampled : {})));
  const next = prompts.map((prompt, i) => [...prompt, ...first[i].tokens, ...tokens(5 + i, 5)]);
  const second = await start(next.map((prompt) => ask(model, prompt)));
  const again = await start([...prompts, ...next].map((prompt) => ask(model, prompt)));
  return [...first, ...second, ...again];
}

const together = (replies) => Promise.all(replies);

async function check(path, options) {
  const fresh = await loadModel(path, { ...options, prefixCache: false });
  const expected = await conversations(fresh, together);
  assert.equal(fresh.stats().pages.cached, 0);
  assert.equal(fresh.stats().cachedTokens, 0);
  assert.ok(expected.every(({ usage }) => usage.cachedTokens === 0));
  await fresh.dispose();
  for (const maxBatchTokens of [512, 24]) {
    const model = await loadModel(path, { ...options, maxBatchTokens });
    for (let round = 0; round < 2; round++) {
      const completions = await conversations(model, together);
      assert.deepEqual(completions.map(essence), expected.map(essence), `round ${round}`);
      // All but the last token of what was asked before, and a reply's tokens but for its last one.
      for (const { usage } of completions.slice(8)) assert.equal(usage.cachedTokens, usage.promptTokens - 1);
      if (round === 0)
        assert.deepEqual(
          completions.slice(4, 8).map(({ usage }) => usage.promptTokens - usage.cachedTokens),
          [6, 6, 6, 6],
        );
    }
    const { pages, prefix, cachedTokens } = model.stats();
    assert.equal(pages.used, 0);
    assert.ok(pages.cached > 0 && pages.cached + pages.free <= pages.maximum);
    assert.ok(prefix.hits > 24 && prefix.lookups === 32 && prefix.hitTokens === cachedTokens);
    await model.dispose();
  }
}

for (const type of ["f16", "int8"]) {
  const options = { contextLength: 256, kvCache: { type } };
  test(`tiny llama, ${type}`, () => check(tinyModel({ context: 256 }), options));
  test(`tiny Gemma 3, ${type}`, () => check(tinyGemma3, options));
  modelTest(`SmolLM2, ${type}`, smollm2, (path) => check(path, options));
  modelTest(`Gemma 3 270M, ${type}`, gemma3, (path) => check(path, options));
}

test("tiny Gemma 3 on the reference path", async () => {
  process.env.TOKENMILL_ISA = "reference";
  try {
    await check(tinyGemma3, { contextLength: 256 });
  } finally {
    delete process.env.TOKENMILL_ISA;
  }
});

for (const [name, path] of [
  ["llama", tinyModel({ context: 512 })],
  ["Gemma 3", tinyGemma3],
]) {
  test(`few pages change nothing for tiny ${name}`, async () => {
    const prompts = Array.from({ length: 40 }, (_, i) => [
      ...tokens(i % 3, 20 + (i % 5) * 20),
      ...tokens(i % 7, i),
    ]);
    const all = (model) => Promise.all(prompts.map((prompt) => ask(model, prompt, { maxTokens: 40 })));
    const contextLength = 256;
    const roomy = await loadModel(path, { contextLength, maxBatchTokens: 64, prefixCache: false });
    const expected = (await all(roomy)).map(essence);
    const { bytes } = roomy.stats();
    await roomy.dispose();
    const budget = await smallestBudget(path, contextLength, bytes);
    const tight = await loadModel(path, { contextLength, maxBatchTokens: 64, memory: { budget } });
    for (let round = 0; round < 3; round++) assert.deepEqual((await all(tight)).map(essence), expected);
    const { preempted, prefix, pages } = tight.stats();
    assert.ok(preempted > 0 && prefix.evictedPages > 0 && prefix.hits > 0, "pages ran out");
    assert.equal(pages.used, 0);
    assert.equal(pages.cached + pages.free, pages.maximum);
    await tight.dispose();
  });
}

/** What just holds a context, within a slab's size. */
async function smallestBudget(path, contextLength, { weights, scratch, kv }) {
  for (let share = 0.02; ; share *= 1.1) {
    const budget = weights + scratch + Math.ceil(kv * share);
    try {
      await (await loadModel(path, { contextLength, maxBatchTokens: 64, memory: { budget } })).dispose();
      return budget;
    } catch (error) {
      if (!TokenmillError.isInstance(error) || error.code !== "OutOfMemory") throw error;
    }
  }
}

test("32 equal prompts at once cost little more than one", async () => {
  const model = await loadModel(tinyModel({ context: 1024 }));
  const prompt = tokens(1, 1000);
  const completions = await Promise.all(
    Array.from({ length: 32 }, () => ask(model, prompt, { maxTokens: 4 })),
  );
  for (const completion of completions) assert.deepEqual(essence(completion), essence(completions[0]));
  const cached = completions.map(({ usage }) => usage.cachedTokens);
  assert.equal(cached.filter((count) => count === 0).length, 1);
  assert.equal(cached.filter((count) => count >= 970).length, 31);
  assert.equal(
    model.stats().cachedTokens,
    cached.reduce((sum, count) => sum + count),
  );
  await model.dispose();
});

test("a salt keeps prefixes apart, also those of scores", async () => {
  const model = await loadModel(tinyModel());
  const prompt = tokens(1, 100);
  const cached = async (options) => (await ask(model, prompt, options)).usage.cachedTokens;
  await model.score(prompt, { cacheSalt: "a" });
  assert.equal(await cached({}), 0);
  assert.equal(await cached({ cacheSalt: "b" }), 0);
  assert.equal(await cached({ cacheSalt: "a" }), 99);
  assert.equal(await cached({ cacheSalt: "" }), 99);
  const score = await model.score(prompt);
  assert.deepEqual(await model.score(prompt, { cacheSalt: "c" }), score);
  await model.dispose();
});

test("a reply that was cancelled leaves what it computed", async () => {
  const model = await loadModel(tinyModel());
  const prompt = tokens(1, 60);
  const reply = ask(model, prompt, { maxTokens: 100 });
  for await (const _ of reply) reply.cancel();
  await reply;
  const { usage } = await ask(model, [...prompt, 7]);
  assert.equal(usage.cachedTokens, 60);
  await model.dispose();
});

test("only what was computed counts as prefill", async () => {
  const model = await loadModel(tinyModel({ context: 1024 }));
  const prompt = tokens(1, 900);
  await ask(model, prompt);
  const { timings, usage } = await ask(model, prompt);
  assert.equal(usage.cachedTokens, 899);
  const computed = (timings.prefillTokensPerSecond * (timings.ttftMs - timings.queueMs)) / 1000;
  assert.ok(Math.abs(computed - 1) < 1e-3, `${computed} tokens`);
  await model.dispose();
});

test("options that are not what they should be", async () => {
  const path = tinyModel();
  const refused = { code: "InvalidArgument" };
  await assert.rejects(loadModel(path, { prefixCache: "yes" }), refused);
  const model = await loadModel(path);
  await assert.rejects(Promise.resolve(ask(model, [1], { cacheSalt: 5 })), refused);
  await assert.rejects(model.score([1, 2], { cacheSalt: null }), refused);
  await model.dispose();
});
