// generateMany's window, order and ends, over a model whose replies the test finishes by hand.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

const require = createRequire(import.meta.url);
const { Batch } = require("../../../dist/batch/batch.js");
const { RecentIds } = require("../../../dist/batch/recent-ids.js");
const { TokenmillError } = require("../../../dist/errors.js");

/** Replies that end when the test says so; a cancelled one completes as aborted. */
class FakeModel {
  #disposal = new AbortController();
  disposal = this.#disposal.signal;
  open = new Map();
  cancelled = [];
  started = [];
  most = 0;

  generate(prompt, options) {
    let settle;
    const promise = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    const reply = {
      // biome-ignore lint/suspicious/noThenProperty: replies are promises
      then: (...callbacks) => promise.then(...callbacks),
      cancel: () => {
        if (!this.open.has(prompt)) return;
        this.cancelled.push(prompt);
        this.finish(prompt, "aborted");
      },
    };
    this.open.set(prompt, settle);
    this.started.push([prompt, options]);
    this.most = Math.max(this.most, this.open.size);
    return reply;
  }

  finish(prompt, finishReason = "stop") {
    const usage = { promptTokens: 2, cachedTokens: 0, completionTokens: 3 };
    this.#end(prompt).resolve({ text: `${prompt}!`, finishReason, usage });
  }

  /** As a model does: whatever runs ends as well. */
  dispose() {
    this.#disposal.abort(new TokenmillError("Disposed", "the model was disposed"));
    for (const prompt of [...this.open.keys()]) this.fail(prompt, "Disposed");
  }

  fail(prompt, code) {
    this.#end(prompt).reject(new TokenmillError(code, `${prompt} failed`));
  }

  #end(prompt) {
    const settle = this.open.get(prompt);
    this.open.delete(prompt);
    return settle;
  }
}

/** An endless or finite source that counts what was taken and notes how it was left. */
function source(length = Number.POSITIVE_INFINITY, make = (i) => `p${i}`) {
  const log = { taken: 0, left: 0 };
  async function* items() {
    try {
      for (let i = 0; i < length; ++i) {
        log.taken += 1;
        yield make(i);
      }
    } finally {
      log.left += 1;
    }
  }
  return { items: items(), log };
}

const settled = async () => {
  for (let i = 0; i < 20; ++i) await turn();
};

test("nothing is taken before a result is asked for; then no more than the window", async () => {
  const model = new FakeModel();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 2 });
  await settled();
  assert.equal(log.taken, 0);
  const first = batch.next();
  await settled();
  assert.deepEqual([log.taken, model.open.size], [2, 2]);
  // Behind a slow first item the window fills and stops.
  for (let i = 1; i < 50; ++i) {
    if (model.open.has(`p${i}`)) model.finish(`p${i}`);
    await settled();
  }
  assert.equal(log.taken, 8, "four times the concurrency");
  assert.deepEqual([...model.open.keys()], ["p0"]);
  model.finish("p0");
  assert.deepEqual(await first, {
    done: false,
    value: { id: "0", index: 0, completion: (await first).value.completion },
  });
  for (let i = 1; i < 8; ++i) assert.equal((await batch.next()).value.completion.text, `p${i}!`);
  await batch.return();
  assert.deepEqual([log.left, model.open.size, model.most], [1, 0, 2]);
});

test("a reader that stops also stops completion order within the window", async () => {
  const model = new FakeModel();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 3, order: "completion" });
  const first = batch.next();
  for (let round = 0; round < 40; ++round) {
    await settled();
    for (const prompt of [...model.open.keys()].reverse()) model.finish(prompt);
  }
  assert.equal((await first).value.completion.text, "p2!", "as they ended");
  await settled();
  assert.deepEqual([log.taken, model.most], [13, 3], "twelve wait, one was read");
  const texts = [];
  for (let i = 0; i < 12; ++i) texts.push((await batch.next()).value.completion.text);
  assert.equal(new Set([...texts, "p2!"]).size, 13);
  await batch.return();
});

for (const order of ["input", "completion"]) {
  test(`nothing is lost or repeated, ids and indices belong together, in ${order} order`, async () => {
    const model = new FakeModel();
    const progress = [];
    const inputs = Array.from({ length: 700 }, (_, i) =>
      i % 2 ? { id: `id${i}`, prompt: `p${i}` } : `p${i}`,
    );
    const batch = new Batch(model, inputs, {
      order,
      concurrency: 7,
      maxTokens: 9,
      onProgress: (state) => progress.push(state),
    });
    const finishing = (async () => {
      let seed = 1;
      while (progress.length < 700) {
        await turn();
        seed = (seed * 48271) % 2147483647;
        const prompts = [...model.open.keys()];
        const prompt = prompts[seed % prompts.length];
        if (prompt !== undefined) seed % 5 ? model.finish(prompt) : model.fail(prompt, "ContextOverflow");
      }
    })();
    const results = [];
    for await (const result of batch) results.push(result);
    await finishing;
    const indices = results.map(({ index }) => index);
    if (order === "completion") indices.sort((a, b) => a - b);
    assert.deepEqual(
      indices,
      inputs.map((_, i) => i),
    );
    for (const { id, index, completion, error } of results) {
      assert.equal(id, index % 2 ? `id${index}` : String(index));
      assert.equal(
        completion ? completion.text : error.message,
        completion ? `p${index}!` : `p${index} failed`,
      );
    }
    const failed = results.filter(({ error }) => error).length;
    assert.ok(failed > 50 && failed < 400);
    assert.deepEqual(progress.at(-1), {
      total: 700,
      skipped: 0,
      completed: 700 - failed,
      failed,
      promptTokens: 2 * (700 - failed),
      completionTokens: 3 * (700 - failed),
    });
    assert.ok(model.most <= 7);
    assert.ok(model.started.every(([, options]) => options.maxTokens === 9));
  });
}

test("an item's own options come before the batch's", async () => {
  const model = new FakeModel();
  const items = [{ prompt: "a", options: { maxTokens: 1 } }, "b"];
  const batch = new Batch(model, items, { maxTokens: 5, temperature: 1 });
  const done = batch.next();
  await settled();
  for (const prompt of ["a", "b"]) model.finish(prompt);
  await done;
  assert.deepEqual(model.started, [
    ["a", { maxTokens: 1, temperature: 1 }],
    ["b", { maxTokens: 5, temperature: 1 }],
  ]);
});

test("ids that are done are passed over, also a great many", async () => {
  const model = new FakeModel();
  const { items, log } = source(5000, (i) => ({ id: `id${i}`, prompt: `p${i}` }));
  const progress = [];
  const done = new Set(Array.from({ length: 4998 }, (_, i) => `id${i}`));
  const batch = new Batch(model, items, { skip: done, onProgress: (state) => progress.push(state) });
  const first = batch.next();
  await settled();
  while (log.left === 0) await turn();
  assert.deepEqual([...model.open.keys()], ["p4998", "p4999"]);
  for (const prompt of model.open.keys()) model.finish(prompt);
  assert.equal((await first).value.index, 4998);
  assert.equal((await batch.next()).value.id, "id4999");
  assert.equal((await batch.next()).done, true);
  assert.deepEqual([progress.at(-1).skipped, progress.at(-1).completed], [4998, 2]);
  const called = [];
  const asked = new Batch(model, ["x", "y"], { skip: async (...question) => called.push(question) > 0 });
  assert.equal((await asked.next()).done, true);
  assert.deepEqual(called, [
    ["0", 0],
    ["1", 1],
  ]);
});

test("an id that comes twice is refused as an item, also against a default id", async () => {
  const model = new FakeModel();
  const inputs = [{ id: "a", prompt: "1" }, { id: "2", prompt: "2" }, "3", { id: "a", prompt: "4" }];
  const batch = new Batch(model, inputs, { order: "completion", skip: new Set(["a"]) });
  const results = [];
  const reading = (async () => {
    for await (const result of batch) results.push(result);
  })();
  await settled();
  model.finish("2");
  await reading;
  const errors = results.filter(({ error }) => error);
  assert.deepEqual(
    errors.map(({ index, error }) => [index, error.code]),
    [
      [2, "InvalidArgument"],
      [3, "InvalidArgument"],
    ],
  );
  assert.match(errors[1].error.message, /^the id of item 3 is "a"; expected an id that no other item has$/);
});

test("ids are remembered as far back as promised, and no further", () => {
  const ids = new RecentIds(5000);
  for (let i = 0; i < 12_000; ++i) assert.ok(ids.add(`id${i}`), `id${i} is new`);
  for (let i = 7000; i < 12_000; ++i) assert.ok(!ids.add(`id${i}`), `id${i} is known`);
  assert.ok(ids.add("id0"), "forgotten");
});

test("items that make no sense fail by themselves", async () => {
  const model = new FakeModel();
  const both = { prompt: "a", messages: [] };
  const inputs = [
    7,
    null,
    {},
    both,
    { id: "", prompt: "a" },
    { prompt: "a", maxTokens: 3 },
    { prompt: "a", options: 1 },
  ];
  const results = [];
  for await (const result of new Batch(model, inputs, {})) results.push(result);
  assert.deepEqual(
    results.map(({ error }) => error.code),
    inputs.map(() => "InvalidArgument"),
  );
  assert.equal(model.started.length, 0);
});

test("wrong inputs and options are refused at the call", () => {
  for (const [inputs, options, message] of [
    ["text", {}, /^inputs is "text"/],
    [undefined, {}, /^inputs is undefined/],
    [[], { order: "random" }, /^order is "random"/],
    [[], { concurrency: 0 }, /^concurrency is 0; expected an integer from 1/],
    [[], { skip: ["a"] }, /^skip is an array; expected a Set/],
    [[], { onProgress: 1 }, /^onProgress is 1/],
    [[], { maxToken: 1 }, /'maxToken'/],
  ]) {
    assert.throws(() => new Batch(new FakeModel(), inputs, options), { code: "InvalidArgument", message });
  }
});

test("a source that throws rejects after all that was taken from it", async () => {
  const model = new FakeModel();
  async function* failing() {
    yield "a";
    yield "b";
    throw new RangeError("the source broke");
  }
  const batch = new Batch(model, failing(), {});
  const results = [batch.next(), batch.next(), batch.next()];
  await settled();
  model.finish("b");
  model.finish("a");
  assert.equal((await results[0]).value.completion.text, "a!");
  assert.equal((await results[1]).value.completion.text, "b!");
  await assert.rejects(results[2], { name: "RangeError", message: "the source broke" });
  assert.deepEqual(await batch.next(), { done: true, value: undefined });
});

test("return cancels what runs, closes the source and ends pending reads, once", async () => {
  const model = new FakeModel();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 3 });
  const pending = batch.next();
  await settled();
  await Promise.all([batch.return(), batch.return()]);
  assert.deepEqual(await pending, { done: true, value: undefined });
  assert.deepEqual(model.cancelled, ["p0", "p1", "p2"]);
  assert.deepEqual([log.left, log.taken], [1, 3]);
  assert.equal((await batch.next()).done, true);
});

test("a source that never answers does not hold up the end", async () => {
  let returned = 0;
  const silent = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => undefined),
      return: () => {
        returned += 1;
        return new Promise(() => undefined);
      },
    }),
  };
  const batch = new Batch(new FakeModel(), silent, {});
  const pending = batch.next();
  await settled();
  await batch.return();
  assert.equal((await pending).done, true);
  assert.equal(returned, 1);
});

/** A source that gives some items and then never answers again, and counts how often it was left. */
function silentAfter(...items) {
  const log = { asked: 0, left: 0 };
  const source = {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        const value = items[log.asked++];
        return value === undefined ? new Promise(() => undefined) : Promise.resolve({ done: false, value });
      },
      return: () => {
        log.left += 1;
        return new Promise(() => undefined);
      },
    }),
  };
  return { source, log };
}

test("a disposed model ends the batch at once, however long its source takes for the next item", async () => {
  const model = new FakeModel();
  const { source: silent, log } = silentAfter("a", "b");
  const batch = new Batch(model, silent, {});
  const reads = [batch.next(), batch.next(), batch.next()];
  await settled();
  for (const prompt of ["a", "b"]) model.finish(prompt);
  await settled();
  assert.deepEqual([log.asked, log.left], [3, 0]);
  model.dispose();
  assert.equal((await reads[0]).value.completion.text, "a!");
  assert.equal((await reads[1]).value.completion.text, "b!");
  await assert.rejects(reads[2], { code: "Disposed", message: "the model was disposed" });
  assert.equal(log.left, 1);
  assert.deepEqual(await batch.next(), { done: true, value: undefined });
});

test("a model that is disposed while nobody reads ends the batch at the next read, after what was done", async () => {
  const model = new FakeModel();
  const { source: silent, log } = silentAfter("a", "b");
  const batch = new Batch(model, silent, {});
  const first = batch.next();
  await settled();
  for (const prompt of ["a", "b"]) model.finish(prompt);
  await first;
  model.dispose();
  assert.equal((await batch.next()).value.completion.text, "b!");
  await assert.rejects(batch.next(), { code: "Disposed" });
  assert.equal(log.left, 1);
});

test("a batch on a model that was disposed before its first read asks its source for nothing", async () => {
  const model = new FakeModel();
  const { source: silent, log } = silentAfter("a");
  const batch = new Batch(model, silent, {});
  model.dispose();
  await assert.rejects(batch.next(), { code: "Disposed" });
  assert.deepEqual([log.asked, log.left, model.started.length], [0, 1, 0]);
});

test("what is complete is not spoiled by the model's end", async () => {
  const model = new FakeModel();
  const batch = new Batch(model, ["a", "b"], {});
  const first = batch.next();
  await settled();
  for (const prompt of ["a", "b"]) model.finish(prompt);
  await first;
  await settled();
  model.dispose();
  assert.equal((await batch.next()).value.completion.text, "b!");
  assert.equal((await batch.next()).done, true);
});

test("a model holds its batches only while somebody waits for a result", async () => {
  const model = new FakeModel();
  let listeners = 0;
  const { addEventListener, removeEventListener } = model.disposal;
  model.disposal.addEventListener = (...listener) => {
    listeners += 1;
    addEventListener.apply(model.disposal, listener);
  };
  model.disposal.removeEventListener = (...listener) => {
    listeners -= 1;
    removeEventListener.apply(model.disposal, listener);
  };
  const batch = new Batch(model, silentAfter("a").source, {});
  const first = batch.next();
  await settled();
  assert.equal(listeners, 1);
  model.finish("a");
  await first;
  assert.equal(listeners, 0, "nobody waits");
  const second = batch.next();
  assert.equal(listeners, 1);
  await batch.return();
  assert.equal((await second).done, true);
  assert.equal(listeners, 0, "it has ended");
});

test("the signal ends the batch after what was done, and cancels the rest", async () => {
  const model = new FakeModel();
  const controller = new AbortController();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 3, signal: controller.signal });
  const first = batch.next();
  await settled();
  model.finish("p2");
  model.finish("p0");
  await first;
  await settled();
  controller.abort(new Error("enough"));
  assert.equal((await batch.next()).value.completion.text, "p2!", "done, though p1 before it is not");
  await assert.rejects(
    batch.next(),
    (error) => error.name === "AbortError" && error.cause.message === "enough",
  );
  assert.deepEqual([model.open.size, log.left], [0, 1]);
  const late = new Batch(model, ["x"], { signal: controller.signal });
  await assert.rejects(late.next(), { code: "Aborted" });
});

test("stopOnError ends the batch with the item's error", async () => {
  const model = new FakeModel();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 3, stopOnError: true });
  const first = batch.next();
  await settled();
  model.finish("p0");
  await first;
  model.fail("p1", "Internal");
  await assert.rejects(batch.next(), { code: "Internal", message: "p1 failed" });
  assert.equal(log.left, 1);
  assert.equal(model.open.size, 0);
});

test("an item whose adapter or draft is gone fails alone; a model that is gone ends the batch", async () => {
  const model = new FakeModel();
  const { items, log } = source();
  const batch = new Batch(model, items, { concurrency: 3 });
  const first = batch.next();
  await settled();
  model.fail("p0", "Disposed");
  assert.equal((await first).value.error.code, "Disposed");
  const second = batch.next();
  await settled();
  model.finish("p1");
  assert.equal((await second).value.completion.text, "p1!");
  model.dispose();
  await assert.rejects(batch.next(), { code: "Disposed", message: "the model was disposed" });
  assert.equal(log.left, 1);
  assert.equal(model.open.size, 0);
});

test("what a progress callback throws ends the batch after the item's result", async () => {
  const model = new FakeModel();
  const batch = new Batch(model, ["a", "b"], {
    onProgress: () => {
      throw new RangeError("no progress");
    },
  });
  const first = batch.next();
  await settled();
  model.finish("a");
  assert.equal((await first).value.completion.text, "a!");
  await assert.rejects(batch.next(), RangeError);
  assert.deepEqual(model.cancelled, ["b"]);
});

test("a request that the queue has no room for is tried again", async () => {
  const model = new FakeModel();
  const batch = new Batch(model, ["a"], {});
  const first = batch.next();
  await settled();
  model.fail("a", "Overloaded");
  while (model.started.length < 2) await turn();
  model.finish("a");
  assert.equal((await first).value.completion.text, "a!");
});
