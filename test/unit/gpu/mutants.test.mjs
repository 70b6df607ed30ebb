// The mutation suite breaks what it should, where it should, and enough of it.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { applied, mutantsOf } from "../../mutants/rules.mjs";

const source = `#include "kernels/cuda/gpu.h"
// gpu::sync_block();
GPU_FN void Copy(const Params& p) {
  gpu::cp_async16(&s.x[4 * i], p.x + i, i < p.n);
  gpu::cp_async_commit();
  gpu::cp_async_wait<1>();
  gpu::sync_block();  // for all: a < b
  if (row >= p.rows) return;
  float sums[4];
  gpu::mma_f16(sums, a, b[1]);
}
#ifndef __CUDACC__
Status Launch() { gpu::sync_block(); }
#endif
`;

function linesAfter(rule) {
  return mutantsOf("copy.cu", source)
    .filter((mutant) => mutant.rule === rule)
    .map(({ line, after }) => `${line}: ${after.trim()}`);
}

test("each barrier, wait and commit of a kernel is removed", () => {
  assert.deepEqual(linesAfter("no sync_block"), ["7: ;"]);
  assert.deepEqual(linesAfter("no cp_async_commit"), ["5: ;"]);
  assert.deepEqual(linesAfter("no cp_async_wait"), ["6: ;"]);
  assert.deepEqual(linesAfter("waits for one group less"), ["6: gpu::cp_async_wait<2>();"]);
});

test("bounds, fragments and arguments are changed, declarations and comments are not", () => {
  assert.deepEqual(linesAfter("bound one further"), ["4: gpu::cp_async16(&s.x[4 * i], p.x + i, i <= p.n);"]);
  assert.deepEqual(linesAfter("always valid"), ["4: gpu::cp_async16(&s.x[4 * i], p.x + i);"]);
  assert.deepEqual(linesAfter("other fragment"), ["10: gpu::mma_f16(sums, a, b[0]);"]);
  assert.deepEqual(linesAfter("no early end"), ["8: if (row >= p.rows) {}"]);
});

test("a mutant changes its line alone, and is the same wherever the line stands", () => {
  const [mutant] = mutantsOf("copy.cu", source);
  const before = source.split("\n");
  const after = applied(source, mutant).split("\n");
  assert.deepEqual(
    after.flatMap((line, index) => (line === before[index] ? [] : [index + 1])),
    [mutant.line],
  );
  const ids = (text) => mutantsOf("copy.cu", text).map(({ id }) => id);
  assert.deepEqual(ids(`\n\n${source}`), ids(source));
});

test("the kernels have at least 120, and every one that waits or fences is among them", () => {
  const folder = fileURLToPath(new URL("../../../native/kernels/cuda", import.meta.url));
  const files = readdirSync(folder).filter((name) => /\.(cu|h)$/.test(name) && !/^gpu/.test(name));
  const texts = files.map((name) => [name, readFileSync(join(folder, name), "utf8")]);
  const mutants = texts.flatMap(([name, text]) => mutantsOf(name, text));
  assert.ok(mutants.length >= 120, `${mutants.length} mutants`);
  for (const call of ["sync_block", "sync_warp", "cp_async_commit", "fence_device"]) {
    const calls = texts.flatMap(
      ([, text]) => text.match(new RegExp(`^[^/\n]*gpu::${call}\\(\\);`, "gm")) ?? [],
    );
    assert.equal(mutants.filter(({ rule }) => rule === `no ${call}`).length, calls.length, call);
  }
});
