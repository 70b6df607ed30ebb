// Headers of safetensors: what is sound is read, and whatever is done to one, its tensors tile the file or it is
// refused.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readSafetensors } from "../../../dist/adapters/safetensors.js";
import { TokenmillError } from "../../../dist/index.mjs";
import { factorsOf, layOut, safetensors } from "../../support/adapters.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-safetensors-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "adapter_model.safetensors");

async function read(bytes) {
  writeFileSync(path, bytes);
  return readSafetensors(path);
}

const tensors = factorsOf({ "model.layers.0.self_attn.q_proj": [8, 6], lm_head: [10, 4] }, 2);
const { header, data } = layOut(tensors);

test("each tensor's bytes are found, in whatever order the header names them, with spaces behind it", async () => {
  const entries = Object.entries(header);
  for (const order of [entries, [...entries].reverse()]) {
    const text = `${JSON.stringify(Object.fromEntries(order), null, 1)}     `;
    const bytes = safetensors(text, data);
    const file = await read(bytes);
    assert.equal(file.bytes, bytes.length);
    assert.deepEqual(
      file.tensors.map(({ name, rows, cols }) => [name, rows, cols]),
      tensors.map(({ name, shape }) => [name, ...shape]),
    );
    for (const [i, { offset, bytes: length }] of file.tensors.entries())
      assert.deepEqual(bytes.subarray(offset, offset + length), tensors[i].data);
  }
});

test("an empty tensor lies between others, and 16-bit types take half", async () => {
  const some = [
    { name: "a", dtype: "F16", shape: [3, 5], data: Buffer.alloc(30) },
    { name: "b", dtype: "F32", shape: [0, 5], data: Buffer.alloc(0) },
    { name: "c", dtype: "BF16", shape: [1, 1], data: Buffer.alloc(2) },
  ];
  const laid = layOut(some);
  const { tensors: found } = await read(safetensors(laid.header, laid.data));
  assert.deepEqual(
    found.map(({ name, dtype, bytes }) => [name, dtype, bytes]),
    [
      ["a", "F16", 30],
      ["b", "F32", 0],
      ["c", "BF16", 2],
    ],
  );
});

/** Numbers below a bound, the same each time. */
function numbers(seed) {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

test("of 2,000 changed files each is refused with a code, or its tensors tile it", async () => {
  const next = numbers(5);
  const good = safetensors(header, data);
  const digits = [...'0123456789{}[]",:-.eE \\u'].map((character) => character.charCodeAt(0));
  let accepted = 0;
  for (let round = 0; round < 2000; ++round) {
    let bytes = Buffer.from(good);
    for (let change = next(3); change >= 0; --change) {
      const at = next(good.length - data.length);
      const kind = next(10);
      if (kind < 8) bytes[at] = digits[next(digits.length)];
      else if (kind === 8) bytes[at] = next(256);
      else bytes = bytes.subarray(0, next(bytes.length));
      if (at >= bytes.length) break;
    }
    const file = await read(bytes).catch((error) => {
      assert.ok(TokenmillError.isInstance(error), String(error));
      assert.match(error.code, /^(CorruptFile|UnsupportedModel|UnsupportedQuantization)$/);
    });
    if (file === undefined) continue;
    ++accepted;
    let end = 8 + Number(bytes.readBigUInt64LE());
    for (const { offset, rows, cols, dtype, bytes: length } of file.tensors) {
      assert.equal(offset, end);
      assert.equal(length, rows * cols * (dtype === "F32" ? 4 : 2));
      end += length;
    }
    assert.equal(end, bytes.length);
  }
  assert.ok(accepted > 20 && accepted < 1000, `${accepted} were accepted`);
});
