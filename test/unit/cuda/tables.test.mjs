// The tables of docs/cuda.md: made of what ptxas and the launchers say, and by no hand.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gpus, multiprocessors, occupancyOf } from "../../../scripts/cuda-gpus.mjs";
import { parseTable } from "../../../scripts/cuda-resources.mjs";
import { document, kernelTables, readTable, rooflineOf, withTables } from "../../../scripts/cuda-tables.mjs";

const scripts = new URL("../../../scripts/", import.meta.url);
const resources = parseTable(readFileSync(new URL("cuda-resources.tsv", scripts), "utf8"));

test("the document has the tables as the script prints them", () => {
  const text = readFileSync(document, "utf8");
  assert.equal(withTables(text), text, "node scripts/cuda-tables.mjs --update");
});

test("every kernel that is compiled is launched, and the other way round", () => {
  const kernels = readTable("cuda-kernels.tsv");
  assert.deepEqual(kernels.map(({ kernel }) => kernel).sort(), Object.keys(resources).sort());
  const tables = kernelTables();
  for (const { kernel } of kernels) assert.ok(tables.includes(`| \`${kernel}\` |`), kernel);
});

test("every kernel fits a multiprocessor of every target", () => {
  for (const { kernel, threads, shared } of readTable("cuda-kernels.tsv")) {
    for (const target of Object.keys(multiprocessors)) {
      const [registers, fixed] = resources[kernel][target];
      assert.ok(
        occupancyOf({ threads, registers, shared: shared + fixed }, target) > 0,
        `${kernel} ${target}`,
      );
    }
  }
});

test("occupancy is bound by warps, blocks, registers or shared memory", () => {
  assert.equal(occupancyOf({ threads: 128, registers: 32, shared: 0 }, "sm_80"), 1);
  assert.equal(occupancyOf({ threads: 32, registers: 32, shared: 0 }, "sm_80"), 0.5); // 32 blocks
  assert.equal(occupancyOf({ threads: 256, registers: 128, shared: 0 }, "sm_80"), 0.25); // 16 warps
  assert.equal(occupancyOf({ threads: 256, registers: 129, shared: 0 }, "sm_80"), 0.125); // as with 136
  assert.equal(occupancyOf({ threads: 128, registers: 255, shared: 0 }, "sm_89"), 8 / 48);
  assert.equal(occupancyOf({ threads: 128, registers: 32, shared: 48 * 1024 }, "sm_89"), 8 / 48); // 2 of 49 KiB
  assert.equal(occupancyOf({ threads: 128, registers: 32, shared: 99 * 1024 }, "sm_120"), 4 / 48);
  assert.equal(occupancyOf({ threads: 128, registers: 32, shared: 99 * 1024 + 1 }, "sm_120"), 0);
});

test("a roofline is the longer of moving and computing", () => {
  const [a100] = gpus;
  const light = { bytes: 2039e6, operations: 1, unit: "f16" };
  assert.deepEqual(rooflineOf(light, a100), { seconds: 1e-3, bound: "memory" });
  const heavy = { bytes: 1, operations: 312e9, unit: "f16" };
  assert.deepEqual(rooflineOf(heavy, a100), { seconds: 1e-3, bound: "arithmetic" });
});

test("a step reads each weight once", () => {
  const work = readTable("cuda-work.tsv").filter(({ step }) => step === "decode 1 row at 1024");
  const products = work.filter(({ op }) => op.startsWith("product"));
  const operations = products.reduce((sum, line) => sum + line.times * line.operations, 0);
  const parameters = 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192) + 128256 * 2048;
  assert.equal(operations, 2 * parameters);
  const bytes = products.reduce((sum, line) => sum + line.times * line.bytes, 0);
  assert.ok(bytes > (parameters * 4.5) / 8 && bytes < (parameters * 7) / 8); // Q4_K and Q6_K
});
