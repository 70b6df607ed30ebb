// What each of the requests that share a generation is told of it, by a clock that the test sets.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { beforeEach, mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

const require = createRequire(import.meta.url);
const { SharedGenerations } = require("../../dist/shared-generations.js");

let clockMs = 0;
mock.method(performance, "now", () => clockMs);

let engine;
let shared;

/** An engine that remembers what it was asked and whose events the test makes. */
class FakeEngine {
  requests = [];
  evictions = [];
  cancelled = [];
  #receivers = new Map();
  #ids = 100;

  register(receiver) {
    this.#receivers.set(++this.#ids, receiver);
    return this.#ids;
  }
  release(id) {
    this.#receivers.delete(id);
  }
  submit(request) {
    this.requests.push(request);
  }
  cancel(id) {
    this.cancelled.push(id);
  }
  addCredits() {}
  async encodePrompt(pieces) {
    if (this.fails) throw new Error("no tokens");
    return pieces.flatMap(({ text }) => [...text]);
  }
  evicted(pages) {
    this.evictions.push(pages);
  }
  /** Has the only generation's request get an event at this time. */
  send(atMs, event) {
    clockMs = atMs;
    const [[id, receiver]] = this.#receivers;
    receiver.accept({ id, text: "", tokens: [], ...event });
  }
  notice(atMs, notice, noticeValue) {
    this.send(atMs, { notice, noticeValue });
  }
  part(atMs, ...tokens) {
    this.send(atMs, { text: "x".repeat(tokens.length), tokens });
  }
  end(atMs, outcome) {
    const timings = { queueMs: 0, ttftMs: 0, prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 };
    this.send(atMs, {
      outcome: {
        reason: "stop",
        promptTokens: 5,
        cachedTokens: 2,
        completionTokens: 0,
        ...timings,
        ...outcome,
      },
    });
  }
}

beforeEach(() => {
  engine = new FakeEngine();
  shared = new SharedGenerations(engine);
});

/** A request at this time; what it is given, and the summary of it. */
function join(id, atMs, { credits = 64, ...options } = {}) {
  clockMs = atMs;
  const events = [];
  shared.submit(
    { id, tokens: new Int32Array(5), credits, ...options },
    { accept: (event) => events.push(event) },
  );
  return {
    notices: () =>
      events.filter(({ notice }) => notice).map(({ notice, noticeValue }) => [notice, noticeValue]),
    tokens: () => events.flatMap(({ tokens }) => tokens),
    outcome: () => events.at(-1)?.outcome,
    ids: () => new Set(events.map((event) => event.id)),
  };
}

async function leave(id, atMs) {
  clockMs = atMs;
  shared.cancel(id);
  await turn();
}

test("each reader is told of its prefill once, and of the wait since its own call", async () => {
  const first = join(1, 1000);
  const early = join(2, 1030);
  engine.notice(1100, "prefill", 80);
  const late = join(3, 1200);
  await turn();
  assert.deepEqual(
    [first, early, late].map((reader) => reader.notices()),
    [[["prefill", 80]], [["prefill", 50]], [["prefill", 0]]],
  );
  assert.deepEqual([...first.ids(), ...early.ids(), ...late.ids()], [1, 2, 3]);
});

test("what the engine does to the generation is told once: to its owner, or to nobody's request", async () => {
  const [first, second, third] = [join(1, 0), join(2, 0), join(3, 0)];
  engine.notice(1, "prefill", 1);
  engine.notice(2, "preempted", 40);
  engine.notice(3, "evicted", 7);
  await leave(1, 4);
  engine.notice(5, "preempted", 50);
  const late = join(4, 6);
  await turn();
  assert.deepEqual(first.notices(), [
    ["prefill", 1],
    ["preempted", 40],
  ]);
  assert.deepEqual(second.notices(), [
    ["prefill", 1],
    ["preempted", 50],
  ]);
  for (const reader of [third, late])
    assert.deepEqual(
      reader.notices().map(([notice]) => notice),
      ["prefill"],
    );
  assert.deepEqual(engine.evictions, [7]);
});

test("the engine is always asked for notices, for some reader may want to know when it started", () => {
  join(1, 0);
  join(2, 0, { notices: true });
  assert.deepEqual(
    engine.requests.map(({ notices }) => notices),
    [true],
  );
});

test("only requests with one draft share, for a draft may fail them", () => {
  const [a, b] = [{}, {}];
  for (const [id, draftModel] of [a, a, b, undefined, undefined].entries())
    join(id, 0, draftModel ? { draftModel } : {});
  assert.deepEqual(
    engine.requests.map(({ draftModel }) => draftModel),
    [a, b, undefined],
  );
});

test("a reader that leaves early is told its own times and counts", async () => {
  const stays = join(1, 1000);
  const leaver = join(2, 1050);
  engine.notice(1100, "prefill", 90);
  engine.part(1200, 1);
  engine.part(1300, 2, 3);
  engine.part(1400, 4, 5);
  await leave(2, 1500);
  assert.deepEqual(leaver.outcome(), {
    reason: "aborted",
    promptTokens: 5,
    cachedTokens: 0,
    completionTokens: 5,
    queueMs: 40,
    ttftMs: 150,
    prefillTokensPerSecond: 0,
    decodeTokensPerSecond: 20, // four in 200 ms
  });
  assert.equal(stays.outcome(), undefined);
});

test("whoever leaves is told of the prompt's length, or of none where it cannot be counted", async () => {
  for (const [fails, expected] of [
    [false, 5],
    [true, 0],
  ]) {
    engine.fails = fails;
    const pieces = [{ text: fails ? "seven" : "seeds" }];
    const [id, other] = fails ? [3, 4] : [1, 2];
    const leaver = join(id, 0, { tokens: undefined, pieces });
    join(other, 0, { tokens: undefined, pieces });
    await leave(id, 1);
    assert.equal(leaver.outcome().promptTokens, expected);
  }
});

test("one that leaves before anything has run waited all the time", async () => {
  join(1, 1000);
  const leaver = join(2, 1050);
  await leave(2, 1075);
  const { queueMs, ttftMs, decodeTokensPerSecond, completionTokens } = leaver.outcome();
  assert.deepEqual([queueMs, ttftMs, decodeTokensPerSecond, completionTokens], [25, 0, 0, 0]);
});

test("a slow reader that leaves a generation that has ended is told what was cached", async () => {
  const slow = join(1, 0, { credits: 1 });
  join(2, 0);
  engine.notice(5, "prefill", 5);
  engine.part(10, 1);
  engine.part(20, 2);
  engine.end(30, { queueMs: 5, ttftMs: 10, prefillTokensPerSecond: 600, decodeTokensPerSecond: 100 });
  await leave(1, 40);
  const { cachedTokens, prefillTokensPerSecond, completionTokens, decodeTokensPerSecond } = slow.outcome();
  assert.deepEqual([cachedTokens, prefillTokensPerSecond], [2, 600]);
  assert.deepEqual([completionTokens, decodeTokensPerSecond], [1, 0], "of what it was given");
});

test("times of a whole reply count from each reader's call, also where its first token was there before", async () => {
  const first = join(1, 1000);
  const early = join(2, 1060);
  engine.notice(1050, "prefill", 40);
  engine.part(1100, 1);
  const late = join(3, 1500);
  clockMs = 1503; // the turn in which it is given what there is
  await turn();
  engine.end(1600, { queueMs: 40, ttftMs: 95, prefillTokensPerSecond: 50, decodeTokensPerSecond: 7 });
  const times = [first, early, late].map((reader) => {
    const { queueMs, ttftMs } = reader.outcome();
    return [queueMs, ttftMs];
  });
  assert.deepEqual(times, [
    [40, 95],
    [0, 35],
    [0, 3],
  ]);
});

test("of a generation that never had a token nobody has a time to the first one", async () => {
  const [first, late] = [join(1, 0), join(2, 50)];
  engine.end(60, { reason: "aborted", code: "ContextOverflow", message: "too long", queueMs: 60 });
  for (const [reader, queueMs] of [
    [first, 60],
    [late, 10],
  ]) {
    assert.equal(reader.outcome().code, "ContextOverflow");
    assert.deepEqual([reader.outcome().queueMs, reader.outcome().ttftMs], [queueMs, 0]);
  }
});
