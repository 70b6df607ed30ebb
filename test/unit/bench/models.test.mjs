import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { costsOf, prefillOperations, readModel } from "../../../bench/models/costs.mjs";
import { halfOf } from "../../../bench/models/half.mjs";
import { writeSyntheticModel } from "../../../bench/models/synthetic-gguf.mjs";

const { loadModel } = createRequire(import.meta.url)("../../../dist/index.js");
const folder = mkdtempSync(join(tmpdir(), "tokenmill-bench-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const layer = { name: "blk.0.ffn_up.weight", type: "Q4_0", shape: [64, 32], bytes: 1152 };
const norm = { name: "blk.0.attn_norm.weight", type: "F32", shape: [64], bytes: 256 };
const table = { name: "token_embd.weight", type: "Q8_0", shape: [64, 100], bytes: 6800 };
const head = { name: "output.weight", type: "Q8_0", shape: [64, 100], bytes: 6800 };

test("an embedding table counts only where it is the head", () => {
  const tied = costsOf([table, norm, layer]);
  assert.deepEqual(tied, { layerMacs: 2048, headMacs: 6400, stepBytes: 8208, isQuantized: true });
  const untied = costsOf([table, norm, layer, head]);
  assert.deepEqual(untied, { layerMacs: 2048, headMacs: 6400, stepBytes: 8208, isQuantized: true });
  assert.equal(costsOf([table, norm, { ...layer, type: "BF16" }]).isQuantized, false);
  assert.equal(prefillOperations(tied, 512), 2 * (2048 * 512 + 6400));
});

test("halfOf rounds to the nearest f16", () => {
  assert.deepEqual([1, -2, 0.5, 65504, 1 / 3, 1e-9].map(halfOf), [0x3c00, 0xc000, 0x3800, 0x7bff, 0x3555, 0]);
});

for (const type of ["F16", "BF16", "Q4_0", "Q8_0"]) {
  test(`a synthetic model of type ${type} has its shapes, loads and answers`, async () => {
    const path = join(folder, `${type}.gguf`);
    await writeSyntheticModel(path, "tiny", type);
    const { vocabularySize, layerMacs, headMacs, isQuantized } = readModel(path);
    assert.equal(vocabularySize, 512);
    assert.equal(headMacs, 512 * 256);
    assert.equal(layerMacs, 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512));
    assert.equal(isQuantized, type.startsWith("Q"));
    const model = await loadModel(path, { contextLength: 256 });
    const { tokens } = await model.generate([65, 66, 67], { maxTokens: 20, ignoreEos: true });
    assert.equal(tokens.length, 20);
    const { logprobs } = await model.score([65, 66, 67, 68]);
    assert.ok(logprobs.slice(1).every(Number.isFinite));
    await model.dispose();
  });
}
