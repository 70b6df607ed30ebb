// What can be watched: the channels' messages, their order and their numbers, and the histograms of stats().
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { createRequire } from "node:module";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { tinyModel, until } from "../support/models.mjs";
import { loadWithPages } from "../support/small-pool.mjs";

const path = tinyModel();
const model = await loadModel(path);
const endless = { ignoreEos: true };

const names = ["queued", "prefill", "first-token", "preempted", "finished"].map(
  (name) => `tokenmill:request:${name}`,
);

/** Runs `action` with a subscriber to these channels and gives what they published, in order. */
async function listen(channels, action) {
  const messages = [];
  const listeners = channels.map((name) => [name, (message) => messages.push({ name, ...message })]);
  for (const [name, listener] of listeners) subscribe(name, listener);
  try {
    await action(messages);
  } finally {
    for (const [name, listener] of listeners) unsubscribe(name, listener);
  }
  return messages;
}

const stages = (messages) => messages.map(({ name }) => name.replace("tokenmill:request:", ""));

test("a request's messages come in order, with its id, operation, model and numbers", async () => {
  const replies = [];
  const messages = await listen(names, async (so) => {
    for (const make of [
      () => model.generate("Hello", { ...endless, maxTokens: 5 }),
      () => model.chat([{ role: "user", content: "Hello" }], { ...endless, maxTokens: 2 }),
      () => model.score("Hello there"),
    ]) {
      const before = so.length;
      const running = make();
      assert.equal(so.length, before + 1, "queued is published in the call");
      replies.push(await running);
    }
  });
  assert.deepEqual(stages(messages), [
    ...["queued", "prefill", "first-token", "finished"],
    ...["queued", "prefill", "first-token", "finished"],
    ...["queued", "prefill", "finished"],
  ]);
  const ids = messages.map(({ request }) => request);
  assert.equal(new Set(ids).size, 3);
  assert.deepEqual(
    ids,
    ids.toSorted((a, b) => a - b),
  );
  assert.ok(messages.every((message) => message.model === model.info));
  assert.deepEqual(
    messages.filter(({ name }) => name.endsWith("queued")).map(({ operation }) => operation),
    ["generate", "chat", "score"],
  );
  const finished = messages.filter(({ name }) => name.endsWith("finished"));
  for (const [i, { usage, timings, finishReason, error, durationMs }] of finished.entries()) {
    assert.equal(error, undefined);
    if (i < 2) {
      assert.deepEqual([usage, timings, finishReason], [replies[i].usage, replies[i].timings, "length"]);
      assert.ok(durationMs >= timings.ttftMs && timings.ttftMs > 0);
    } else {
      assert.equal(usage.promptTokens, replies[i].tokens.length);
    }
  }
  const prefill = messages.find(({ name }) => name.endsWith("prefill"));
  assert.ok(prefill.queueMs >= 0 && prefill.queueMs <= finished[0].timings.queueMs);
  const first = messages.find(({ name }) => name.endsWith("first-token"));
  assert.ok(first.ttftMs > 0 && first.ttftMs <= finished[0].durationMs);
});

test("every way to end is told once, also that of what never reached the engine", async () => {
  const aborted = AbortSignal.abort(new Error("before"));
  const messages = await listen(names, async () => {
    await assert.rejects(model.generate("x".repeat(100_000)).then(), { code: "ContextOverflow" });
    await assert.rejects(model.generate("Hello", { signal: aborted }).then(), { code: "Aborted" });
    await assert.rejects(model.chat([{ role: "user", content: 7 }]).then(), { code: "InvalidArgument" });
    await assert.rejects(model.score("x".repeat(100_000)), { code: "ContextOverflow" });
    const cancelled = model.generate("Hello", endless);
    cancelled.cancel();
    await cancelled;
    // Refused for its arguments: there was no request.
    await assert.rejects(model.generate("Hello", { maxTokens: -1 }).then(), { code: "InvalidArgument" });
  });
  const of = (stage) => messages.filter(({ name }) => name.endsWith(stage));
  assert.deepEqual(
    of("finished").map(({ request }) => request),
    of("queued").map(({ request }) => request),
  );
  assert.deepEqual(
    of("finished").map(({ error, finishReason }) => error?.code ?? finishReason),
    ["ContextOverflow", "Aborted", "InvalidArgument", "ContextOverflow", "aborted"],
  );
});

test("a subscriber to some channels gets those alone; one who comes late gets nothing of what runs", async () => {
  const some = await listen([names[1]], () => model.generate("Hello", { ...endless, maxTokens: 3 }).then());
  assert.deepEqual(stages(some), ["prefill"]);
  const reply = model.generate("Hello", { ...endless, maxTokens: 30 });
  assert.deepEqual(await listen(names, () => reply.then()), []);
});

test("preemptions and evictions are told of as often as stats() counts them, with what they cost", async () => {
  const small = await loadWithPages(path, 16, { contextLength: 256 });
  const messages = await listen([names[3], "tokenmill:cache:evicted"], () =>
    Promise.all(Array.from({ length: 8 }, (_, i) => small.generate(`${i}`, { ...endless, maxTokens: 120 }))),
  );
  const { preempted, prefix } = small.stats();
  assert.ok(preempted > 0 && prefix.evictedPages > 0);
  const [evictions, preemptions] = [true, false].map((evicted) =>
    messages.filter(({ name }) => name.endsWith("evicted") === evicted),
  );
  assert.equal(preemptions.length, preempted);
  assert.ok(preemptions.every(({ tokens }) => tokens >= 0 && tokens <= 256));
  assert.ok(preemptions.some(({ tokens }) => tokens > 16));
  assert.equal(
    evictions.reduce((sum, { pages: evicted }) => sum + evicted, 0),
    prefix.evictedPages,
  );
  await small.dispose();
});

test("evictions name the model, and no request", async () => {
  const { RequestTrace } = createRequire(import.meta.url)("../../dist/diagnostics.js");
  const messages = await listen(["tokenmill:cache:evicted"], () => {
    const trace = new RequestTrace({ request: 1, operation: "generate", model: model.info });
    assert.ok(trace.wantsNotices);
    trace.accept({ id: 1, text: "", tokens: [], notice: "evicted", noticeValue: 3 });
  });
  assert.deepEqual(messages, [{ name: "tokenmill:cache:evicted", model: model.info, pages: 3 }]);
});

const total = ({ counts }) => counts.reduce((sum, count) => sum + count, 0);

test("histograms count each request, reply and step once, in the right bucket", async () => {
  const own = await loadModel(path, { contextLength: 200 });
  const replies = await Promise.all([
    ...Array.from({ length: 6 }, (_, i) => own.generate(`${i}`, { ...endless, maxTokens: 1 + i })),
    own.score("The mill"),
  ]);
  await until(() => own.stats().running === 0);
  const { histograms, steps, finished } = own.stats();
  for (const { bounds, counts } of Object.values(histograms)) {
    assert.equal(counts.length, bounds.length + 1);
    assert.deepEqual(
      bounds,
      bounds.toSorted((a, b) => a - b),
    );
  }
  const { queueMs, ttftMs, tpotMs, stepRows, stepSequences, pagesUsed } = histograms;
  assert.deepEqual([queueMs, ttftMs, tpotMs].map(total), [finished, 6, 5]);
  assert.deepEqual([stepRows, stepSequences, pagesUsed].map(total), [steps, steps, steps]);
  // Each token of a prompt is a row once, and each but the last of a reply; a score's last is none.
  const usages = replies.slice(0, 6).map(({ usage }) => usage.promptTokens + usage.completionTokens - 1);
  assert.equal(stepRows.sum, usages.reduce((sum, rows) => sum + rows) + replies[6].tokens.length - 1);
  assert.ok(stepSequences.sum >= steps && stepSequences.sum <= 7 * steps);
  const sums = replies.slice(0, 6).reduce((sum, { timings }) => sum + timings.ttftMs, 0);
  assert.ok(ttftMs.sum > 0 && ttftMs.sum <= sums, "the engine's time is within the caller's");
  await own.dispose();
});
