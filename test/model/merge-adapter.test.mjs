// Models with an adapter merged in, against PEFT + transformers (test/oracle/make_adapters.py), and what merging keeps.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { loadModel, mergeAdapter } from "../../dist/index.mjs";
import { failure } from "../support/failure.mjs";
import { root, temporaryFile } from "../support/models.mjs";
import { quantizedModel } from "./merge-models.mjs";

const adapters = join(root, "test/fixtures/adapter/tiny");
const models = join(root, "test/fixtures/model/tiny");
const names = readdirSync(adapters)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(/\.json$/, ""));
const scratch = dirname(temporaryFile(""));
let outputs = 0;
const nextOutput = () => join(scratch, `merged-${outputs++}.gguf`);

const loaded = [];
after(() => Promise.all(loaded.map((model) => model.dispose())));

/** Log-probabilities of the tokens, by the model in the file. */
async function score(path, tokens) {
  const model = await loadModel(path, { precision: "high", packedCache: false });
  loaded.push(model);
  return (await model.score(tokens)).logprobs.slice(1);
}

async function merge(model, adapter, options = {}) {
  const output = nextOutput();
  await mergeAdapter(model, adapter, output, options);
  return output;
}

const readExpected = (name) => JSON.parse(readFileSync(join(adapters, `${name}.json`), "utf8"));

function largestDifference(a, b) {
  assert.equal(a.length, b.length);
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));
}

for (const name of names) {
  const { model, tokens, nextLogprobs } = readExpected(name);
  const base = join(models, model);
  for (const file of [name, `${name}.gguf`]) {
    if (!readdirSync(adapters).includes(file)) continue;
    test(`${file}: merged into f32 weights it gives PEFT's log-probabilities`, async () => {
      const merged = await merge(base, join(adapters, file), { type: "F32" });
      const worst = largestDifference(await score(merged, tokens), nextLogprobs);
      assert.ok(worst <= 0.02, `the largest difference is ${worst}`);
    });
  }
}

test("merged at scale 0 it gives the base model, at scale 1 and then -1 too", async () => {
  const { model, tokens } = readExpected("llama-patterns-f16");
  const base = join(models, model);
  const adapter = join(adapters, "llama-patterns-f16");
  const plain = await score(base, tokens);
  const nothing = await merge(base, adapter, { scale: 0 });
  assert.deepEqual(await score(nothing, tokens), plain);
  const back = await merge(await merge(base, adapter), adapter, { scale: -1 });
  assert.ok(largestDifference(await score(back, tokens), plain) <= 1e-3);
});

test("the output does not depend on the threads, and metadata and other tensors are the model's", async () => {
  const { model } = readExpected("mistral-attention-f16");
  const base = join(models, model);
  const adapter = join(adapters, "mistral-attention-f16");
  const one = await merge(base, adapter, { threads: 1 });
  const two = await merge(base, adapter, { threads: 2 });
  assert.deepEqual(readFileSync(one), readFileSync(two));
  const { native } = (await import("../../dist/native.js")).default;
  const [before, merged] = [base, one].map((path) => native().inspectGguf(path));
  assert.deepEqual(merged.metadata, before.metadata);
  const bytesOf = (path, { offset, bytes }) => readFileSync(path).subarray(offset, offset + bytes);
  for (const [i, tensor] of before.tensors.entries()) {
    const same = bytesOf(base, tensor).equals(bytesOf(one, merged.tensors[i]));
    assert.equal(same, !/attn_(q|k|v|output)\./.test(tensor.name), tensor.name);
    assert.equal(merged.tensors[i].type, tensor.type);
  }
});

test("a head that is the embedding too becomes a tensor of its own; the embedding stays", async () => {
  const base = join(models, "llama-tied.gguf");
  const merged = await merge(base, join(adapters, "llama-all-f32"));
  const { native } = (await import("../../dist/native.js")).default;
  const [before, after] = [base, merged].map((path) => native().inspectGguf(path).tensors);
  assert.deepEqual(
    after.map(({ name }) => name),
    [...before.map(({ name }) => name), "output.weight"],
  );
  const embedding = (path, tensors) => {
    const { offset, bytes } = tensors.find(({ name }) => name === "token_embd.weight");
    return readFileSync(path).subarray(offset, offset + bytes);
  };
  assert.deepEqual(embedding(base, before), embedding(merged, after));
});

test("in quantized weights what it adds is right within what quantizing costs", async () => {
  // The error of merging into Q8_0 is that of quantizing the merged weights, and not more.
  const { base, adapter } = await quantizedModel(scratch);
  const { f32, q8 } = { f32: base("F32"), q8: base("Q8_0") };
  const tokens = Array.from({ length: 48 }, (_, i) => (i * 37) % 250);
  const exact = await score(await merge(f32, adapter), tokens);
  const direct = largestDifference(await score(await merge(f32, adapter, { type: "Q8_0" }), tokens), exact);
  const merged = largestDifference(await score(await merge(q8, adapter), tokens), exact);
  const change = largestDifference(await score(f32, tokens), exact);
  assert.ok(change > 1, `the adapter changes ${change} nats at most`);
  assert.ok(direct < change / 10 && merged < change / 10, `${direct}, ${merged} of ${change}`);
});

test("merging refuses what is there, the model itself, and wrong options", async () => {
  const base = join(models, "llama-tied.gguf");
  const adapter = join(adapters, "llama-all-f32");
  const output = await merge(base, adapter);
  const before = readFileSync(output);
  assert.equal((await failure(mergeAdapter(base, adapter, output))).code, "InvalidArgument");
  assert.match(
    (await failure(mergeAdapter(base, adapter, base, { overwrite: true }))).message,
    /input itself/,
  );
  assert.match((await failure(mergeAdapter(base, adapter, "x", { type: "Q3" }))).message, /^type is "Q3"/);
  assert.match(
    (await failure(mergeAdapter(base, adapter, "x", { scale: Number.NaN }))).message,
    /^scale is NaN/,
  );
  assert.deepEqual(readFileSync(output), before);
});

test("an abort leaves nothing", async () => {
  const output = nextOutput();
  const signal = AbortSignal.abort(new Error("enough"));
  const error = await failure(
    mergeAdapter(join(models, "llama-tied.gguf"), join(adapters, "llama-all-f32"), output, { signal }),
  );
  assert.equal(error.code, "Aborted");
  assert.ok(!readdirSync(scratch).some((name) => name.startsWith(output)));
});
