// Every bad adapter is refused with its code, naming what is wrong: no model is written, and one that runs stays as it
// is.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readAdapter } from "../../../dist/adapters/read-adapter.js";
import { loadModel, mergeAdapter } from "../../../dist/index.mjs";
import { adapterFolder } from "../../support/adapters.mjs";
import { failure } from "../../support/failure.mjs";
import { tinyModel } from "../../support/models.mjs";
import { badAdapters, goodAdapter } from "./bad-adapters.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-bad-adapters-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const model = tinyModel();
const output = join(folder, "merged.gguf");
const merge = (files) => mergeAdapter(model, adapterFolder(folder, files), output);

const running = await loadModel(model, { contextLength: 64 });
after(() => running.dispose());
const say = async () => (await running.generate("The mill", { maxTokens: 8, logprobs: 1 })).logprobs;
const said = await say();

test("the table has a row for every kind of damage, each under a name of its own", () => {
  assert.equal(new Set(badAdapters.map(({ name }) => name)).size, badAdapters.length);
  assert.ok(badAdapters.length >= 60);
});

test("the adapter that the bad ones are made from is good", async () => {
  await merge(goodAdapter());
  rmSync(output);
  const adapter = await running.loadAdapter(adapterFolder(folder, goodAdapter()));
  await adapter.unload();
});

for (const { name, files, code, message } of badAdapters) {
  test(`${name}: ${code}`, async () => {
    const source = adapterFolder(folder, files());
    for (const use of [() => mergeAdapter(model, source, output), () => running.loadAdapter(source)]) {
      const error = await failure(use());
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      assert.match(error.message, /^[\P{Cc}]*$/u, "the message is one line of printable text");
    }
    assert.ok(!existsSync(output), "nothing is written");
    assert.deepEqual(running.adapters(), []);
    const { registered, bytes } = running.stats().adapters;
    assert.deepEqual([registered, bytes], [0, 0]);
    assert.deepEqual(await say(), said);
  });
}

test("copies of the base model's weights are passed over, whatever their shape and type", async () => {
  const layer = "base_model.model.model.layers.0.self_attn.q_proj.base_layer";
  const tensors = [
    { name: `${layer}.bias`, dtype: "F32", shape: [2], data: Buffer.alloc(8) },
    { name: `${layer}.weight`, dtype: "U8", shape: [6, 1], data: Buffer.alloc(6) },
    { name: `${layer}.weight.absmax`, dtype: "F32", shape: [1], data: Buffer.alloc(4) },
  ];
  const targetsOf = async (files) => {
    const { spec } = await readAdapter(adapterFolder(folder, files));
    return spec.entries.map(({ target }) => target);
  };
  assert.deepEqual(await targetsOf(goodAdapter(tensors)), await targetsOf(goodAdapter()));
});
