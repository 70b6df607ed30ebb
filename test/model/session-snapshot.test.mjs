// What a snapshot restores goes on as the original; what is no snapshot of this model changes nothing.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { modelTest, smollm2, temporaryFile, tinyModel, until } from "../support/models.mjs";
import { tinyGemma3 } from "../support/tiny-gemma3.mjs";
import { bool, string } from "../unit/gguf/gguf-writer.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel, TokenmillError } = await import("../../dist/index.mjs");

const child = fileURLToPath(new URL("session-child.mjs", import.meta.url));
const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
const metadata = {
  "tokenizer.chat_template": string(template),
  "tokenizer.ggml.add_bos_token": bool(false),
};
const windowed = () => tinyGemma3({ layers: 3, pattern: 2, window: 40, context: 512, metadata });

const settings = { maxTokens: 10, logprobs: 1, ignoreEos: true, stop: ["never said"], cacheSalt: "tenant" };
const turns = [
  ["And then?", {}],
  ["Why?", { temperature: 0.9, seed: 7 }],
];

async function talk(session) {
  await session.send("The mill stands by the river.");
  await session.send("Who built it, and when?", { temperature: 0.8, seed: 3 });
}

async function goOn(session) {
  const said = [];
  for (const [text, more] of turns) {
    const { tokens, logprobs, usage } = await session.send(text, more);
    said.push({ tokens, logprobs, cached: usage.cachedTokens });
  }
  return { said, messages: session.messages };
}

const plain = (value) => JSON.parse(JSON.stringify(value));
const idle = (model) => until(() => model.stats().pages.used === 0, "the pages that sessions held");

async function checkRoundTrip(path, options) {
  const model = await loadModel(path, options);
  const session = model.session({ ...settings, system: "Be brief." });
  await talk(session);
  const snapshot = await session.snapshot();
  const twin = await model.restore(snapshot);
  assert.deepEqual(await twin.snapshot(), snapshot);
  const file = temporaryFile(snapshot, "snapshot");
  const expected = await goOn(session);
  assert.ok(expected.said.every(({ cached }) => cached > 0));
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      child,
      path,
      JSON.stringify({ ...options, threads: 1, maxBatchTokens: 48 }),
      file,
      JSON.stringify(turns),
    ],
    { encoding: "utf8" },
  );
  assert.deepEqual(JSON.parse(stdout || stderr), plain(expected));
  assert.deepEqual(plain((await goOn(twin)).messages), plain(expected.messages));
  session.dispose();
  twin.dispose();
  await idle(model);
  // Whatever the pool held before, the same conversation gives the same bytes.
  const again = model.session({ ...settings, system: "Be brief." });
  for (let i = 0; i < 8; i++) await model.generate(`Something else ${i}`, { maxTokens: 40, ignoreEos: true });
  await talk(again);
  assert.deepEqual(await again.snapshot(), snapshot);
  await model.dispose();
}

for (const type of ["f16", "int8"]) {
  const options = { contextLength: 512, kvCache: { type } };
  test(`tiny llama, ${type}`, () => checkRoundTrip(tinyModel({ context: 512 }), options));
  test(`a window beside full attention, ${type}`, () => checkRoundTrip(windowed(), options));
  modelTest(`SmolLM2, ${type}`, smollm2, (path) => checkRoundTrip(path, options));
}

test("a window beside full attention on the reference path", async () => {
  process.env.TOKENMILL_ISA = "reference";
  try {
    await checkRoundTrip(windowed(), { contextLength: 512 });
  } finally {
    delete process.env.TOKENMILL_ISA;
  }
});

const refused = (error) => {
  assert.ok(TokenmillError.isInstance(error), String(error));
  assert.ok(["CorruptFile", "Incompatible"].includes(error.code), `${error.code}: ${error.message}`);
  return true;
};

/** Five hundred copies that were flipped, cut or lengthened, in every region. */
function* damaged(snapshot) {
  const state = snapshot.indexOf('{"messages"');
  const regions = [
    [0, state],
    [state, state + 400],
    [state, snapshot.length],
  ];
  let random = 12345;
  const below = (limit) => {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    return (random >>> 4) % limit;
  };
  for (let i = 0; i < 400; i++) {
    const copy = Buffer.from(snapshot);
    const [begin, end] = regions[i % 3];
    const at = i < state ? i : begin + below(end - begin);
    copy[at] ^= 1 << below(8);
    yield copy;
  }
  for (let i = 0; i < 60; i++) yield snapshot.subarray(0, i < 30 ? i * 10 : below(snapshot.length));
  for (let i = 1; i <= 20; i++) yield Buffer.concat([snapshot, Buffer.alloc(i)]);
  for (let i = 0; i < 20; i++) {
    // Two pages change places, or a stretch is cleared.
    const copy = Buffer.from(snapshot);
    const at = below(snapshot.length - 64);
    if (i % 2) copy.fill(copy[at] ^ 0xff, at, at + 1 + below(63));
    else copy.copyWithin(at, snapshot.length - at > 4096 ? at + 1031 : 0, snapshot.length);
    if (!copy.equals(snapshot)) yield copy;
  }
}

test("damaged and foreign snapshots are refused and change nothing", async () => {
  const path = tinyModel({ context: 512 });
  const options = { contextLength: 512 };
  const model = await loadModel(path, options);
  const session = model.session({ ...settings, system: "Be brief." });
  await talk(session);
  const snapshot = await session.snapshot();
  const { pages, ...before } = model.stats();
  let count = 0;
  for (const copy of damaged(snapshot)) {
    await assert.rejects(model.restore(copy), refused, `copy ${count}`);
    count += 1;
  }
  assert.ok(count >= 490, `${count} copies`);
  for (const other of [
    [tinyModel({ context: 512, seed: 1 }), options],
    [tinyModel({ context: 512, metadata: { "general.name": string("another") } }), options],
    [tinyModel({ context: 512, layers: 3 }), options],
    [path, { ...options, kvCache: { type: "int8" } }],
    [path, { ...options, precision: "high" }],
  ]) {
    const foreign = await loadModel(...other);
    const stranger = foreign.session(settings);
    await talk(stranger);
    await assert.rejects(foreign.restore(snapshot), { code: "Incompatible" });
    await assert.rejects(model.restore(await stranger.snapshot()), { code: "Incompatible" });
    await foreign.dispose();
  }
  for (const nothing of [undefined, "snapshot", new ArrayBuffer(500)])
    await assert.rejects(model.restore(nothing), { code: "InvalidArgument" });
  const after = model.stats();
  assert.deepEqual(after.pages, pages);
  assert.deepEqual({ ...after, pages: undefined }, { ...before, pages: undefined });
  // The next output is what it would have been.
  const restored = await model.restore(new Uint8Array(snapshot));
  assert.deepEqual((await goOn(restored)).messages, (await goOn(session)).messages);
  await model.dispose();
});

test("the file is what a snapshot is bound to, not where it lies or when it was written", async () => {
  const path = tinyModel({ context: 512 });
  const [model, copy] = [await loadModel(path), await loadModel(temporaryFile(readFileSync(path)))];
  const session = model.session(settings);
  await talk(session);
  const restored = await copy.restore(await session.snapshot());
  assert.deepEqual(await goOn(restored), await goOn(session));
  await model.dispose();
  await copy.dispose();
});

test("what does not fit is read again", async () => {
  const path = tinyModel({ context: 512 });
  const model = await loadModel(path, { contextLength: 512 });
  const session = model.session(settings);
  await talk(session);
  const snapshot = await session.snapshot();
  const expected = await goOn(session);
  const { weights, scratch, kv } = model.stats().bytes;
  await model.dispose();
  const messages = expected.messages.length;
  for (const options of [
    { contextLength: 512, prefixCache: false },
    { contextLength: 512, memory: { budget: weights + scratch + kv * 4 } },
  ]) {
    const other = await loadModel(path, options);
    // Replies that take all there is.
    const busy = Array.from({ length: 8 }, (_, i) =>
      other.generate([i, ...Array(400).fill(9)], { ignoreEos: true, maxTokens: 60 })[Symbol.asyncIterator](),
    );
    await Promise.all(busy.map((reply) => reply.next()));
    const restored = await other.restore(snapshot);
    const { said } = await goOn(restored);
    assert.deepEqual(
      said.map(({ tokens, logprobs }) => ({ tokens, logprobs })),
      expected.said.map(({ tokens, logprobs }) => ({ tokens, logprobs })),
    );
    assert.equal(restored.messages.length, messages);
    await Promise.all(busy.map((reply) => reply.return()));
    await other.dispose();
  }
});

test("a session without pages has a snapshot too", async () => {
  const model = await loadModel(tinyModel({ context: 512 }));
  const session = model.session({ messages: [{ role: "user", content: "\ud800 NUL \0 🦀" }], seed: 4 });
  const restored = await model.restore(await session.snapshot());
  assert.deepEqual(restored.messages, session.messages);
  assert.deepEqual((await restored.send("Hm?", { maxTokens: 5 })).seed, 4);
  session.dispose();
  await assert.rejects(session.snapshot(), { code: "Disposed" });
  await model.dispose();
});

test("many snapshots beside running replies", async () => {
  const model = await loadModel(tinyModel({ context: 4096 }));
  const session = model.session({ ...settings, messages: [{ role: "user", content: "mill ".repeat(600) }] });
  await session.send("On");
  const expected = await session.snapshot();
  const replies = Array.from({ length: 4 }, (_, i) =>
    model.generate(`Stream ${i}`, { maxTokens: 300, ignoreEos: true }).then(({ text }) => text),
  );
  const snapshots = await Promise.all(Array.from({ length: 6 }, () => session.snapshot()));
  for (const snapshot of snapshots) assert.ok(snapshot.equals(expected));
  const restored = await Promise.all(snapshots.map((snapshot) => model.restore(snapshot)));
  const [first, ...rest] = await Promise.all(restored.map((each) => goOn(each)));
  for (const other of rest) assert.deepEqual(other.messages, first.messages);
  const texts = await Promise.all(replies);
  for (const [i, text] of texts.entries())
    assert.equal((await model.generate(`Stream ${i}`, { maxTokens: 300, ignoreEos: true })).text, text);
  for (const each of [session, ...restored]) each.dispose();
  await idle(model);
  await model.dispose();
});

test("a disposed model ends snapshots and restorations", async () => {
  const model = await loadModel(tinyModel({ context: 4096 }));
  const session = model.session({ ...settings, messages: [{ role: "user", content: "mill ".repeat(600) }] });
  await session.send("On");
  const snapshot = await session.snapshot();
  const under = [session.snapshot(), model.restore(snapshot), session.snapshot(), model.restore(snapshot)];
  const ends = Promise.allSettled(under);
  await model.dispose();
  for (const { status, reason } of await ends)
    assert.ok(status === "fulfilled" || reason.code === "Disposed");
  await assert.rejects(model.restore(snapshot), { code: "Disposed" });
});
