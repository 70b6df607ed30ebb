// What computes is chosen, falls back and is told of. The GPU is the reference executor in a library that poses as one
// (test/native/library/reference_device.cc).
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { estimateMemory, loadModel } from "../../dist/index.mjs";
import { failure } from "../support/failure.mjs";
import { collect, nativeTests, temporaryFile, tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

const { chooseDevice } = createRequire(import.meta.url)("../../dist/device.js");
const library = join(nativeTests, "libreference_device.so");
const path = tinyModel();
const names = ["TOKENMILL_CUDA_LIBRARY", "TOKENMILL_TEST_DEVICE", "TOKENMILL_ISA"];
const before = names.map((name) => [name, process.env[name]]);
const isLinux64 = process.platform === "linux" && process.arch === "x64";

function set(environment) {
  for (const name of names) delete process.env[name];
  Object.assign(process.env, environment);
}

afterEach(() => {
  set(Object.fromEntries(before.filter(([, value]) => value !== undefined)));
});

const gpu = (mode) =>
  set({ TOKENMILL_CUDA_LIBRARY: library, ...(mode ? { TOKENMILL_TEST_DEVICE: mode } : {}) });

/** Loads, and gives the model with what was logged of its device. */
async function load(options, source = path) {
  const events = [];
  const model = await loadModel(source, { ...options, onLog: (event) => events.push(event) });
  const log = events.filter(({ message }) => /^(device|no GPU)/.test(message));
  return { model, log, device: model.info.device };
}

async function deviceOf(options) {
  const { model, log, device } = await load(options);
  await model.dispose();
  return { log, device };
}

test("what is no device is refused", async () => {
  for (const device of ["gpu", "CPU", "cuda:", "cuda:-1", "cuda:1.5", "cuda:1000", "auto ", 0, null, {}]) {
    for (const call of [loadModel, estimateMemory]) {
      const error = await failure(call(path, { device }));
      assert.equal(error.code, "InvalidArgument", JSON.stringify(device));
      assert.match(error.message, /device is .*"cuda:1"/);
    }
  }
});

test("the CPU is described as ever, and without GPUs it is what auto gives", async () => {
  set({});
  const { device, log } = await deviceOf({ device: "cpu" });
  assert.deepEqual(Object.keys(device).sort(), ["isa", "reason", "threads", "type"]);
  assert.doesNotMatch(device.reason, /GPU/);
  assert.equal(log.length, 1);
  const auto = await deviceOf({});
  const what = isLinux64
    ? "the package tokenmill-cuda-linux-x64 is not installed"
    : "there is no CUDA library";
  assert.deepEqual({ ...auto.device, reason: "" }, { ...device, reason: "" });
  assert.ok(auto.device.reason.startsWith(`${device.reason}; no GPU: ${what}`), auto.device.reason);
  assert.deepEqual(
    auto.log.map(({ level }) => level),
    [log[0].level, "debug"],
  );
  assert.ok(Object.isFrozen(auto.device));
});

test("auto without a library loads what cpu loads, so that both share an engine", async () => {
  set({});
  const models = await Promise.all([loadModel(path), loadModel(path, { device: "cpu" })]);
  await models[0].generate("Hello", { maxTokens: 2 });
  assert.equal(models[1].stats().finished, 1);
  await Promise.all(models.map((model) => model.dispose()));
});

test("looking for a library that is not there takes less than 5 ms", () => {
  set({});
  const times = Array.from({ length: 5 }, () => {
    const startMs = performance.now();
    chooseDevice();
    return performance.now() - startMs;
  });
  assert.ok(Math.min(...times) < 5, times.join(", "));
});

test("cuda without a library says what is missing and what to do", async () => {
  set({});
  for (const device of ["cuda", "cuda:1"]) {
    const error = await failure(loadModel(path, { device }));
    assert.equal(error.code, "DeviceUnavailable");
    assert.match(error.message, new RegExp(`device is "${device}" but .*(not installed|no CUDA library)`));
    assert.match(error.message, /npm install tokenmill-cuda-linux-x64.*TOKENMILL_CUDA_LIBRARY.*device "cpu"/);
  }
});

test("a file that is no library is named", async () => {
  set({ TOKENMILL_CUDA_LIBRARY: temporaryFile("no library", "so") });
  const error = await failure(loadModel(path, { device: "cuda" }));
  assert.equal(error.code, "DeviceUnavailable");
  assert.ok(error.message.includes(process.env.TOKENMILL_CUDA_LIBRARY));
  const { device, log } = await deviceOf({ device: "auto" });
  assert.equal(device.type, "cpu");
  assert.ok(device.reason.includes(process.env.TOKENMILL_CUDA_LIBRARY), device.reason);
  assert.equal(log[1].level, "warn");
});

test("a model runs on a GPU and gives what its executor gives", async () => {
  set({ TOKENMILL_ISA: "reference" });
  const options = { maxTokens: 24, ignoreEos: true };
  const messages = [{ role: "user", content: "What is this?" }];
  const cpu = await loadModel(path, { device: "cpu" });
  const expected = await cpu.chat(messages, options);
  const scored = await cpu.score("The mill grinds");
  await cpu.dispose();
  gpu();
  for (const choice of ["auto", "cuda", "cuda:0"]) {
    const { model, log, device } = await load({ device: choice });
    const { reason, ...found } = device;
    assert.deepEqual(found, { type: "cuda", name: "Reference GPU", index: 0, computeCapability: "8.9" });
    assert.match(reason, choice === "auto" ? /a GPU is there/ : /asks for it/);
    assert.deepEqual(
      log.map(({ level }) => level),
      ["info"],
    );
    assert.match(log[0].message, /^device: cuda:0, Reference GPU, compute capability 8\.9: /);
    const reply = model.chat(messages, options);
    await collect(reply);
    const drawn = model.chat(messages, { ...options, temperature: 1, seed: 1 });
    assert.deepEqual((await reply).tokens, expected.tokens);
    assert.equal((await drawn).tokens.length, 24);
    assert.deepEqual((await model.score("The mill grinds")).logprobs, scored.logprobs);
    await model.dispose();
  }
});

test("adapters, drafts, sessions and their snapshots work on a GPU", async () => {
  gpu();
  const { model } = await load({ device: "cuda" });
  const draft = await loadModel(tinyModel(), { device: "cuda", contextLength: 200 });
  const options = { maxTokens: 16, ignoreEos: true };
  const plain = await model.generate("The mill", options);
  const adapter = await model.loadAdapter(randomAdapter(path));
  const adapted = await model.generate("The mill", { ...options, adapter });
  assert.notDeepEqual(adapted.tokens, plain.tokens);
  assert.deepEqual((await model.generate("The mill", { ...options, draft })).tokens, plain.tokens);
  const session = model.session();
  await session.send("Hello", { maxTokens: 8 });
  const snapshot = await session.snapshot();
  const restored = await model.restore(snapshot);
  const again = [session, restored].map((one) => one.send("And then?", { maxTokens: 8 }));
  const [first, second] = await Promise.all(again);
  assert.deepEqual(first.tokens, second.tokens);
  await Promise.all([model.dispose(), draft.dispose()]);
});

test("auto with a driver or a GPU that is of no use gives the CPU and says why", async () => {
  for (const [mode, problem] of [
    ["none", /the driver's library libtest\.so was not found/],
    ["old", /cuda:0, Reference GPU: compute capability 7\.5/],
    ["version", /another version/],
  ]) {
    gpu(mode);
    const { device, log } = await deviceOf({});
    assert.equal(device.type, "cpu");
    assert.match(device.reason, problem);
    assert.equal("problem" in device, false);
    assert.equal(log[1].level, "warn");
    assert.match(log[1].message, problem);
    const error = await failure(loadModel(path, { device: "cuda" }));
    assert.equal(error.code, "DeviceUnavailable");
    assert.match(error.message, problem);
    assert.match(error.message, /device "cuda" was asked for but .*load with device "cpu"/);
  }
});

test("one of several GPUs can be named, and one that is not there is refused with those that are", async () => {
  gpu("two");
  const second = await deviceOf({ device: "cuda:1" });
  assert.deepEqual([second.device.name, second.device.index], ["Second GPU", 1]);
  const both = await deviceOf({ device: "cuda" });
  assert.equal(both.device.index, 0);
  assert.match(both.device.reason, /several: cuda:0, Reference GPU; cuda:1, Second GPU/);
  const error = await failure(loadModel(path, { device: "cuda:2" }));
  assert.equal(error.code, "DeviceUnavailable");
  assert.match(error.message, /GPU 2 .*cuda:0, Reference GPU; cuda:1, Second GPU/);
});

test("TOKENMILL_ISA asks for the CPU where the choice is free", async () => {
  gpu();
  process.env.TOKENMILL_ISA = "reference";
  assert.equal((await deviceOf({})).device.isa, "reference");
  assert.match((await deviceOf({})).device.reason, /TOKENMILL_ISA asks for the CPU/);
  assert.equal((await deviceOf({ device: "cuda" })).device.type, "cuda");
});

test("a share of memory is one of the device's, and what does not fit there goes to the CPU under auto", async () => {
  gpu();
  const { available, budget, fits } = await estimateMemory(path, {
    device: "cuda",
    memory: { budget: "25%" },
  });
  assert.deepEqual([available, budget, fits], [2 ** 33, 2 ** 31, true]);
  gpu("small");
  assert.equal((await estimateMemory(path, { device: "cuda" })).fits, false);
  const error = await failure(loadModel(path, { device: "cuda" }));
  assert.equal(error.code, "OutOfMemory");
  const { device } = await deviceOf({});
  assert.equal(device.type, "cpu");
  assert.match(device.reason, /no GPU: Reference GPU: the weights take .* the memory budget is 0 MiB/);
});

test("a GPU that holds little context is passed over unless that is what was asked for", async () => {
  gpu();
  const fixedOn = async (source, device) => {
    const { weights, scratch } = await estimateMemory(source, { device });
    return weights + scratch;
  };
  // Keys and values take twice as much there as on the CPU.
  const long = tinyModel({ context: 8192, layers: 8, dim: 512, feedForward: 512, heads: 8 });
  const fixed = Math.max(await fixedOn(long, "cuda"), await fixedOn(long, "cpu"));
  const memory = { budget: fixed + 20_000_000 };
  const { model, device } = await load({ memory }, long);
  await model.dispose();
  assert.match(device.reason, /no GPU: Reference GPU: its memory budget holds \d+ tokens of context/);
  const asked = await load({ memory, contextLength: 256 }, long);
  await asked.model.dispose();
  assert.equal(asked.device.type, "cuda");
  const tiny = tinyModel({ context: 8192 });
  const scarce = await load({ memory: { budget: (await fixedOn(tiny, "cuda")) + 500_000 } }, tiny);
  await scarce.model.dispose();
  assert.equal(scarce.device.type, "cuda", "the CPU would not hold it at all");
});
