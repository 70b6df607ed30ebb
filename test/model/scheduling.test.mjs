// Priorities, tenants, deadlines and the bounded queue, as callers see them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { failure } from "../support/failure.mjs";
import { tinyModel, until } from "../support/models.mjs";

const path = tinyModel();
const longPath = tinyModel({ context: 8192 });
const endless = { ignoreEos: true };

/** A model that computes one row at a time: whoever decodes keeps all others waiting. */
async function narrowModel(options) {
  const model = await loadModel(longPath, { maxBatchTokens: 1, ...options });
  const blocker = model.generate("a", endless);
  const whole = blocker.then();
  await blocker[Symbol.asyncIterator]().next();
  const unblock = async () => {
    blocker.cancel();
    assert.equal((await whole).finishReason, "aborted", "it has kept the others waiting until now");
  };
  return { model, unblock };
}

test("a higher priority is answered first, within one the older request", async () => {
  const { model, unblock } = await narrowModel();
  const finished = [];
  const replies = [0, 5, -3, 5, 0].map(async (priority, i) => {
    await model.generate("abc", { maxTokens: 5, priority, ...endless });
    finished.push(i);
  });
  await until(() => model.stats().queued === replies.length);
  await unblock();
  await Promise.all(replies);
  assert.deepEqual(finished, [1, 3, 0, 4, 2]);
  await model.dispose();
});

test("a tenant with one request does not wait for another's many", async () => {
  const { model, unblock } = await narrowModel();
  const finished = [];
  const replies = ["crowd", "crowd", "crowd", "crowd", "crowd", "single"].map(async (tenant) => {
    await model.generate("abc", { maxTokens: 5, tenant, ...endless });
    finished.push(tenant);
  });
  await until(() => model.stats().queued === replies.length);
  await unblock();
  await Promise.all(replies);
  assert.ok(finished.indexOf("single") <= 1, finished.join());
  await model.dispose();
});

test("a full queue refuses with the numbers and recovers", async () => {
  const { model, unblock } = await narrowModel({ maxQueue: 2 });
  const short = { maxTokens: 3, ...endless };
  const replies = Array.from({ length: 3 }, () => model.generate("abc", short));
  const error = await failure(replies[2].then());
  assert.equal(error.code, "Overloaded");
  assert.match(error.message, /^2 requests wait already.*maxQueue/);
  assert.deepEqual(error.partial.tokens, []);
  assert.equal((await failure(model.score("a b"))).code, "Overloaded");
  await unblock();
  for (const reply of replies.slice(0, 2)) assert.equal((await reply).tokens.length, 3);
  assert.equal((await model.generate("abc", short)).tokens.length, 3);
  await model.dispose();
});

test("a deadline ends a reply that waits for its reader, while nothing else runs", async () => {
  const model = await loadModel(path);
  const whole = await model.generate("slow", { maxTokens: 200, ...endless });
  const reply = model.generate("slow", { maxTokens: 200, deadline: 400, ...endless });
  const iterator = reply[Symbol.asyncIterator]();
  await iterator.next();
  await until(() => model.stats().paused === 1);
  const before = process.cpuUsage();
  await until(() => model.stats().paused === 0, "the deadline");
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 200_000, `waiting for it took ${user + system} µs of CPU`);
  assert.equal(model.stats().pages.used, 0);
  const texts = [];
  const error = await failure(
    (async () => {
      for (let part = await iterator.next(); !part.done; part = await iterator.next()) texts.push(part.value);
    })(),
  );
  assert.equal(error.code, "DeadlineExceeded");
  assert.equal(error.name, "TokenmillError");
  assert.match(error.message, /waiting for its reader/);
  assert.ok(texts.length > 50, "what came before can still be read");
  const { tokens, text, finishReason, usage } = error.partial;
  assert.ok(tokens.length >= 64 && tokens.length < 200);
  assert.deepEqual(tokens, whole.tokens.slice(0, tokens.length));
  assert.ok(text.length > 0 && whole.text.startsWith(text.replace(/\uFFFD+$/, "")));
  assert.equal(finishReason, "aborted");
  assert.equal(usage.completionTokens, tokens.length);
  await model.dispose();
});

test("a deadline ends what waits in the queue, and what has just been called", async () => {
  const { model, unblock } = await narrowModel();
  const waiting = await failure(model.generate("abc", { deadline: 0.5 }).then());
  assert.equal(waiting.code, "DeadlineExceeded");
  assert.deepEqual(waiting.partial.tokens, []);
  const score = await failure(model.score("a b c", { deadline: 0, priority: 3, tenant: "x" }));
  assert.equal(score.code, "DeadlineExceeded");
  const chat = await failure(model.chat([{ role: "user", content: "x" }], { deadline: 0 }).then());
  assert.equal(chat.code, "DeadlineExceeded");
  await unblock();
  const inTime = await model.generate("abc", { maxTokens: 3, deadline: 60_000, ...endless });
  assert.equal(inTime.tokens.length, 3);
  await model.dispose();
});

test("a deadline ends a chat whose template is being rendered", async () => {
  const { string } = await import("../unit/gguf/gguf-writer.mjs");
  const slow = "{% for a in range(20000) %}{% for b in range(20000) %}{% endfor %}{% endfor %}";
  const model = await loadModel(tinyModel({ metadata: { "tokenizer.chat_template": string(slow) } }));
  const error = await failure(model.chat([{ role: "user", content: "x" }], { deadline: 100 }).then());
  assert.equal(error.code, "DeadlineExceeded");
  assert.match(error.message, /100 ms .* template/);
  assert.deepEqual(error.partial.tokens, []);
  await model.dispose();
});

for (const options of [{ targetTpot: 0 }, { targetTpot: "5" }, { maxQueue: 0 }, { maxQueue: 1.5 }]) {
  test(`loadModel refuses ${JSON.stringify(options)} by name`, async () => {
    const error = await failure(loadModel(path, options));
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, new RegExp(Object.keys(options)[0]));
  });
}
