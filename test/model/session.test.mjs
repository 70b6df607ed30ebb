// A session's replies are those of chat on the same messages; what it holds costs nobody anything.
import assert from "node:assert/strict";
import { test } from "node:test";
import { collect, collectGarbage, modelTest, smollm2, tinyModel, until } from "../support/models.mjs";
import { tinyGemma3 } from "../support/tiny-gemma3.mjs";
import { bool, string } from "../unit/gguf/gguf-writer.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel, Reply, Session, TokenmillError } = await import("../../dist/index.mjs");

/** Full attention beside a window of 32 tokens. */
const windowed = () =>
  tinyGemma3({
    layers: 3,
    pattern: 2,
    window: 32,
    context: 512,
    metadata: {
      "tokenizer.chat_template": string(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ",
      ),
      "tokenizer.ggml.add_bos_token": bool(false),
    },
  });

const essence = ({ tokens, logprobs, text, seed }) => ({ tokens, logprobs, text, seed });
const defaults = { maxTokens: 12, logprobs: 2, seed: 5 };
const user = (content) => ({ role: "user", content });
const said = (content) => ({ role: "assistant", content });
const started = (reply) => reply[Symbol.asyncIterator]().next();
const whole = (reply) => Promise.resolve(reply);

/** Turns of a session and of its forks, and the same by chat on a model that keeps nothing. */
async function check(path, options, settings) {
  const model = await loadModel(path, options);
  const plain = await loadModel(path, { ...options, prefixCache: false });
  const expectTurn = async (session, text, more) => {
    const messages = [...session.messages, user(text)];
    const completion = await session.send(text, more);
    assert.deepEqual(essence(completion), essence(await plain.chat(messages, { ...settings, ...more })));
    assert.deepEqual(session.messages, [...messages, said(completion.text)]);
    return completion;
  };
  const session = model.session({ ...settings, messages: [user("The mill"), said("stands by the river.")] });
  await expectTurn(session, "Who built it?");
  const second = await expectTurn(session, "When?", { temperature: 0.9 });
  assert.ok(second.usage.cachedTokens > 0);
  const used = model.stats().pages.used;
  const forks = Array.from({ length: 5 }, () => session.fork());
  const twin = forks[0].fork();
  await Promise.all(forks.map((fork, i) => expectTurn(fork, `Question ${i % 3}`)));
  await expectTurn(session, "And then?");
  await expectTurn(twin, "Question 1");
  assert.ok(model.stats().pages.used >= used);
  for (const each of [session, twin, ...forks]) each.dispose();
  await until(() => model.stats().pages.used === 0, "the pages that sessions held");
  await plain.dispose();
  await model.dispose();
}

for (const type of ["f16", "int8"]) {
  const options = { contextLength: 512, kvCache: { type } };
  test(`tiny llama, ${type}`, () => check(tinyModel({ context: 512 }), options, defaults));
  test(`tiny Gemma 3, ${type}`, () => check(windowed(), options, defaults));
  modelTest(`SmolLM2, ${type}`, smollm2, (path) => check(path, options, defaults));
}

async function withModel(body, { context = 512, ...options } = {}) {
  const model = await loadModel(tinyModel({ context }), options);
  try {
    await body(model);
  } finally {
    await model.dispose();
  }
}

test("the pages of a session stay while others are evicted, and a conversation without one loses them", async () => {
  const size = await loadModel(tinyModel({ context: 512 }), { contextLength: 512 });
  await size.generate([5], { maxTokens: 500, ignoreEos: true });
  const { weights, scratch, kv } = size.stats().bytes;
  await size.dispose();
  const budget = weights + scratch + kv * 3;
  await withModel(
    async (model) => {
      const session = model.session({ maxTokens: 8, ignoreEos: true });
      const history = "It turns all day. ".repeat(8);
      const first = await session.send(history);
      const other = await model.chat([user(`B${history}`)], { maxTokens: 8 });
      for (let i = 0; i < 40; i++)
        await model.generate(
          Array.from({ length: 200 }, (_, k) => 3 + ((i * 31 + k * 7) % 200)),
          { maxTokens: 2 },
        );
      assert.ok(model.stats().prefix.evictedPages > 0);
      const next = await session.send("On");
      assert.ok(next.usage.cachedTokens >= first.usage.promptTokens);
      const lost = await model.chat([user(`B${history}`), said(other.text), user("On")], { maxTokens: 8 });
      assert.ok(lost.usage.cachedTokens < 16, "what all prompts begin with");
      // Three that grow side by side until they fill the pool take what is held, and nobody is preempted for it.
      const fill = (first) =>
        model.generate([first, ...Array(15).fill(9)], { maxTokens: 484, ignoreEos: true });
      await Promise.all([fill(1), fill(2), fill(3)]);
      assert.equal(model.stats().preempted, 0);
      assert.equal(model.stats().pages.used, 0);
      await session.send("Still there?");
    },
    { contextLength: 512, memory: { budget } },
  );
});

test("a hundred forks are a hundred names", () =>
  withModel(async (model) => {
    const session = model.session({ maxTokens: 2, messages: [user("It turns. ".repeat(12)), said("Yes.")] });
    await session.send("On");
    const { used } = model.stats().pages;
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const forks = Array.from({ length: 100 }, () => session.fork());
    collectGarbage();
    assert.ok(process.memoryUsage().heapUsed - before < 1e6);
    assert.ok(forks.every(({ messages }) => messages === session.messages));
    await model.generate([1], { maxTokens: 1 }); // behind the forks
    assert.equal(model.stats().pages.used, used);
    session.dispose();
    forks[7].dispose();
    await model.generate([1], { maxTokens: 1 });
    assert.equal(model.stats().pages.used, used);
  }));

test("what replies that did not complete leave behind", () =>
  withModel(
    async (model) => {
      const session = model.session({ system: "Turn.", ignoreEos: true });
      const system = [{ role: "system", content: "Turn." }];
      assert.deepEqual(session.messages, system);
      // Cancelled before anything was said, failed, or too long.
      const cancelled = session.send("a");
      cancelled.cancel();
      assert.equal((await cancelled).finishReason, "aborted");
      await assert.rejects(whole(session.send("a", { signal: AbortSignal.abort() })), { code: "Aborted" });
      await assert.rejects(whole(session.send("a", { deadline: 0 })), { code: "DeadlineExceeded" });
      await assert.rejects(whole(session.send("long ".repeat(4000))), { code: "ContextOverflow" });
      await assert.rejects(whole(session.send([{ type: "image", data: "" }])), { code: "UnsupportedModel" });
      assert.deepEqual(session.messages, system);
      // Left by break: the next turn waits for its end.
      let seen = "";
      for await (const { text } of session.send("b")) {
        seen += text;
        if (seen.length > 5) break;
      }
      await session.send("c", { maxTokens: 3 });
      const left = session.messages[2].content;
      assert.ok(left.startsWith(seen));
      assert.deepEqual(session.messages.slice(0, 4), [...system, user("b"), said(left), user("c")]);
      // Stopped by its signal, and by its deadline.
      const controller = new AbortController();
      const stopped = session.send("d", { signal: controller.signal });
      await started(stopped);
      controller.abort();
      const error = await whole(stopped).catch((error) => error);
      assert.equal(error.code, "Aborted");
      assert.deepEqual(session.messages.slice(-2), [user("d"), said(error.partial.text)]);
      const { length } = session.messages;
      const late = await whole(session.send("e", { deadline: 1 })).catch((error) => error);
      if (TokenmillError.isInstance(late)) assert.equal(session.messages.length, length);
      const reply = await session.send("f", { maxTokens: 2 });
      assert.deepEqual(session.messages.at(-1), said(reply.text));
    },
    { context: 8192 },
  ));

test("a reply that nobody reads leaves nothing", () =>
  withModel(async (model) => {
    const session = model.session({ ignoreEos: true });
    (() => session.send("a", { maxTokens: 400 }))();
    await until(() => model.stats().paused === 1, "a paused reply");
    await until(() => {
      collectGarbage();
      return model.stats().paused === 0;
    }, "the collection of a reply");
    await session.send("b", { maxTokens: 2 });
    assert.equal(session.messages.length, 2);
  }));

test("one turn at a time", () =>
  withModel(async (model) => {
    const session = model.session({ maxTokens: 5 });
    const first = session.send("a");
    await assert.rejects(whole(session.send("b")), { code: "InvalidArgument", message: /under way.*fork/ });
    const aside = session.fork();
    const parts = await collect(first);
    assert.equal(parts.map(({ text }) => text).join(""), session.messages.at(-1).content);
    assert.deepEqual(aside.messages, []);
    const [one, two] = [aside.send("a"), session.send("b")];
    assert.equal((await one).text, (await first).text);
    await two;
    assert.equal(session.messages.length, 4);
    // One that waits for a stopped one can be stopped itself.
    const running = session.send("c");
    running.cancel();
    const waiting = session.send("d");
    waiting.cancel();
    await session.send("e");
    assert.deepEqual(session.messages.at(-2), user("e"));
  }));

test("dispose, using, and sessions that are collected release their pages", () =>
  withModel(async (model) => {
    const session = model.session({ maxTokens: 300, ignoreEos: true });
    const running = session.send("a");
    await started(running);
    session.dispose();
    session[Symbol.dispose]();
    await assert.rejects(whole(running), { code: "Disposed" });
    await assert.rejects(whole(session.send("b")), { code: "Disposed" });
    assert.throws(() => session.fork(), { code: "Disposed" });
    assert.deepEqual(session.messages, []);
    await (async () => await model.session({ maxTokens: 30, ignoreEos: true }).send("a"))();
    await until(() => {
      collectGarbage();
      return model.stats().pages.used === 0;
    }, "the collection of a session");
  }));

test("a disposed model ends its sessions", async () => {
  const model = await loadModel(tinyModel({ context: 512 }));
  const session = model.session();
  const running = session.send("a", { maxTokens: 400, ignoreEos: true });
  await started(running);
  await model.dispose();
  await assert.rejects(whole(running), { code: "Disposed" });
  await assert.rejects(whole(session.send("b")), { code: "Disposed" });
  assert.throws(() => session.fork(), { code: "Disposed" });
  assert.throws(() => model.session(), { code: "Disposed" });
  session.dispose();
});

test("messages and options are the session's own", () =>
  withModel(async (model) => {
    const history = [user([{ type: "text", text: "a" }]), said("b")];
    const options = { messages: history, stop: ["never said"], maxTokens: 2 };
    const session = model.session(options);
    history[0].content[0].text = "changed";
    options.maxTokens = 50;
    assert.deepEqual(session.messages, [user([{ type: "text", text: "a" }]), said("b")]);
    assert.throws(() => session.messages.push(user("c")), TypeError);
    assert.throws(() => Object.assign(session.messages[0].content[0], { text: "changed" }), TypeError);
    const reply = session.send("d");
    assert.ok(reply instanceof Reply && session instanceof Session);
    assert.equal((await reply).usage.completionTokens, 2);
  }));

test("wrong arguments are refused", async () => {
  await withModel(async (model) => {
    const refused = (options, message) =>
      assert.throws(() => model.session(options), { code: "InvalidArgument", message });
    refused(null, /options is null/);
    refused({ template: "" }, /no option 'template'/);
    refused({ tools: {} }, /tools is a value of type object; expected an array/);
    refused({ adapter: "x" }, /adapter is 'x', which is not loaded/);
    refused({ signal: AbortSignal.abort() }, /no option 'signal'/);
    refused({ system: 5 }, /system is 5/);
    refused({ system: "a", messages: [{ role: "system", content: "b" }] }, /one of them/);
    refused({ messages: "a" }, /messages/);
    refused({ messages: [{ role: "user" }] }, /messages\[0\]\.content/);
    refused({ temperature: -1 }, /temperature/);
    const session = model.session();
    const bad = (content, options) =>
      assert.rejects(whole(session.send(content, options)), { code: "InvalidArgument" });
    await bad(5);
    await bad("a", { cacheSalt: "b" });
    await bad("a", { tools: [] });
    await bad("a", { temperature: "hot" });
    await bad("a", null);
    await session.send("a", { maxTokens: 1 });
  });
  const base = await loadModel(tinyModel({ metadata: { "tokenizer.chat_template": string("") } }));
  assert.throws(() => base.session(), { code: "UnsupportedModel" });
  await base.dispose();
});
