// What a model takes is known before it is loaded, and its budget can change while it runs.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { failure } from "../support/failure.mjs";
import { gemma3, modelTest, root, smollm2, tinyModel, until } from "../support/models.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { estimateMemory, loadModel } = await import("../../dist/index.mjs");

const tinyGemma3 = join(root, "test/fixtures/model/tiny/gemma3.gguf"); // a window of 32 tokens
const tiny = tinyModel({ context: 2048 });

const tokens = (seed, length) => Array.from({ length }, (_, i) => 3 + ((seed * 31 + i * i * 7 + i) % 200));

const near = (found, expected, what) =>
  assert.ok(Math.abs(found - expected) <= 0.02 * expected, `${what}: ${found} against ${expected}`);

/** Loads with what was estimated, and no byte more, and has one reply fill the context. */
async function checkEstimate(path, options) {
  const wide = { ...options, memory: { budget: 2 ** 40 } };
  const estimate = await estimateMemory(path, wide);
  assert.equal(estimate.total, estimate.weights + estimate.kv + estimate.scratch);
  assert.ok(estimate.fits && estimate.available > 0);
  assert.equal(estimate.budget, 2 ** 40);
  const { contextLength, total } = estimate;
  const exact = { ...options, contextLength, memory: { budget: total } };
  const model = await loadModel(path, exact);
  assert.equal(model.info.contextLength, contextLength);
  const { finishReason } = await model.generate(tokens(1, contextLength - 2), { ignoreEos: true });
  assert.equal(finishReason, "length");
  const { bytes } = model.stats();
  await model.dispose();
  assert.equal(bytes.weights, estimate.weights);
  assert.equal(bytes.scratch, estimate.scratch);
  near(bytes.kv, estimate.kv, "kv");
  near(bytes.weights + bytes.kv + bytes.scratch, total, "total");
  const less = { ...exact, memory: { budget: total - 1 } };
  assert.equal((await estimateMemory(path, less)).fits, false);
  const error = await failure(loadModel(path, less));
  assert.equal(error.code, "OutOfMemory");
  assert.match(error.message, new RegExp(`${contextLength} tokens.*${total} bytes.*${total - 1} bytes`));
}

const variants = {
  default: {},
  "int8 KV": { kvCache: { type: "int8" } },
  "high precision, small steps": { precision: "high", maxBatchTokens: 48 },
  "one thread": { threads: 1, prefixCache: false },
};

for (const [name, options] of Object.entries(variants)) {
  test(`the estimate holds: tiny models, ${name}`, async () => {
    await checkEstimate(tiny, options);
    await checkEstimate(tinyGemma3, options);
    await checkEstimate(tinyModel({ layers: 3, dim: 256 }), { ...options, quantize: "int8" });
  });
  modelTest(`the estimate holds: SmolLM2, ${name}`, smollm2, (path) =>
    checkEstimate(path, { ...options, contextLength: 700 }),
  );
  modelTest(`the estimate holds: Gemma 3, ${name}`, gemma3, (path) =>
    checkEstimate(path, { ...options, contextLength: 900 }),
  );
}

test("an estimate finds the context that a budget holds", async () => {
  const { weights, scratch } = await estimateMemory(tiny);
  const memory = { budget: weights + scratch + 300_000 };
  const estimate = await estimateMemory(tiny, { memory });
  const model = await loadModel(tiny, { memory });
  assert.ok(estimate.fits && estimate.contextLength < 2048);
  assert.equal(model.info.contextLength, estimate.contextLength);
  await model.dispose();
});

test("a load that cannot fit reads no weights", async () => {
  const { weights, kv, scratch } = await estimateMemory(tiny, { contextLength: 100 });
  for (const budget of [1, weights - 1, weights + scratch - 1, weights + scratch + kv - 1]) {
    const options = { contextLength: 100, memory: { budget } };
    let reports = 0;
    const error = await failure(loadModel(tiny, { ...options, onProgress: () => reports++ }));
    assert.equal(error.code, "OutOfMemory");
    assert.equal(reports, 0);
    assert.equal((await estimateMemory(tiny, options)).fits, false);
  }
});

test("estimates are refused as loads are", async () => {
  const codes = {
    ModelNotFound: ["./absent.gguf"],
    InvalidArgument: [tiny, { contextLength: 4096 }],
    Aborted: [tiny, { signal: AbortSignal.abort() }],
  };
  for (const [code, [source, options]] of Object.entries(codes))
    assert.equal((await failure(estimateMemory(source, options))).code, code);
  assert.equal((await failure(estimateMemory(""))).code, "InvalidArgument");
  assert.match((await failure(estimateMemory(tiny, { maxTokens: 1 }))).message, /estimateMemory.*maxTokens/);
});

test("a share is one of the free memory", async () => {
  const half = await estimateMemory(tiny);
  const quarter = await estimateMemory(tiny, { memory: { budget: "25%" } });
  near(half.budget, half.available / 2, "by default");
  near(quarter.budget, quarter.available / 4, "25%");
  const model = await loadModel(tiny, { memory: { budget: "12.5%" } });
  assert.ok(model.stats().bytes.budget < quarter.budget * 0.75);
  const { budget } = await model.setMemoryBudget("25%");
  assert.ok(budget > quarter.budget * 0.7 && budget < quarter.budget * 1.4, `${budget}`);
  await model.dispose();
});

test("budgets that are none are refused", async () => {
  const model = await loadModel(tiny);
  for (const budget of [0, -1, 0.5, Number.NaN, 2 ** 60, "0%", "101%", "50", "1 GiB", "%", "-5%", null, {}]) {
    for (const give of [() => loadModel(tiny, { memory: { budget } }), () => model.setMemoryBudget(budget)]) {
      const error = await failure(give());
      assert.equal(error.code, "InvalidArgument");
      assert.match(error.message, /budget.*"50%"/);
    }
  }
  assert.equal((await failure(model.setMemoryBudget())).code, "InvalidArgument");
  await model.dispose();
  assert.equal((await failure(model.setMemoryBudget(1e9))).code, "Disposed");
});

const crowd = (model) =>
  Array.from({ length: 16 }, (_, i) =>
    model.generate(tokens(i, 40 + 13 * i), {
      maxTokens: 150,
      ignoreEos: true,
      logprobs: 1,
      ...(i % 2 ? { temperature: 0.8, seed: i } : {}),
    }),
  );
const essence = ({ tokens, logprobs, text }) => ({ tokens, logprobs, text });

for (const [name, path] of Object.entries({ "a tiny llama": tiny, "a tiny Gemma 3": tinyGemma3 })) {
  test(`a budget that shrinks and grows changes no reply of ${name}`, async () => {
    const options = { contextLength: 512, maxBatchTokens: 64, threads: 2 };
    const alone = await loadModel(path, { ...options, prefixCache: false });
    const expected = (await Promise.all(crowd(alone))).map(essence);
    await alone.dispose();
    const { total, weights, scratch, kv } = await estimateMemory(path, options);
    const model = await loadModel(path, options);
    const replies = crowd(model);
    await until(() => model.stats().completionTokens > 16 * 20);
    const before = model.stats().bytes;
    assert.ok(before.kv > 2 * kv, "the crowd takes more than one reply of full length");
    const budgets = [weights + scratch + before.kv / 2, total, total + 2 * kv, total + 100 * kv, total];
    for (const budget of budgets) {
      const reached = await model.setMemoryBudget(budget);
      assert.equal(reached.budget, Math.floor(budget));
      assert.ok(reached.weights + reached.scratch + reached.kv <= budget, JSON.stringify(reached));
      assert.equal(model.stats().bytes.budget, reached.budget);
      await until(() => model.stats().running > 0 || model.stats().finished === 16);
    }
    assert.ok(model.stats().preempted > 0);
    assert.deepEqual((await Promise.all(replies)).map(essence), expected);
    // One reply of full length still fits.
    const { finishReason } = await model.generate(tokens(1, 100), { ignoreEos: true });
    assert.equal(finishReason, "length");
    assert.equal(model.stats().failed, 0);
    await model.dispose();
  });
}

test("a budget below one reply of full length is refused with the numbers, and nothing changes", async () => {
  const options = { contextLength: 512, maxBatchTokens: 64 };
  const { total } = await estimateMemory(tiny, options);
  const model = await loadModel(tiny, options);
  const reply = model.generate(tokens(1, 400), { ignoreEos: true });
  await until(() => model.stats().completionTokens > 3);
  const before = model.stats();
  const error = await failure(model.setMemoryBudget(total - 1));
  assert.equal(error.code, "OutOfMemory");
  assert.match(error.message, new RegExp(`512 tokens.*${total} bytes.*${total - 1} bytes`));
  const { bytes, preempted, prefix } = model.stats();
  assert.deepEqual([bytes.budget, preempted, prefix.evictedPages], [before.bytes.budget, 0, 0]);
  assert.equal((await model.setMemoryBudget(total)).budget, total);
  assert.equal((await reply).finishReason, "length");
  await model.dispose();
});

test("models that share an engine share its budget", async () => {
  const options = { contextLength: 500 };
  const models = await Promise.all([loadModel(tiny, options), loadModel(tiny, options)]);
  await models[0].setMemoryBudget(3e8);
  await models[1].setMemoryBudget(2e8);
  await until(() => models[0].stats().bytes.budget === 2e8);
  await Promise.all(models.map((model) => model.dispose()));
});

test("a dispose lets a change of the budget end first", async () => {
  const model = await loadModel(tiny, { contextLength: 333 });
  const change = model.setMemoryBudget(3e8);
  const disposed = model.dispose();
  assert.equal((await change).budget, 3e8);
  await disposed;
});
