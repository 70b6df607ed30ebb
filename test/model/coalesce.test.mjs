// Equal requests in flight share one generation, and nobody notices.
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { after, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { failure } from "../support/failure.mjs";
import { tinyModel, until } from "../support/models.mjs";
import { loadWithPages } from "../support/small-pool.mjs";

const model = await loadModel(tinyModel({ context: 8192 }), { prefixCache: false });
after(() => model.dispose());

const options = { coalesce: true, maxTokens: 300, ignoreEos: true, logprobs: 2 };

function essence({ text, tokens, finishReason, logprobs, usage }) {
  return { text, tokens, finishReason, logprobs, usage };
}

async function readAll(reply) {
  const parts = [];
  for await (const part of reply) parts.push(part);
  return {
    text: parts.map(({ text }) => text).join(""),
    tokens: parts.flatMap(({ tokens }) => tokens),
    logprobs: parts.flatMap(({ logprobs }) => logprobs ?? []),
  };
}

/** What the engine did for `work`. */
async function counted(work) {
  const before = model.stats();
  const result = await work();
  const { finished, aborted, completionTokens } = model.stats();
  return {
    result,
    finished: finished - before.finished,
    aborted: aborted - before.aborted,
    completionTokens: completionTokens - before.completionTokens,
  };
}

const alone = essence(await model.generate("a b c", { ...options, coalesce: false }));

test("equal requests are generated once, at whatever time they come", async () => {
  const { result, finished, completionTokens } = await counted(async () => {
    const first = model.generate("a b c", options);
    const iterator = first[Symbol.asyncIterator]();
    for (let i = 0; i < 20; i++) await iterator.next();
    const late = [model.generate("a b c", options), model.generate("a b c", { ...options, seed: 7 })];
    return Promise.all([first, ...late]);
  });
  for (const completion of result) assert.deepEqual(essence(completion), alone);
  assert.equal(result[2].seed, 7);
  assert.equal(finished, 1);
  assert.equal(completionTokens, options.maxTokens);
});

test("each reader has every part, in its own time", async () => {
  const slow = model.generate("a b c", options);
  const fast = model.generate("a b c", options);
  assert.deepEqual(essence(await fast), alone);
  const { text, tokens, logprobs } = await readAll(slow);
  assert.deepEqual(
    { text, tokens, logprobs },
    { text: alone.text, tokens: alone.tokens, logprobs: alone.logprobs },
  );
  assert.deepEqual(essence(await slow), alone);
});

test("while nobody reads nothing is generated beyond what may wait", async () => {
  const replies = [model.generate("a b c", options), model.generate("a b c", options)];
  await until(() => model.stats().paused === 1);
  assert.equal(model.stats().running, 0);
  for (const completion of await Promise.all(replies)) assert.deepEqual(essence(completion), alone);
});

test("whoever leaves, the others go on; with the last the generation ends", async () => {
  for (const leaver of [0, 1, 2]) {
    const replies = Array.from({ length: 3 }, () => model.generate("a b c", options));
    await replies[leaver][Symbol.asyncIterator]().next();
    replies[leaver].cancel();
    const left = await replies[leaver];
    assert.equal(left.finishReason, "aborted");
    assert.deepEqual(left.tokens, alone.tokens.slice(0, left.tokens.length));
    assert.equal(left.usage.promptTokens, alone.usage.promptTokens);
    for (const [i, reply] of replies.entries()) {
      if (i !== leaver) assert.deepEqual(essence(await reply), alone);
    }
  }
  const { result, finished, aborted } = await counted(async () => {
    const replies = Array.from({ length: 3 }, () => model.generate("a b c", options));
    await replies[1][Symbol.asyncIterator]().next();
    for (const reply of replies) reply.cancel();
    return Promise.all(replies);
  });
  for (const { finishReason } of result) assert.equal(finishReason, "aborted");
  assert.deepEqual({ finished, aborted }, { finished: 0, aborted: 1 });
  assert.equal(model.stats().pages.used, 0);
  assert.deepEqual(essence(await model.generate("a b c", options)), alone, "nobody joins what was left");
});

test("a reply whose generation has ended can still be left", async () => {
  const slow = model.generate("a b c", options);
  await model.generate("a b c", options);
  const iterator = slow[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.return();
  assert.equal((await slow).finishReason, "aborted");
});

test("signals and failures are each reply's own", async () => {
  const controller = new AbortController();
  const aborted = model.generate("a b c", { ...options, signal: controller.signal });
  const other = model.generate("a b c", options);
  await aborted[Symbol.asyncIterator]().next();
  controller.abort(new Error("enough"));
  const error = await failure(aborted.then());
  assert.equal(error.code, "Aborted");
  assert.equal(error.cause.message, "enough");
  assert.ok(error.partial.tokens.length > 0);
  assert.deepEqual(essence(await other), alone);
  const long = Array.from({ length: 9000 }, () => 1);
  for (const reply of [model.generate(long, options), model.generate(long, options)])
    assert.equal((await failure(reply.then())).code, "ContextOverflow");
});

test("only what must be equal is shared", async () => {
  const variants = [
    {},
    { temperature: 0.7, seed: 1 },
    { temperature: 0.7, seed: 1 },
    { maxTokens: 299 },
    { stop: ["zzz"] },
    { logprobs: 3 },
    { cacheSalt: "x" },
    { tenant: "x" },
    { priority: 1 },
    { deadline: 60_000 },
    { deadline: 60_000 },
    { coalesce: false },
  ];
  const { finished } = await counted(() =>
    Promise.all(variants.map((variant) => model.generate("a b c", { ...options, ...variant }))),
  );
  assert.equal(finished, variants.length);
});

test("dispose ends all of them", async () => {
  const own = await loadModel(tinyModel({ context: 8192 }));
  const replies = Array.from({ length: 3 }, () => own.generate("a b c", { ...options, maxTokens: 8000 }));
  const ends = Promise.all(replies.map((reply) => failure(reply.then())));
  await own.dispose();
  for (const { code } of await ends) assert.equal(code, "Disposed");
});

test("requests that share a generation are each followed once, what happens to it once for all", async () => {
  const small = await loadWithPages(tinyModel(), 16, { contextLength: 256 });
  const messages = [];
  const names = ["queued", "prefill", "first-token", "preempted", "finished"].map(
    (name) => `tokenmill:request:${name}`,
  );
  const listeners = [...names, "tokenmill:cache:evicted"].map((name) => [
    name,
    (message) => messages.push({ name: name.split(":").at(-1), ...message }),
  ]);
  for (const [name, listener] of listeners) subscribe(name, listener);
  const own = { coalesce: true, ignoreEos: true, maxTokens: 120 };
  const leaving = new AbortController();
  const replies = Array.from({ length: 24 }, (_, i) =>
    small.generate(`${i % 8}`, i < 8 ? { ...own, signal: leaving.signal } : own),
  );
  await until(() => messages.some(({ name }) => name === "preempted"), "a preemption");
  leaving.abort(); // the owners go: others are told what happens from now on
  await Promise.allSettled(replies);
  for (const [name, listener] of listeners) unsubscribe(name, listener);
  const { preempted, prefix, finished } = small.stats();
  const of = (stage) => messages.filter(({ name }) => name === stage);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  assert.ok(finished === 8 && preempted > 0 && prefix.evictedPages > 0);
  assert.equal(of("preempted").length, preempted);
  assert.equal(sum(of("evicted").map(({ pages: evicted }) => evicted)), prefix.evictedPages);
  const ids = of("queued").map(({ request }) => request);
  assert.equal(new Set(ids).size, 24);
  const left = new Set(of("finished").flatMap(({ request, error }) => (error ? [request] : [])));
  assert.equal(left.size, 8);
  for (const stage of ["prefill", "finished"])
    assert.deepEqual(
      of(stage)
        .map(({ request }) => request)
        .filter((id) => stage === "finished" || !left.has(id))
        .sort((a, b) => a - b),
      ids.filter((id) => stage === "finished" || !left.has(id)),
    );
  for (const { timings, durationMs, usage } of of("finished")) {
    assert.ok(timings.queueMs > 0 && timings.queueMs <= durationMs);
    assert.equal(timings.ttftMs > 0, usage.completionTokens > 0);
    assert.ok(timings.ttftMs <= durationMs);
  }
  await small.dispose();
});
