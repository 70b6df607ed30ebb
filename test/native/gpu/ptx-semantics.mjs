// node ptx-semantics.mjs OUT: from ptx_semantics.txt, writes OUT/ptx_semantics.ptx.cc, a translated kernel that carries
// out every instruction of the table, and OUT/ptx_semantics.inc, the table's inputs and results for the test.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { translate } from "../../../native/kernels/cuda/ptxcheck/translate.mjs";

const slots = 8; // 64-bit inputs and results of a case

function readCase(line) {
  const [, instruction, inputs, results] = /^(.*?) : ?(.*?) ?= (.*)$/.exec(line) ?? [];
  if (!instruction) throw new Error(`not a case: ${line}`);
  const words = (text) => text.split(" ").filter(Boolean);
  return { instruction, inputs: words(inputs), results: words(results) };
}

/** The registers that an instruction names, each once, by their index. */
function registersOf({ instruction }) {
  return [...new Set(instruction.match(/%[hrdp]\d/g))].sort((a, b) => a[2] - b[2]);
}

function loadInput(register, slot) {
  const from = `[%in+${8 * slot}]`;
  const kind = register[1];
  if (kind === "p") return [`ld.global.u32 %scratch, ${from};`, `setp.ne.u32 ${register}, %scratch, 0;`];
  return [`ld.global.b${{ h: 16, r: 32, d: 64 }[kind]} ${register}, ${from};`];
}

function storeResult(register, slot) {
  const kind = register[1];
  const widen = { h: "cvt.u64.u16", r: "cvt.u64.u32", d: "mov.b64" }[kind];
  const value = kind === "p" ? `selp.b64 %result, 1, 0, ${register};` : `${widen} %result, ${register};`;
  return [value, `st.global.b64 [%out+${8 * slot}], %result;`];
}

function emitCase(entry, index) {
  const registers = registersOf(entry);
  const inputs = registers.filter((register) => register[2] !== "0" && register[2] !== "9");
  const results = registers.filter((register) => !inputs.includes(register));
  if (inputs.length !== entry.inputs.length || results.length !== entry.results.length) {
    throw new Error(`other numbers of values than of registers: ${entry.instruction}`);
  }
  const lines = [
    ...inputs.flatMap((register, at) => loadInput(register, index * slots + at)),
    `${entry.instruction};`,
    ...results.flatMap((register, at) => storeResult(register, index * slots + at)),
  ];
  return [
    "{",
    ".reg .b16 %h<10>;",
    ".reg .b32 %r<10>;",
    ".reg .b64 %d<10>;",
    ".reg .pred %p<10>;",
    ...lines,
    "}",
  ];
}

function emitPtx(cases) {
  return `.version 9.0
.target sm_80
.address_size 64
.visible .entry ptx_semantics(.param .align 8 .b8 params[16])
.maxntid 32
{
.reg .b64 %in, %out, %result;
.reg .b32 %scratch;
.reg .pred %other;
mov.u32 %scratch, %tid.x;
setp.ne.u32 %other, %scratch, 0;
@%other ret;
ld.param.u64 %in, [params];
ld.param.u64 %out, [params+8];
${cases.flatMap(emitCase).join("\n")}
ret;
}
`;
}

function emitTable(cases) {
  const list = (words) => `{${words.map((word) => `0x${word}`).join(", ")}}`;
  return cases
    .map(({ instruction, inputs, results }) => {
      return `{${JSON.stringify(`${instruction} : ${inputs.join(" ")}`)}, ${list(inputs)}, ${list(results)}},`;
    })
    .join("\n");
}

const [out] = process.argv.slice(2);
const table = readFileSync(fileURLToPath(new URL("ptx_semantics.txt", import.meta.url)), "utf8");
const cases = table
  .split("\n")
  .filter((line) => line && !line.startsWith("#"))
  .map(readCase);
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "ptx_semantics.ptx.cc"), translate(emitPtx(cases), "ptx_semantics.ptx"));
writeFileSync(join(out, "ptx_semantics.inc"), `${emitTable(cases)}\n`);
