import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { loadModel, TokenmillError } from "../../dist/index.mjs";
import { collect, collectGarbage, tinyModel, until } from "../support/models.mjs";

const path = tinyModel();
const model = await loadModel(path);
const endless = { ignoreEos: true };

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(TokenmillError.isInstance(error), String(error));
    return error;
  }
  assert.fail("expected a failure");
}

/** Waits until the engine holds no pages. */
const idle = () =>
  until(() => {
    const { queued, running, paused, pages } = model.stats();
    return queued + running + paused + pages.used === 0;
  }, "an idle engine");

test("the parts together are the completion", async () => {
  const reply = model.generate("Hello", { maxTokens: 40, ...endless, logprobs: 2 });
  const parts = await collect(reply);
  const completion = await reply;
  assert.equal(parts.map((part) => part.text).join(""), completion.text);
  assert.deepEqual(
    parts.flatMap((part) => part.tokens),
    completion.tokens,
  );
  assert.deepEqual(
    parts.flatMap((part) => part.logprobs ?? []),
    completion.logprobs,
  );
  assert.equal(completion.tokens.length, 40);
  assert.equal(completion.finishReason, "length");
  assert.equal(completion.usage.completionTokens, 40);
  assert.equal(completion.usage.promptTokens, model.tokenize("Hello").length);
  assert.ok(completion.timings.ttftMs > 0 && completion.timings.decodeTokensPerSecond > 0);
  assert.equal(await reply, completion, "awaiting again gives the same object");
});

test("a reply is generated once and read once", async () => {
  const reply = model.generate("Hello", { maxTokens: 3, ...endless });
  await collect(reply);
  assert.throws(() => reply[Symbol.asyncIterator](), { code: "InvalidArgument" });
});

test("greedy is the same each time, seeds decide the rest", async () => {
  const ask = (options) => model.generate("abc", { maxTokens: 24, ...endless, ...options });
  assert.deepEqual((await ask({})).tokens, (await ask({})).tokens);
  const drawn = await ask({ temperature: 1.5 });
  assert.deepEqual((await ask({ temperature: 1.5, seed: drawn.seed })).tokens, drawn.tokens);
  const others = await Promise.all([1, 2, 3].map((seed) => ask({ temperature: 1.5, seed })));
  assert.equal(new Set(others.map((other) => other.tokens.join())).size, 3);
});

test("log-probabilities agree with score and sum to one", async () => {
  const prompt = model.tokenize("The mill");
  const completion = await model.generate(prompt, { maxTokens: 12, ...endless, logprobs: 64 });
  const { logprobs, tokens } = await model.score([...prompt, ...completion.tokens]);
  assert.deepEqual(tokens, [...prompt, ...completion.tokens]);
  assert.ok(Number.isNaN(logprobs[0]));
  for (const [i, { token, logprob, top }] of completion.logprobs.entries()) {
    assert.equal(token, completion.tokens[i]);
    assert.equal(Math.fround(logprob), logprobs[prompt.length + i]);
    assert.equal(top.length, 64);
    assert.deepEqual(top[0], { token, logprob });
    assert.ok(top.every((next, k) => k === 0 || next.logprob <= top[k - 1].logprob));
    const mass = top.reduce((sum, next) => sum + Math.exp(next.logprob), 0);
    assert.ok(mass > 0.2 && mass < 1.000001, `the top 64 have ${mass}`);
  }
});

test("stop strings end the reply and are not part of it", async () => {
  const whole = await model.generate("xyz", { maxTokens: 60, ...endless });
  const middle = whole.text.slice(20, 24);
  const at = whole.text.indexOf(middle);
  const reply = model.generate("xyz", { maxTokens: 60, ...endless, stop: ["\u0000never", middle] });
  const parts = await collect(reply);
  const completion = await reply;
  assert.equal(completion.text, whole.text.slice(0, at));
  assert.equal(completion.finishReason, "stop");
  assert.equal(parts.map((part) => part.text).join(""), completion.text);
  assert.ok(completion.tokens.length >= at / 8);
});

test("leaving the loop stops the reply and frees its pages", async () => {
  const reply = model.generate("Hello", endless);
  let read = 0;
  for await (const _part of reply) if (++read === 5) break;
  const completion = await reply;
  assert.equal(completion.finishReason, "aborted");
  assert.ok(completion.tokens.length >= 5);
  await idle();
});

test("cancel completes with what there is", async () => {
  const reply = model.generate("Hello", endless);
  reply.cancel();
  assert.equal((await reply).finishReason, "aborted");
  await idle();
});

test("a reply that was cancelled completes, whatever stops it afterwards", async () => {
  const own = await loadModel(path, { contextLength: 100 });
  const controller = new AbortController();
  const replies = [0, 1].map(() => own.generate("Hello", { ...endless, signal: controller.signal }));
  await Promise.all(replies.map((reply) => reply[Symbol.asyncIterator]().next()));
  for (const reply of replies) reply.cancel();
  controller.abort("late");
  const disposed = own.dispose();
  for (const reply of replies) assert.equal((await reply).finishReason, "aborted");
  await disposed;
});

test("a signal rejects with the partial completion", async () => {
  const controller = new AbortController();
  const reply = model.generate("Hello", { ...endless, signal: controller.signal });
  const texts = [];
  const error = await failure(
    (async () => {
      for await (const part of reply) {
        texts.push(part.text);
        if (texts.length === 7) controller.abort(new Error("enough"));
      }
    })(),
  );
  assert.equal(error.code, "Aborted");
  assert.equal(error.name, "AbortError");
  assert.equal(error.cause.message, "enough");
  assert.ok(error.partial.text.startsWith(texts.join("")));
  assert.equal(error.partial.usage.completionTokens, error.partial.tokens.length);
  await idle();
});

test("a signal that is already aborted costs nothing", async () => {
  const { steps } = model.stats();
  const error = await failure(model.generate("Hello", { signal: AbortSignal.abort("no") }));
  assert.equal(error.code, "Aborted");
  assert.equal(error.cause, "no");
  const chat = await failure(
    model.chat([{ role: "user", content: "x" }], { signal: AbortSignal.abort("no") }),
  );
  assert.equal(chat.code, "Aborted");
  assert.equal(model.stats().steps, steps);
});

test("a signal that many requests share has one listener, and none when they have ended", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = () => getEventListeners(signal, "abort").length;
  const short = { maxTokens: 2, ...endless, signal };
  const messages = [{ role: "user", content: "x" }];
  const requests = Array.from({ length: 12 }, () => [
    model.generate("x", short),
    model.chat(messages, short),
    model.score("x y", { signal }),
  ]).flat();
  assert.equal(listeners(), 1);
  await Promise.all(requests);
  assert.equal(listeners(), 0);
  const failures = Array.from({ length: 12 }, () => [
    failure(model.generate("x", { ...endless, signal })),
    failure(model.chat(messages, { ...endless, signal })),
  ]).flat();
  controller.abort("all");
  for (const { code, cause } of await Promise.all(failures))
    assert.deepEqual([code, cause], ["Aborted", "all"]);
  assert.equal(listeners(), 0);
  await idle();
});

test("a signal ends a chat whose template is being rendered", async () => {
  const controller = new AbortController();
  const reply = model.chat([{ role: "user", content: "x" }], { ...endless, signal: controller.signal });
  controller.abort("early");
  assert.equal((await failure(reply)).code, "Aborted");
  await idle();
});

test("an unobserved failure is no unhandled rejection", async () => {
  let unhandled = 0;
  const listener = () => unhandled++;
  process.on("unhandledRejection", listener);
  model.generate("x", { temperature: -1 });
  model.generate("Hello", { signal: AbortSignal.abort() });
  await sleep(20);
  process.off("unhandledRejection", listener);
  assert.equal(unhandled, 0);
});

test("a reader that stops pauses its own reply only", async () => {
  const slow = model.generate("slow", { maxTokens: 200, ...endless });
  const iterator = slow[Symbol.asyncIterator]();
  await iterator.next();
  await model.generate("fast", { maxTokens: 150, ...endless });
  await until(() => model.stats().paused === 1);
  const completion = await slow; // lifts the bound
  assert.equal(completion.tokens.length, 200);
  let unread = 0;
  while (!(await iterator.next()).done) unread++;
  assert.equal(unread, 199);
});

test("a slow reader loses nothing", async () => {
  const expected = await model.generate("slow", { maxTokens: 200, ...endless });
  const tokens = [];
  for await (const part of model.generate("slow", { maxTokens: 200, ...endless })) {
    tokens.push(...part.tokens);
    if (tokens.length % 40 === 0) await sleep(10);
  }
  assert.deepEqual(tokens, expected.tokens);
});

test("the context's end ends the reply with length", async () => {
  const completion = await model.generate("Hello", endless);
  assert.equal(completion.finishReason, "length");
  assert.equal(completion.usage.promptTokens + completion.tokens.length, model.info.contextLength);
});

test("prompts that cannot run are refused by name", async () => {
  const overflow = await failure(model.generate(new Array(model.info.contextLength).fill(65)));
  assert.equal(overflow.code, "ContextOverflow");
  assert.match(overflow.message, new RegExp(`${model.info.contextLength}`));
  assert.equal((await failure(model.generate([]))).code, "InvalidArgument");
  assert.equal((await failure(model.generate([1e9]))).code, "InvalidArgument");
  assert.equal((await failure(model.generate(["a"]))).code, "InvalidArgument");
  assert.equal((await failure(model.generate(42))).code, "InvalidArgument");
  assert.equal((await failure(model.chat("hello"))).code, "InvalidArgument");
  assert.equal((await failure(model.chat([]))).code, "InvalidArgument");
});

test("options count as they are at the call", async () => {
  const stop = ["never"];
  const options = { maxTokens: 3, ...endless, stop };
  const chat = model.chat([{ role: "user", content: "x" }], options);
  const text = model.generate("x", options);
  Object.assign(options, { maxTokens: -1, ignoreEos: "no", stop: 7 });
  stop[0] = "";
  for (const reply of [chat, text]) assert.equal((await reply).tokens.length, 3);
});

for (const [name, value] of Object.entries({
  maxTokens: 1.5,
  temperature: Number.NaN,
  topK: -1,
  topP: 1.01,
  minP: 2,
  repetitionPenalty: 0,
  frequencyPenalty: "1",
  presencePenalty: 1e9,
  seed: -1,
  stop: [""],
  ignoreEos: 1,
  logprobs: 65,
  priority: 1001,
  tenant: "x".repeat(257),
  deadline: -1,
  signal: {},
  temprature: 1,
})) {
  test(`the option ${name}: ${JSON.stringify(value)} is refused by name`, async () => {
    const error = await failure(model.generate("x", { [name]: value }));
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, new RegExp(name));
  });
}

test("penalties change what repeats", async () => {
  const plain = await model.generate("aaaa", { maxTokens: 60, ...endless });
  const distinct = (completion) => new Set(completion.tokens).size;
  const penalized = await model.generate("aaaa", { maxTokens: 60, ...endless, frequencyPenalty: 50 });
  assert.ok(distinct(penalized) > distinct(plain));
  assert.equal(distinct(penalized), 60);
});

test("an abandoned reply is cancelled", async () => {
  (() => model.generate("Hello", endless)[Symbol.asyncIterator]().next())();
  await until(() => model.stats().paused === 1);
  const { aborted } = model.stats();
  await until(() => {
    collectGarbage();
    return model.stats().paused === 0;
  }, "the reply's end");
  await idle();
  assert.equal(model.stats().aborted, aborted + 1);
});

test("loads of one file share an engine; each client ends for itself", async () => {
  const other = await loadModel(path);
  const [mine, theirs] = [model.generate("a", { ...endless }), other.generate("b", { ...endless })];
  await mine[Symbol.asyncIterator]().next();
  await until(() => model.stats().running + model.stats().paused === 2, "both in one engine");
  await other.dispose();
  assert.equal((await failure(theirs)).code, "Disposed");
  assert.ok((await mine).tokens.length > 0);
});

test("dispose rejects what runs and is final", async () => {
  const own = await loadModel(path, { contextLength: 200 });
  const replies = Array.from({ length: 8 }, (_, i) => own.generate(`reply ${i}`, endless));
  await Promise.all(replies.map((reply) => reply[Symbol.asyncIterator]().next()));
  const disposed = own.dispose();
  for (const reply of replies) {
    const error = await failure(reply);
    assert.equal(error.code, "Disposed");
    assert.ok(error.partial.tokens.length > 0);
  }
  await disposed;
  await own.dispose();
  assert.equal((await failure(own.generate("x"))).code, "Disposed");
  assert.equal((await failure(own.score("x y"))).code, "Disposed");
  assert.throws(() => own.tokenize("x"), { code: "Disposed" });
  assert.throws(() => own.stats(), { code: "Disposed" });
});

test("score can be aborted and of one token is NaN", async () => {
  const one = await model.score(model.tokenize("a"));
  assert.equal(one.logprobs.length, 1);
  assert.ok(Number.isNaN(one.logprobs[0]));
  const error = await failure(model.score("abc def", { signal: AbortSignal.abort("off") }));
  assert.equal(error.code, "Aborted");
});

test("score takes what concerns its scheduling alone", async () => {
  for (const options of [
    { maxTokens: 1 },
    { temperature: 1, signal: undefined },
    { signal: 1 },
    { priority: 0.5 },
    { tenant: 1 },
    { deadline: "1" },
    null,
    "x",
  ]) {
    assert.equal((await failure(model.score("a b", options))).code, "InvalidArgument");
  }
  assert.match(
    (await failure(model.score("a b", { maxTokens: 1 }))).message,
    /maxTokens.*known are adapter, cacheSalt, priority, tenant, deadline, signal/,
  );
});

test.after(() => model.dispose());
