// node translate.mjs IN.ptx OUT.cc: nvcc's PTX as C++ for the emulator's runtime, the second, independent check of the
// kernels. Instructions mean what the PTX ISA says, in ptx_*.h; memory checks and scheduling are the emulator's. What
// is not known, be it an opcode, a modifier or an operand, stops the translation with the line.
//
// node translate.mjs --coverage IN.ptx…: which opcodes the kernels use.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { emit } from "./emit.mjs";
import { parse } from "./parse.mjs";
import { PtxError } from "./types.mjs";

export function translate(text, source) {
  return emit(parse(text), source);
}

/** opcode with its modifiers → how often it occurs */
function countOpcodes(module, counts) {
  for (const { statements } of module.kernels) {
    for (const { kind, opcode } of statements) {
      if (kind === "instruction") counts.set(opcode, (counts.get(opcode) ?? 0) + 1);
    }
  }
}

function printCoverage(files) {
  const targets = new Map();
  for (const file of files) {
    const module = parse(readFileSync(file, "utf8"));
    if (!targets.has(module.target)) targets.set(module.target, new Map());
    countOpcodes(module, targets.get(module.target));
  }
  for (const [target, counts] of targets) {
    const bases = new Set([...counts.keys()].map((opcode) => opcode.split(".")[0]));
    console.log(`${target}: ${counts.size} opcodes, ${bases.size} base names`);
    for (const [opcode, count] of [...counts].sort()) console.log(`  ${String(count).padStart(6)} ${opcode}`);
  }
}

function main([first, second, ...rest]) {
  if (first === "--coverage") return printCoverage([second, ...rest]);
  try {
    writeFileSync(second, translate(readFileSync(first, "utf8"), basename(first)));
  } catch (error) {
    if (!(error instanceof PtxError)) throw error;
    console.error(`${first}: ${error.message}`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
