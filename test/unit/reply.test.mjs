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
