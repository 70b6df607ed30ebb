// What the GPU kernels take of a multiprocessor, as ptxas says of a build with TOKENMILL_CUDA:
//
//   node scripts/cuda-resources.mjs FOLDER            fails on spills, and on more than the committed table has
//   node scripts/cuda-resources.mjs FOLDER --update   writes the table
//
// The table, scripts/cuda-resources.tsv, has a line a kernel and a column a target: registers of a thread / bytes of
// static shared memory of a block.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const tablePath = fileURLToPath(new URL("cuda-resources.tsv", import.meta.url));

/** What ptxas -v says: [{ kernel, target, registers, shared, spilled }], `spilled` with the stack in bytes. */
export function parsePtxas(log) {
  const kernels = [];
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '([^']+)' for '(sm_\d+)a?'/.exec(line);
    if (entry)
      kernels.push({ kernel: entry[1], target: entry[2], registers: undefined, shared: 0, spilled: 0 });
    const current = kernels.at(-1);
    if (!current) continue;
    const spills = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spills) current.spilled += spills.slice(1).reduce((sum, bytes) => sum + Number(bytes), 0);
    const used = /Used (\d+) registers/.exec(line);
    if (!used) continue;
    current.registers = Number(used[1]);
    current.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
  }
  return kernels;
}

/** { kernel: { target: [registers, shared] } } of a table's text. */
export function parseTable(text) {
  const [header = "", ...rows] = text.trimEnd().split("\n");
  const targets = header.split("\t").slice(1);
  const table = {};
  for (const row of rows) {
    const [kernel, ...cells] = row.split("\t");
    const pairs = targets.flatMap((target, i) =>
      cells[i] ? [[target, cells[i].split("/").map(Number)]] : [],
    );
    table[kernel] = Object.fromEntries(pairs);
  }
  return table;
}

const number = (target) => Number(target.slice("sm_".length));

export function formatTable(kernels) {
  const targets = [...new Set(kernels.map(({ target }) => target))].sort((a, b) => number(a) - number(b));
  const names = [...new Set(kernels.map(({ kernel }) => kernel))].sort();
  const cell = (name, target) => {
    const found = kernels.find(({ kernel, target: own }) => kernel === name && own === target);
    return found ? `${found.registers}/${found.shared}` : "";
  };
  const rows = names.map((name) => [name, ...targets.map((target) => cell(name, target))]);
  return `${[["kernel", ...targets], ...rows].map((row) => row.join("\t")).join("\n")}\n`;
}

/** What is wrong with kernels against a table: spills, growth, what only one of the two has. */
export function findProblems(kernels, table) {
  const problems = [];
  const seen = new Set();
  const targets = new Set(kernels.map(({ target }) => target));
  for (const { kernel, target, registers, shared, spilled } of kernels) {
    seen.add(`${kernel} ${target}`);
    if (registers === undefined) problems.push(`${kernel} for ${target}: ptxas does not say what it uses`);
    if (spilled > 0) problems.push(`${kernel} for ${target}: ${spilled} bytes of stack and spills`);
    const known = table[kernel]?.[target];
    if (!known) problems.push(`${kernel} for ${target} is not in the table`);
    else if (registers > known[0] || shared > known[1])
      problems.push(`${kernel} for ${target}: ${registers}/${shared}, up from ${known.join("/")}`);
  }
  for (const [kernel, cells] of Object.entries(table)) {
    for (const target of Object.keys(cells)) {
      if (targets.has(target) && !seen.has(`${kernel} ${target}`))
        problems.push(`${kernel} for ${target} is in the table alone`);
    }
  }
  return problems;
}

function main(folder, isUpdate) {
  const images = join(folder ?? "build-cuda", "cuda");
  const logs = readdirSync(images).filter((name) => name.endsWith(".cubin.log"));
  const kernels = logs.flatMap((name) => parsePtxas(readFileSync(join(images, name), "utf8")));
  if (kernels.length === 0) throw new Error(`no kernels in ${images}: build with TOKENMILL_CUDA first`);
  if (isUpdate) writeFileSync(tablePath, formatTable(kernels));
  const table = existsSync(tablePath) ? parseTable(readFileSync(tablePath, "utf8")) : {};
  const problems = findProblems(kernels, table);
  for (const problem of problems) console.error(problem);
  const targets = new Set(kernels.map(({ target }) => target));
  console.log(`${kernels.length / targets.size} kernels for ${[...targets].sort().join(", ")}`);
  if (problems.length === 0) return;
  console.error("after a change that is meant: node scripts/cuda-resources.mjs FOLDER --update");
  process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
  main(folder, process.argv.includes("--update"));
}
