// A reply and its memory, without an engine.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { collectGarbage, until } from "../support/models.mjs";

const require = createRequire(import.meta.url);
const { Reply } = require("../../dist/reply.js");
const { ReplyState } = require("../../dist/reply-state.js");

const outcome = {
  reason: "stop",
  promptTokens: 1,
  cachedTokens: 0,
  completionTokens: 1,
  queueMs: 2,
  ttftMs: 5,
  prefillTokensPerSecond: 0,
  decodeTokensPerSecond: 0,
};

/** A reply's memory, and what it asked of its model. */
function startState() {
  const calls = [];
  const state = new ReplyState(1, 7, false, {
    cancel: () => calls.push("cancel"),
    addCredits: () => {},
    setRunnable: () => {},
    ended: () => calls.push("ended"),
  });
  return { state, calls };
}

test("a reply of which only the next part is awaited is not abandoned", async () => {
  const { state, calls } = startState();
  state.markSubmitted();
  const next = (() => new Reply(state)[Symbol.asyncIterator]().next())();
  for (let round = 0; round < 5; round++) {
    collectGarbage();
    await sleep(5);
  }
  assert.deepEqual(calls, []);
  state.accept({ id: 1, text: "a", tokens: [1] });
  assert.equal((await next).value.text, "a");
  await until(() => {
    collectGarbage();
    return calls.includes("cancel");
  }, "the reply's cancellation");
});

test("times count from the call, also those of a reply whose prompt takes time to make", async () => {
  const { state } = startState();
  await sleep(50);
  state.markSubmitted();
  state.accept({ id: 1, text: "a", tokens: [1], outcome });
  const { queueMs, ttftMs } = (await new Reply(state)).timings;
  assert.ok(queueMs > 45 && Math.abs(ttftMs - queueMs - 3) < 1e-6, `${queueMs}, ${ttftMs}`);
});

test("a reply without a token has no time to the first", async () => {
  const { state } = startState();
  await sleep(5);
  state.markSubmitted();
  state.accept({ id: 1, text: "", tokens: [], outcome: { ...outcome, ttftMs: 0 } });
  assert.equal((await new Reply(state)).timings.ttftMs, 0);
});
