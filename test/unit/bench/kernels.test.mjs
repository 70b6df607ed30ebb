import assert from "node:assert/strict";
import { test } from "node:test";
import { describeKernels } from "../../../bench/kernels/command.mjs";
import { summarizeKernel } from "../../../bench/kernels/summary.mjs";

const peak = (perCycle) => ({ kernel: "k", operationsPerSecond: 1e12, perCycle, issueRate: 2, clockGhz: 4 });
const limits = { integer: peak(2), float: peak(1.5), read: { bytes: 1e8, bytesPerSecond: 1e10 } };
const names = { op: "matmul", format: "Q4_0", shape: "s" };

test("the fraction is of what binds: reading for a row, arithmetic for many", () => {
  const measure = {
    ...names,
    bytes: 1e6,
    integer: true,
    seconds: [4e-4, 2e-4, 3e-4],
    referenceSeconds: 3e-3,
  };
  const single = summarizeKernel({ ...measure, rows: "1", operations: 4e6 }, limits);
  assert.equal(single.fraction.of, "read");
  assert.ok(Math.abs(single.fraction.median - 1 / 3) < 1e-9);
  assert.ok(Math.abs(single.timesReference - 10) < 1e-9);
  assert.ok(Math.abs(single.microseconds.best - 200) < 1e-9);
  const many = summarizeKernel({ ...measure, rows: "512", operations: 2e8 }, limits);
  assert.equal(many.fraction.of, "integer peak");
  assert.ok(Math.abs(many.fraction.best - 1) < 1e-9);
});

test("without a valid peak the fraction is void, and a reference that was not run is left out", () => {
  const measure = { ...names, rows: "1", operations: 1, bytes: 1e6, integer: false, seconds: [1e-3] };
  const summary = summarizeKernel({ ...measure, referenceSeconds: 0 }, limits);
  assert.deepEqual(summary.fraction, { void: true });
  assert.equal(summary.timesReference, undefined);
  assert.match(describeKernels([summary]), /^matmul +Q4_0 +s +1 +1000 \(1000\) +void +–$/m);
});
