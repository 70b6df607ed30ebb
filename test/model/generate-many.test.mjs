// generateMany on a model: the same results as alone, whatever the pool is short of, and nothing left behind.
// TOKENMILL_SOAK=1 makes the shortage last for 10,000 requests.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel, TokenmillError } from "../../dist/index.mjs";
import { tinyModel, until } from "../support/models.mjs";
import { loadWithPages } from "../support/small-pool.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const path = tinyModel();
const model = await loadModel(path);
const endless = { ignoreEos: true };

const idle = (loaded) =>
  until(() => {
    const { queued, running, paused, pages } = loaded.stats();
    return queued + running + paused + pages.used === 0;
  }, "an idle engine");

async function gather(batch) {
  const results = [];
  for await (const result of batch) results.push(result);
  return results;
}

test("prompts, token ids and conversations give what they give alone, in both orders", async () => {
  const messages = [{ role: "user", content: "Hello" }];
  const sampled = { temperature: 1.3, seed: 5 };
  const inputs = [
    "The mill",
    model.tokenize("The mill"),
    { id: "chat", messages },
    { id: "sampled", prompt: "The mill", options: sampled },
    { prompt: "x", options: { maxTokens: 40, logprobs: 1 } },
  ];
  const common = { ...endless, maxTokens: 12 };
  const alone = await Promise.all([
    model.generate("The mill", common),
    model.generate(inputs[1], common),
    model.chat(messages, common),
    model.generate("The mill", { ...common, ...sampled }),
    model.generate("x", { ...common, maxTokens: 40, logprobs: 1 }),
  ]);
  for (const order of ["input", "completion"]) {
    const results = await gather(model.generateMany(inputs, { ...common, order }));
    results.sort((a, b) => a.index - b.index);
    assert.deepEqual(
      results.map(({ id }) => id),
      ["0", "1", "chat", "sampled", "4"],
    );
    for (const { index, completion } of results) {
      const { tokens, text, logprobs, finishReason, usage } = alone[index];
      assert.deepEqual([completion.tokens, completion.text], [tokens, text]);
      assert.deepEqual([completion.logprobs, completion.finishReason], [logprobs, finishReason]);
      assert.equal(completion.usage.promptTokens, usage.promptTokens);
    }
  }
});

test("items that fail do not end the batch, and their errors are the request's own", async () => {
  const long = "x".repeat(100_000);
  const controller = new AbortController();
  controller.abort(new Error("not this one"));
  const inputs = [
    long,
    "good",
    { id: "stopped", prompt: "good", options: { signal: controller.signal } },
    { prompt: "good", options: { maxTokens: -1 } },
  ];
  const results = await gather(model.generateMany(inputs, { ...endless, maxTokens: 3 }));
  assert.deepEqual(
    results.map(({ error }) => error?.code),
    ["ContextOverflow", undefined, "Aborted", "InvalidArgument"],
  );
  assert.ok(results.every(({ error }) => error === undefined || TokenmillError.isInstance(error)));
  assert.equal(results[2].error.cause.message, "not this one");
  await assert.rejects(gather(model.generateMany(["good", long], { maxTokens: 1, stopOnError: true })), {
    code: "ContextOverflow",
  });
});

test("leaving the loop frees all pages and closes the source before it goes on", async () => {
  let left = false;
  async function* endlessly() {
    try {
      for (;;) yield "Hello";
    } finally {
      left = true;
    }
  }
  const before = model.stats();
  let read = 0;
  for await (const { completion } of model.generateMany(endlessly(), {
    ...endless,
    maxTokens: 20,
    concurrency: 8,
  })) {
    assert.equal(completion.tokens.length, 20);
    if (++read === 11) break;
  }
  assert.ok(left);
  const { pages, running, queued, paused, finished, aborted } = model.stats();
  assert.deepEqual([pages.used, running, queued, paused], [0, 0, 0, 0]);
  const ended = finished + aborted - before.finished - before.aborted;
  assert.ok(ended >= 11 && ended <= 11 + 4 * 8, `${ended} were started`);
});

test("dispose ends the batch with Disposed after what was done", async () => {
  const own = await loadModel(path, { contextLength: 128 });
  const controller = new AbortController();
  const batch = own.generateMany(
    (function* () {
      for (;;) yield "Hello";
    })(),
    { ...endless, maxTokens: 10, concurrency: 4, signal: controller.signal },
  );
  assert.equal((await batch.next()).value.completion.tokens.length, 10);
  await own.dispose();
  await assert.rejects(gather(batch), { code: "Disposed" });
  assert.throws(() => own.generateMany([]), { code: "Disposed" });
});

test("dispose ends a batch whose source never answers again, and every request with it", async () => {
  const own = await loadModel(path, { contextLength: 128 });
  let left = 0;
  const silent = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => undefined),
      return: async () => {
        left += 1;
        assert.throws(() => own.stats(), { code: "Disposed" }, "it is disposed of for everybody");
      },
    }),
  };
  const waiting = assert.rejects(gather(own.generateMany(silent)), { code: "Disposed" });
  const unread = own.generateMany(silent);
  await own.dispose();
  await waiting;
  assert.equal(left, 1);
  await assert.rejects(unread.next(), { code: "Disposed" });
  assert.equal(left, 2);
});

test("a run that was cut off goes on where it was, by the ids that are done", async () => {
  const inputs = Array.from({ length: 60 }, (_, i) => ({ id: `item ${i}`, prompt: `prompt ${i}` }));
  const options = { ...endless, maxTokens: 6, order: "completion" };
  const done = new Map();
  for await (const { id, completion } of model.generateMany(inputs, options)) {
    done.set(id, completion.text);
    if (done.size === 23) break;
  }
  for await (const { id, completion } of model.generateMany(inputs, {
    ...options,
    skip: new Set(done.keys()),
  })) {
    assert.ok(!done.has(id), `${id} is generated once`);
    done.set(id, completion.text);
  }
  const whole = await gather(model.generateMany(inputs, { ...options, order: "input" }));
  assert.deepEqual([...done].sort(), whole.map(({ id, completion }) => [id, completion.text]).sort());
});

const requests = process.env.TOKENMILL_SOAK ? 10_000 : 600;

test(`${requests} requests on 64 pages: preempted all the time, each gives what it gives alone`, async () => {
  const small = await loadWithPages(path, 64, { contextLength: 256 });
  assert.equal(small.stats().pages.maximum, 64);
  let seed = 11;
  const random = (below) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  // So few different requests that each can run alone first, in an order and at places that vary.
  const kinds = Array.from({ length: 97 }, (_, i) => ({
    prompt: `Item ${i}: ${"grain ".repeat(random(12))}`,
    options: { maxTokens: 20 + random(60), ...(i % 3 === 0 ? { temperature: 1, seed: i } : {}) },
  }));
  const alone = [];
  for (const { prompt, options } of kinds)
    alone.push(await model.generate(prompt, { ...endless, ...options }));
  const order = Array.from({ length: requests }, () => random(kinds.length));
  function* inputs() {
    for (const kind of order) yield kinds[kind];
  }
  let at = 0;
  let usedMost = 0;
  for await (const { index, completion, error } of small.generateMany(inputs(), endless)) {
    assert.equal(error, undefined);
    assert.equal(index, at++);
    const expected = alone[order[index]];
    assert.deepEqual(
      [completion.tokens, completion.text],
      [expected.tokens, expected.text],
      `request ${index}`,
    );
    const { used, maximum } = small.stats().pages;
    usedMost = Math.max(usedMost, used);
    assert.ok(used <= maximum && maximum === 64);
  }
  assert.equal(at, requests);
  await idle(small);
  const { preempted, finished, failed, aborted, pages } = small.stats();
  assert.deepEqual([finished, failed, aborted], [requests, 0, 0]);
  assert.ok(preempted > requests / 20, `${preempted} preemptions`);
  assert.ok(usedMost > 48, `${usedMost} pages at most`);
  assert.deepEqual([pages.used, pages.maximum], [0, 64]);
  await small.dispose();
});
