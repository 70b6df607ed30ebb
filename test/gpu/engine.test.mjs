// The whole engine on emulated GPUs: the backend's own kernels, run and checked on the CPU, against the reference
// executor. Needs a build with TOKENMILL_GPU_TESTS, whose library TOKENMILL_EMULATED_LIBRARY names.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { root, tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

const library =
  process.env.TOKENMILL_EMULATED_LIBRARY ?? join(root, "build-gpu/gpu-tests/libemulated_device.so");
const skip = existsSync(library) ? false : `${library} is not there: build with TOKENMILL_GPU_TESTS`;
const fixture = (name) => join(root, "test/fixtures/model/tiny", `${name}.gguf`);
const greedy = { maxTokens: 12, ignoreEos: true };
process.env.TOKENMILL_CUDA_LIBRARY = library;
process.env.TOKENMILL_ISA = "reference";
process.env.TOKENMILL_INTEGRITY = "1";

const tokens = (seed, length) => Array.from({ length }, (_, i) => 3 + ((seed * 31 + i * i * 7 + i) % 200));

/** What `use` makes of a model on the CPU's reference path, and on emulated GPUs. */
async function onBoth(path, options, use) {
  const results = [];
  for (const device of ["cpu", "cuda"]) {
    const model = await loadModel(path, { ...options, device });
    assert.equal(model.info.device.type, device);
    results.push(await use(model));
    await model.dispose();
  }
  return results;
}

for (const [name, path] of [
  ["llama", tinyModel()],
  ["gemma3", fixture("gemma3")],
]) {
  test(`${name}: greedy replies are those of the reference path`, { skip }, async () => {
    const [cpu, gpu] = await onBoth(path, { precision: "high", contextLength: 128 }, async (model) => {
      const replies = [3, 20, 41].map((length) => model.generate(tokens(length, length), greedy));
      return (await Promise.all(replies)).map((reply) => reply.tokens);
    });
    assert.deepEqual(gpu, cpu);
  });
}

test("replies do not depend on what else runs or on how prompts are cut", { skip }, async () => {
  const path = tinyModel();
  const prompts = [5, 17, 30].map((length) => tokens(length, length));
  const drawn = { ...greedy, temperature: 0.8, seed: 7, logprobs: 2 };
  const runs = [];
  for (const options of [{}, { maxBatchTokens: 7 }, { maxBatchTokens: 3, prefixCache: false }]) {
    const model = await loadModel(path, { device: "cuda", contextLength: 128, ...options });
    const together = await Promise.all(prompts.map((prompt) => model.generate(prompt, drawn)));
    const alone = await model.generate(prompts[1], drawn);
    await model.dispose();
    runs.push([...together, alone].map(({ tokens, logprobs }) => ({ tokens, logprobs })));
    assert.deepEqual(runs.at(-1)[3], runs.at(-1)[1]);
  }
  assert.deepEqual(runs[1], runs[0]);
  assert.deepEqual(runs[2], runs[0]);
});

test("adapters, prefix hits and sessions give what the reference path gives", { skip }, async () => {
  const path = tinyModel();
  const [cpu, gpu] = await onBoth(path, { precision: "high", contextLength: 128 }, async (model) => {
    const adapter = await model.loadAdapter(randomAdapter(path, { seed: 1 }));
    const prompt = tokens(9, 40);
    const [plain, adapted] = await Promise.all([
      model.generate(prompt, greedy),
      model.generate(prompt, { ...greedy, adapter }),
    ]);
    const again = await model.generate(prompt, greedy);
    assert.ok(again.usage.cachedTokens >= 16);
    assert.deepEqual(again.tokens, plain.tokens);
    const session = model.session();
    const turns = [];
    for (const text of ["Hello", "And?"]) turns.push((await session.send(text, greedy)).tokens);
    return [plain.tokens, adapted.tokens, turns];
  });
  assert.deepEqual(gpu, cpu);
  assert.notDeepEqual(gpu[0], gpu[1]);
});

test("two devices give the bits of one", { skip }, async () => {
  const path = tinyModel({ layers: 4 });
  const runs = [];
  for (const devices of ["1", "2"]) {
    process.env.TOKENMILL_EMULATED_DEVICES = devices;
    const model = await loadModel(path, { device: "cuda", contextLength: 128 });
    const { logprobs } = await model.score(tokens(4, 20));
    runs.push([(await model.generate(tokens(3, 9), greedy)).tokens, logprobs]);
    await model.dispose();
  }
  process.env.TOKENMILL_EMULATED_DEVICES = "";
  assert.deepEqual(runs[1], runs[0]);
});
