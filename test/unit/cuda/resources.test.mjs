// What is made of ptxas's words on the GPU kernels.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { findProblems, formatTable, parsePtxas, parseTable } from "../../../scripts/cuda-resources.mjs";

const logOf = (target, { registers = 40, spills = [0, 0, 0], shared = "" } = {}) => `\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'norm_rows' for '${target}'
ptxas info    : Function properties for norm_rows
    ${spills[0]} bytes stack frame, ${spills[1]} bytes spill stores, ${spills[2]} bytes spill loads
ptxas info    : Used ${registers} registers, used 1 barriers,${shared} 440 bytes cmem[0]
ptxas info    : Compile time = 5.000 ms
ptxas info    : Compiling entry function 'embed' for '${target}'
ptxas info    : Function properties for embed
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers, used 0 barriers, 400 bytes cmem[0]
`;

const both = (change) => [...parsePtxas(logOf("sm_80")), ...parsePtxas(logOf("sm_120", change))];

test("a log gives each kernel's registers, shared memory and spills", () => {
  assert.deepEqual(parsePtxas(logOf("sm_90", { spills: [16, 8, 4], shared: " 64 bytes smem," })), [
    { kernel: "norm_rows", target: "sm_90", registers: 40, shared: 64, spilled: 28 },
    { kernel: "embed", target: "sm_90", registers: 16, shared: 0, spilled: 0 },
  ]);
});

test("the table is what was written, and has nothing against what it was made of", () => {
  const table = parseTable(formatTable(both()));
  assert.deepEqual(table.norm_rows, { sm_80: [40, 0], sm_120: [40, 0] });
  assert.deepEqual(findProblems(both(), table), []);
  assert.deepEqual(findProblems(both({ registers: 39 }), table), []);
});

test("spills, growth and kernels that only one side knows are problems", () => {
  const table = parseTable(formatTable(both()));
  const problemsOf = (change) => findProblems(both(change), table);
  assert.match(problemsOf({ registers: 41 }).join(), /^norm_rows for sm_120: 41\/0, up from 40\/0$/);
  assert.match(
    problemsOf({ shared: " 8 bytes smem," }).join(),
    /^norm_rows for sm_120: 40\/8, up from 40\/0$/,
  );
  assert.match(
    problemsOf({ spills: [0, 4, 4] }).join(),
    /^norm_rows for sm_120: 8 bytes of stack and spills$/,
  );
  const { embed: _, ...less } = table;
  assert.deepEqual(findProblems(both(), less).length, 2);
  const more = { ...table, gone: { sm_80: [1, 0], sm_75: [1, 0] } };
  assert.deepEqual(findProblems(both(), more), ["gone for sm_80 is in the table alone"]);
});

test("the committed table has all targets for every kernel", () => {
  const path = new URL("../../../scripts/cuda-resources.tsv", import.meta.url);
  assert.ok(existsSync(path));
  const table = parseTable(readFileSync(path, "utf8"));
  assert.ok(Object.keys(table).length > 10);
  for (const [kernel, cells] of Object.entries(table))
    assert.deepEqual(Object.keys(cells), ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"], kernel);
});
