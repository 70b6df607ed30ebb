// Adapters of requests: each changes its own rows and nothing else.
import assert from "node:assert/strict";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { failure } from "../support/failure.mjs";
import { modelTest, smollm2, temporaryFile, tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";
import { loadWithPages } from "../support/small-pool.mjs";
import { LoopbackServer } from "../unit/sources/loopback.mjs";
import { useSandbox } from "../unit/sources/sandbox.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel } = await import("../../dist/index.mjs");

const context = 512;
const path = tinyModel({ context });
const greedy = { maxTokens: 16, logprobs: 2, ignoreEos: true };
const essence = ({ tokens, logprobs, text }) => ({ tokens, logprobs, text });

async function withModel(body, options = {}, modelPath = path) {
  const model = await loadModel(modelPath, { contextLength: context, ...options });
  try {
    await body(model);
  } finally {
    await model.dispose();
  }
}

const say = async (model, prompt, options) =>
  essence(await model.generate(prompt, { ...greedy, ...options }));

test("an adapter changes the replies of those that name it, and no others", () =>
  withModel(async (model) => {
    const plain = await say(model, "The mill");
    const adapter = await model.loadAdapter(randomAdapter(path), { name: "one" });
    const adapted = await say(model, "The mill", { adapter });
    assert.notDeepEqual(adapted.tokens, plain.tokens);
    assert.deepEqual(await say(model, "The mill"), plain);
    assert.deepEqual(await say(model, "The mill", { adapter: "one" }), adapted);
    assert.deepEqual(await say(model, "The mill", { adapter: [] }), plain);
    assert.deepEqual(await say(model, "The mill", { adapter: [{ adapter: "one" }] }), adapted);
    const halves = [
      { adapter, scale: 0.5 },
      { adapter: "one", scale: 0.5 },
    ];
    assert.deepEqual(await say(model, "The mill", { adapter: halves }), adapted);
    const half = await say(model, "The mill", { adapter: [{ adapter, scale: 0.5 }] });
    assert.notDeepEqual(half, adapted);
    assert.notDeepEqual(half, plain);
    assert.deepEqual(
      model.adapters().map(({ name, rank, targets, scale }) => [name, rank, targets.length > 0, scale]),
      [["one", 8, true, 1]],
    );
  }));

/** Sixteen requests, of which four have no adapter and two share one each, alone and all at once. */
async function checkBatch(modelPath, options) {
  await withModel(
    async (model) => {
      const ranks = [1, 3, 8, 16, 17, 5, 64, 2];
      const adapters = [];
      for (const [i, rank] of ranks.entries())
        adapters.push(
          await model.loadAdapter(randomAdapter(modelPath, { rank, seed: 100 + i }), { name: `a${i}` }),
        );
      const choices = Array.from({ length: 16 }, (_, i) => (i % 4 === 3 ? undefined : adapters[i % 8]));
      choices[2] = [
        { adapter: adapters[0], scale: 0.5 },
        { adapter: "a6", scale: -1 },
      ];
      const requests = choices.map((adapter, i) => [
        `${"word ".repeat(i * 3)}Request ${i}`,
        { seed: i, temperature: i % 2, ...(adapter ? { adapter } : {}) },
      ]);
      const alone = [];
      for (const request of requests) alone.push(await say(model, ...request));
      const together = await Promise.all(requests.map((request) => say(model, ...request)));
      assert.deepEqual(together, alone);
      const distinct = new Set(alone.map(({ tokens }) => tokens.join()));
      assert.ok(distinct.size > 8, `only ${distinct.size} different replies`);
    },
    { prefixCache: false, ...options },
    modelPath,
  );
}

for (const options of [
  {},
  { threads: 1, maxBatchTokens: 7 },
  { precision: "high" },
  { kvCache: { type: "int8" } },
]) {
  test(`a batch of eight adapters and none equals each alone: ${JSON.stringify(options)}`, () =>
    checkBatch(path, options));
}
modelTest("a batch of eight adapters and none equals each alone: SmolLM2", smollm2, (real) =>
  checkBatch(real, {}),
);

test("scores follow the adapter, and agree with the reply's own log-probabilities", () =>
  withModel(async (model) => {
    const adapter = await model.loadAdapter(randomAdapter(path));
    const prompt = [1, 2, 3, 4, 5];
    const { tokens, logprobs } = await model.generate(prompt, { ...greedy, adapter });
    const score = await model.score([...prompt, ...tokens], { adapter });
    for (const [i, { logprob }] of logprobs.entries())
      assert.equal(score.logprobs[prompt.length + i], Math.fround(logprob));
    const plain = await model.score([...prompt, ...tokens]);
    assert.notDeepEqual(plain.logprobs, score.logprobs);
  }));

test("prefixes are shared within an adapter and its scale alone", () =>
  withModel(async (model) => {
    const prompt = Array.from({ length: 100 }, (_, i) => (i * 7) % 90);
    const folder = randomAdapter(path, { seed: 7 });
    const a = await model.loadAdapter(folder, { name: "a" });
    const again = await model.loadAdapter(folder, { name: "again" });
    const b = await model.loadAdapter(randomAdapter(path, { seed: 8 }), { name: "b" });
    const cached = async (adapter) => {
      const { usage } = await model.generate(prompt, { maxTokens: 1, ...(adapter ? { adapter } : {}) });
      return usage.cachedTokens;
    };
    for (const adapter of [undefined, a, b, [{ adapter: a, scale: 0.5 }], [{ adapter: a }, { adapter: b }]]) {
      assert.equal(await cached(adapter), 0);
      assert.ok((await cached(adapter)) >= 96);
    }
    assert.ok((await cached(again)) >= 96, "the same adapter under another name");
    assert.equal(await cached([{ adapter: b }, { adapter: a }]), 0);
  }));

test("guesses, preemption and small steps change no reply with adapters", async () => {
  const prompts = Array.from({ length: 12 }, (_, i) => `${`again ${i} `.repeat(12)}`);
  const folders = [randomAdapter(path, { seed: 1 }), randomAdapter(path, { seed: 2, rank: 20 })];
  const load = (model) =>
    Promise.all(folders.map((folder, i) => model.loadAdapter(folder, { name: `${i}` })));
  const choose = (i) => ({ maxTokens: 120, seed: i, ...(i % 3 === 2 ? {} : { adapter: `${i % 3}` }) });
  const expected = [];
  await withModel(
    async (model) => {
      await load(model);
      for (const [i, prompt] of prompts.entries()) expected.push(await say(model, prompt, choose(i)));
    },
    { prefixCache: false },
  );
  for (const maxBatchTokens of [512, 5]) {
    const small = await loadWithPages(path, 48, { contextLength: context, maxBatchTokens });
    await load(small);
    const replies = prompts.map((prompt, i) => say(small, prompt, { ...choose(i), draft: "promptLookup" }));
    assert.deepEqual(await Promise.all(replies), expected);
    // Small steps stagger the replies so that their pages last.
    if (maxBatchTokens > prompts.length) assert.ok(small.stats().preempted > 0, "somebody was preempted");
    await small.dispose();
  }
});

test("unloading waits for those that use it and refuses others", () =>
  withModel(async (model) => {
    const adapter = await model.loadAdapter(randomAdapter(path), { name: "leaving" });
    const expected = await say(model, "The mill", { adapter, maxTokens: 200 });
    const reply = model.generate("The mill", { ...greedy, maxTokens: 200, adapter });
    await reply[Symbol.asyncIterator]().next();
    let unloaded = false;
    const unloading = adapter.unload().then(() => (unloaded = true));
    assert.deepEqual(model.adapters(), []);
    const refused = await failure(model.generate("x", { adapter }).then());
    assert.equal(refused.code, "Disposed");
    assert.match(refused.message, /'leaving' was unloaded/);
    assert.equal((await failure(model.generate("x", { adapter: "leaving" }).then())).code, "InvalidArgument");
    assert.equal(unloaded, false);
    assert.deepEqual(essence(await reply), expected);
    await unloading;
    await adapter.unload();
    assert.equal(model.stats().adapters.registered, 0);
    assert.equal(model.stats().adapters.bytes, 0);
    const other = await model.loadAdapter(randomAdapter(path), { name: "leaving" });
    await say(model, "x", { adapter: other });
  }));

test("an adapter without a name is called by its folder, and can be named by that", () =>
  withModel(async (model) => {
    const folder = randomAdapter(path);
    const adapter = await model.loadAdapter(folder);
    assert.equal(adapter.name, basename(folder));
    await say(model, "x", { adapter: basename(folder) });
    const weights = join(folder, "adapter_model.safetensors");
    assert.equal(await model.loadAdapter(weights), adapter, "the file in it is that adapter");
  }));

test("equal adapters take memory once; a name belongs to one", () =>
  withModel(async (model) => {
    const folder = randomAdapter(path, { seed: 3 });
    const first = await model.loadAdapter(folder, { name: "x" });
    assert.equal(await model.loadAdapter(folder, { name: "x" }), first);
    const second = await model.loadAdapter(randomAdapter(path, { seed: 3 }), { name: "y" });
    assert.equal(model.stats().adapters.registered, 1);
    assert.equal(model.stats().adapters.bytes, first.bytes);
    const clash = await failure(model.loadAdapter(randomAdapter(path, { seed: 4 }), { name: "x" }));
    assert.equal(clash.code, "InvalidArgument");
    assert.match(clash.message, /'x' is loaded already and differs/);
    assert.equal((await failure(model.loadAdapter(folder, { name: "x", scale: 2 }))).code, "InvalidArgument");
    assert.equal(model.stats().adapters.registered, 1);
    await first.unload();
    assert.equal(model.adapters().length, 2, "it was loaded twice");
    await first.unload();
    assert.equal(model.adapters().length, 1);
    await first.unload();
    assert.deepEqual(await say(model, "x", { adapter: second }), await say(model, "x", { adapter: "y" }));
    await second.unload();
    assert.equal(model.stats().adapters.registered, 0);
  }));

test("scales of load and request multiply", () =>
  withModel(async (model) => {
    const folder = randomAdapter(path, { seed: 5 });
    const quarter = await model.loadAdapter(folder, { name: "quarter", scale: 0.25 });
    const whole = await model.loadAdapter(folder, { name: "whole" });
    assert.equal(model.stats().adapters.registered, 1);
    assert.deepEqual(
      await say(model, "The mill", { adapter: quarter }),
      await say(model, "The mill", { adapter: [{ adapter: whole, scale: 0.25 }] }),
    );
    assert.deepEqual(
      await say(model, "The mill", { adapter: [{ adapter: quarter, scale: 4 }] }),
      await say(model, "The mill", { adapter: whole }),
    );
  }));

test("adapters beyond their budget come back from their files when they are named", async () => {
  const folders = Array.from({ length: 6 }, (_, seed) => randomAdapter(path, { seed: 20 + seed }));
  const expected = [];
  let bytes = 0;
  await withModel(async (model) => {
    for (const [i, folder] of folders.entries()) {
      const adapter = await model.loadAdapter(folder, { name: `${i}` });
      bytes = adapter.bytes;
      expected.push(await say(model, "The mill", { adapter }));
    }
  });
  await withModel(
    async (model) => {
      for (const [i, folder] of folders.entries()) await model.loadAdapter(folder, { name: `${i}` });
      const { adapters } = model.stats();
      assert.deepEqual([adapters.registered, adapters.loaded, adapters.bytes], [6, 2, 2 * bytes]);
      for (const round of [0, 1]) {
        for (const i of folders.keys()) {
          assert.deepEqual(await say(model, "The mill", { adapter: `${i}` }), expected[i], `round ${round}`);
          assert.ok(model.stats().adapters.bytes <= 2 * bytes);
        }
      }
      assert.ok(model.stats().adapters.reloads >= 10);
      // Two in use leave no room for a third, until they end.
      const long = { maxTokens: 400, ignoreEos: true };
      const running = ["0", "1"].map((adapter) => model.generate("x", { ...long, adapter }));
      for (const reply of running) await reply[Symbol.asyncIterator]().next();
      const refused = await failure(model.generate("x", { adapter: "2" }).then());
      assert.equal(refused.code, "Overloaded");
      assert.match(refused.message, /memory\.adapters/);
      for (const reply of running) reply.cancel();
      await Promise.all(running.map((reply) => reply.then()));
      assert.deepEqual(await say(model, "The mill", { adapter: "2" }), expected[2]);
      // A file that changed, or went, meanwhile.
      const weights = join(folders[3], "adapter_model.safetensors");
      const original = await readFile(weights);
      const changed = Buffer.from(original);
      changed[changed.length - 1] ^= 1;
      await writeFile(weights, changed);
      assert.equal((await failure(model.generate("x", { adapter: "3" }).then())).code, "CorruptFile");
      await rename(weights, `${weights}.away`);
      assert.equal((await failure(model.generate("x", { adapter: "3" }).then())).code, "ModelNotFound");
      await rm(`${weights}.away`);
      assert.deepEqual(await say(model, "The mill", { adapter: "4" }), expected[4]);
    },
    { memory: { adapters: 2 * bytes + 1 } },
  );
});

test("sessions, forks and snapshots keep their adapter", () =>
  withModel(async (model) => {
    const folder = randomAdapter(path, { seed: 9 });
    const adapter = await model.loadAdapter(folder, { name: "voice" });
    const options = { maxTokens: 12, ignoreEos: true, logprobs: 1 };
    const session = model.session({ ...options, adapter, system: "Be brief." });
    const first = await session.send("Who?");
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Who?" },
    ];
    assert.deepEqual(essence(first), essence(await model.chat(messages, { ...options, adapter })));
    assert.notDeepEqual(essence(first), essence(await model.chat(messages, options)));
    const fork = session.fork();
    const snapshot = await session.snapshot();
    const next = await session.send("When?");
    assert.ok(next.usage.cachedTokens > 0);
    assert.deepEqual(essence(await fork.send("When?")), essence(next));
    assert.match(snapshot.toString("latin1"), /"digest":"[0-9a-f]{16}"/, "the keyed half stays here");
    const restored = await model.restore(snapshot);
    const continued = await restored.send("When?");
    assert.deepEqual(essence(continued), essence(next));
    assert.ok(continued.usage.cachedTokens > 0, "its pages are found again");

    await withModel(async (other) => {
      const missing = await failure(other.restore(snapshot));
      assert.equal(missing.code, "Incompatible");
      assert.match(missing.message, /adapter 'voice', which is not loaded/);
      await other.loadAdapter(randomAdapter(path, { seed: 10 }), { name: "voice" });
      assert.match((await failure(other.restore(snapshot))).message, /one of that name is, and differs/);
      await other.loadAdapter(folder, { name: "other name", scale: 0.5 });
      const there = await (await other.restore(snapshot)).send("When?");
      assert.deepEqual(essence(there), essence(next));
    });
    await adapter.unload();
    assert.equal((await failure(session.send("And?").then())).code, "Disposed");
    const last = await session.snapshot(); // what was held with it is still the session's
    await model.loadAdapter(folder, { name: "voice again" });
    const { messages: saved } = await model.restore(last);
    assert.deepEqual(saved, session.messages);
  }));

test("a snapshot has no pages of other adapters than it names", () =>
  withModel(async (model) => {
    const options = { maxTokens: 12, ignoreEos: true, logprobs: 1 };
    const one = await model.loadAdapter(randomAdapter(path, { seed: 11 }), { name: "one" });
    const check = async (defaults, turn) => {
      const session = model.session({ ...options, ...defaults });
      await session.send("Who?", turn);
      const restored = await model.restore(await session.snapshot());
      const expected = await model.chat([...session.messages, { role: "user", content: "When?" }], {
        ...options,
        ...defaults,
        cacheSalt: "apart",
      });
      assert.deepEqual(essence(await restored.send("When?")), essence(expected));
    };
    await check({}, { adapter: one });
    await check({ adapter: one }, { adapter: [] });
    await check({ adapter: "one" }, { adapter: [{ adapter: one, scale: 0.5 }] });
    const session = model.session({ ...options, adapter: "one" });
    await session.send("Who?");
    await one.unload();
    await model.loadAdapter(randomAdapter(path, { seed: 12 }), { name: "one" });
    const restored = await model.restore(await session.snapshot());
    const turn = [...session.messages, { role: "user", content: "When?" }];
    const expected = await model.chat(turn, { ...options, adapter: "one", cacheSalt: "apart" });
    assert.deepEqual(essence(await restored.send("When?")), essence(expected));
  }));

test("what exceeds the adapters' budget alone is refused for good", () =>
  withModel(
    async (model) => {
      const refused = await failure(model.loadAdapter(randomAdapter(path)));
      assert.equal(refused.code, "OutOfMemory");
      assert.match(refused.message, /memory\.adapters/);
      assert.deepEqual(model.adapters(), []);
    },
    { memory: { adapters: 1000 } },
  ));

test("equal requests with one adapter share a generation, with two they do not", () =>
  withModel(async (model) => {
    const a = await model.loadAdapter(randomAdapter(path, { seed: 1 }), { name: "a" });
    const b = await model.loadAdapter(randomAdapter(path, { seed: 2 }), { name: "b" });
    const before = model.stats().completionTokens;
    const replies = [a, a, b, undefined].map((adapter) =>
      say(model, "The mill", { coalesce: true, ...(adapter ? { adapter } : {}) }),
    );
    const [first, same, other, plain] = await Promise.all(replies);
    assert.deepEqual(same, first);
    assert.notDeepEqual(other, first);
    assert.notDeepEqual(plain, first);
    assert.equal(model.stats().completionTokens - before, 3 * greedy.maxTokens);
  }));

test("a batch's items have their own adapters, or the common one; one that is gone fails its item alone", () =>
  withModel(async (model) => {
    const common = await model.loadAdapter(randomAdapter(path, { seed: 1 }), { name: "common" });
    const own = await model.loadAdapter(randomAdapter(path, { seed: 2 }), { name: "own" });
    const gone = await model.loadAdapter(randomAdapter(path, { seed: 3 }), { name: "gone" });
    await gone.unload();
    const choices = [undefined, { adapter: "own" }, { adapter: [] }, { adapter: gone }, { adapter: own }];
    const items = choices.map((options) => ({ prompt: "The mill", ...(options ? { options } : {}) }));
    const stack = [{ adapter: common }];
    const batch = model.generateMany(items, { ...greedy, adapter: stack });
    stack[0].adapter = own; // too late
    const results = [];
    for await (const result of batch) results.push(result);
    assert.equal(results[3].error.code, "Disposed");
    for (const [i, adapter] of [common, own, [], undefined, own].entries()) {
      if (adapter !== undefined)
        assert.deepEqual(
          essence(results[i].completion),
          await say(model, "The mill", { adapter }),
          `item ${i}`,
        );
    }
    const texts = results.map(({ completion }) => completion?.tokens.join());
    assert.equal(new Set(texts).size, 4, "three replies and a failure");
    for (const [adapter, code] of [
      ["nobody", "InvalidArgument"],
      [gone, "Disposed"],
    ]) {
      assert.throws(() => model.generateMany(["x"], { adapter }), { code });
    }
    assert.throws(() => model.generateMany(["x"], null), { code: "InvalidArgument" });
  }));

test("wrong adapters are refused by name and leave nothing", () =>
  withModel(async (model) => {
    const adapter = await model.loadAdapter(randomAdapter(path), { name: "known" });
    const other = await loadModel(tinyModel({ context: 128 }));
    const foreign = await other.loadAdapter(randomAdapter(path), { name: "foreign" });
    const cases = [
      ["nobody", /adapter is 'nobody', which is not loaded; loaded are 'known'/],
      [foreign, /'foreign' of another model/],
      [5, /adapter is 5; expected an adapter of this model or its name/],
      [{}, /expected an adapter of this model or its name/],
      [[{ adapter, weight: 1 }], /no option 'weight'/],
      [[{ adapter, scale: Number.NaN }], /adapter\[0\]\.scale is NaN/],
      [[adapter], /has no option|adapter\[0\]/],
      [Array.from({ length: 17 }, () => ({ adapter })), /at most 16 adapters/],
      [Object.assign(new Array(3), [{ adapter }]), /adapter\[1\] is undefined; expected an object/],
    ];
    for (const [choice, message] of cases) {
      for (const call of [
        () => model.generate("x", { adapter: choice }).then(),
        () => model.score("xy", { adapter: choice }),
      ]) {
        const error = await failure(call());
        assert.equal(error.code, "InvalidArgument");
        assert.match(error.message, message);
      }
    }
    for (const [source, options, message] of [
      ["", {}, /source is ""/],
      [5, {}, /source is 5/],
      ["x", { name: "" }, /name is ""/],
      ["x", { name: "x".repeat(257) }, /1 to 256 characters/],
      ["x", null, /options is null; expected an object/],
      ["x", "name", /options is "name"; expected an object/],
      ["x", { scale: "1" }, /scale is "1"/],
      ["x", { color: 1 }, /no option 'color'/],
    ]) {
      const error = await failure(model.loadAdapter(source, options));
      assert.equal(error.code, "InvalidArgument");
      assert.match(error.message, message);
    }
    assert.equal((await failure(model.loadAdapter("/nothing/here"))).code, "ModelNotFound");
    assert.equal((await failure(model.loadAdapter(temporaryFile("x", "txt")))).code, "CorruptFile");
    const controller = new AbortController();
    controller.abort();
    const aborted = await failure(model.loadAdapter(randomAdapter(path), { signal: controller.signal }));
    assert.equal(aborted.code, "Aborted");
    assert.deepEqual(model.adapters(), [adapter]);
    assert.equal(model.stats().adapters.registered, 1);
    await other.dispose();
    assert.equal((await failure(other.loadAdapter(randomAdapter(path)))).code, "Disposed");
  }));

test("a dispose waits for adapters that are being loaded", async () => {
  const model = await loadModel(path, { contextLength: context });
  const loading = failure(model.loadAdapter(randomAdapter(path, { rank: 64 })));
  await model.dispose();
  assert.equal((await loading).code, "Disposed");
});

test("a dispose ends adapters that are being downloaded", async (t) => {
  const hub = await LoopbackServer.start(t);
  useSandbox(t, { HF_ENDPOINT: hub.url });
  const asked = new Promise((resolve) => hub.handlers.push(() => resolve())); // and never answers
  const model = await loadModel(path, { contextLength: context });
  const { signal } = new AbortController();
  const loading = failure(model.loadAdapter("hf:owner/repo", { signal }));
  await asked;
  await model.dispose();
  assert.equal((await loading).code, "Disposed");
});

test("a dispose beside a restore ends both, whichever comes first", async () => {
  const folder = randomAdapter(path);
  for (let turns = 0; turns < 6; ++turns) {
    const model = await loadModel(path, { contextLength: context });
    const adapter = await model.loadAdapter(folder);
    const session = model.session({ adapter, maxTokens: 4 });
    await session.send("Who?");
    const snapshot = await session.snapshot();
    const restoring = model.restore(snapshot).then(
      () => "restored",
      ({ code }) => code,
    );
    for (let i = 0; i < turns; ++i) await nextTurn();
    await model.dispose();
    assert.match(await restoring, /^(restored|Disposed)$/);
    await adapter.unload();
  }
});

test("a dispose from within a dispose is the same one", async () => {
  const model = await loadModel(path, { contextLength: context });
  const inner = [];
  const source = {
    [Symbol.asyncIterator]: () => source,
    next: () => new Promise(() => {}),
    return() {
      inner.push(model.dispose());
      return { done: true };
    },
  };
  const next = failure(model.generateMany(source).next());
  const outer = model.dispose();
  assert.deepEqual(inner.length, 1);
  assert.equal(inner[0], outer);
  await outer;
  assert.equal((await next).code, "Disposed");
});

test("a session keeps the adapters that it was made with, and so do its forks", () =>
  withModel(async (model) => {
    const [a, b] = await Promise.all(
      [1, 2].map((seed) => model.loadAdapter(randomAdapter(path, { seed }), { name: `${seed}` })),
    );
    const options = { maxTokens: 12, ignoreEos: true, logprobs: 1 };
    const stack = [{ adapter: a, scale: 1 }];
    const session = model.session({ ...options, adapter: stack });
    const fork = session.fork();
    Object.assign(stack[0], { adapter: b, scale: -1 });
    stack.push({ adapter: "1" });
    const expected = await model.chat([{ role: "user", content: "Who?" }], { ...options, adapter: a });
    for (const one of [session, fork]) assert.deepEqual(essence(await one.send("Who?")), essence(expected));
  }));

test("a snapshot's adapter is found among equal ones by a scale that leads to its own", () =>
  withModel(async (model) => {
    const folder = randomAdapter(path);
    const load = (name, scale) => model.loadAdapter(folder, { name, scale });
    const original = await load("voice", 0.5);
    const session = model.session({ adapter: original, maxTokens: 8, logprobs: 1, ignoreEos: true });
    await session.send("Who?");
    const snapshot = await session.snapshot();
    const expected = essence(await session.send("When?"));
    await original.unload();
    await load("voice", 0);
    const { code, message } = await failure(model.restore(snapshot));
    assert.equal(code, "Incompatible");
    assert.match(message, /'voice' with scale 0\.5, to which no factor leads from the 0 that 'voice'/);
    await load("again", 2);
    assert.deepEqual(essence(await (await model.restore(snapshot)).send("When?")), expected);
  }));
