// The tables of docs/cuda.md:
//
//   node scripts/cuda-tables.mjs            prints them
//   node scripts/cuda-tables.mjs --update   writes them between the marks of docs/cuda.md
//
// They are made of cuda-resources.tsv (ptxas: scripts/cuda-resources.mjs), of cuda-kernels.tsv and cuda-work.tsv (the
// launchers: test/native/gpu/launches_test.cc) and of the figures in cuda-gpus.mjs.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gpus, occupancyOf } from "./cuda-gpus.mjs";
import { parseTable } from "./cuda-resources.mjs";

const pathOf = (name) => fileURLToPath(new URL(name, import.meta.url));
export const document = pathOf("../docs/cuda.md");

/** Lines of a table with a header, as objects; numbers where a cell is one. */
export function readTable(name) {
  const [header, ...rows] = readFileSync(pathOf(name), "utf8").trimEnd().split("\n");
  const keys = header.split("\t");
  const value = (cell) => (/^\d+$/.test(cell) ? Number(cell) : cell);
  return rows.map((row) => Object.fromEntries(row.split("\t").map((cell, i) => [keys[i], value(cell)])));
}

const markdown = (header, rows, numbers = header.length - 1) =>
  [header, header.map((_, i) => (i < header.length - numbers ? "---" : "--:")), ...rows]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");

const percent = (share) => `${Math.round(share * 100)} %`;

/** Three significant digits, in a unit that fits. */
function scaled(value, units) {
  const unit = units.find(([size]) => value >= size) ?? units.at(-1);
  const number = value / unit[0];
  return `${number >= 100 ? number.toFixed(0) : number.toPrecision(3)} ${unit[1]}`;
}
const bytesText = (value) =>
  scaled(value, [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
    [1, "B"],
  ]);
const operationsText = (value) =>
  scaled(value, [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
    [1, ""],
  ]).trimEnd();
const timeText = (seconds) =>
  scaled(seconds, [
    [1, "s"],
    [1e-3, "ms"],
    [1e-6, "µs"],
    [1e-9, "ns"],
  ]);

export function gpuTable() {
  const tera = (value) => (value / 1e12).toFixed(1);
  const rows = gpus.map((gpu) => [
    gpu.board,
    gpu.source,
    gpu.target,
    gpu.multiprocessors,
    `${gpu.bandwidth / 1e9} GB/s`,
    ...[gpu.f16, gpu.int8, gpu.f32].map(tera),
  ]);
  return markdown(
    ["GPU", "source", "target", "SMs", "memory", "f16 → f32 TFLOPS", "int8 TOPS", "f32 TFLOPS"],
    rows,
    5,
  );
}

/** Which rows of the kernel table stand together, by the beginnings of names. */
const families = [
  ["Matrix products", /^matmul_/],
  ["Attention", /^attention_/],
  ["Rows", /^(norm|gated|rope|adapter|head)_/],
  ["Embeddings", /^embed_/],
  ["Packing and copying", /^(pack_|copy_)/],
];

export function kernelTables() {
  const resources = parseTable(readFileSync(pathOf("cuda-resources.tsv"), "utf8"));
  const kernels = readTable("cuda-kernels.tsv");
  const row = ({ kernel, threads, shared }) => {
    const registers = (target) => resources[kernel][target][0];
    const occupancy = gpus.map(({ target }) =>
      percent(
        occupancyOf(
          { threads, registers: registers(target), shared: shared + resources[kernel][target][1] },
          target,
        ),
      ),
    );
    return [`\`${kernel}\``, threads, ...["sm_80", "sm_90", "sm_120"].map(registers), shared, ...occupancy];
  };
  const header = ["kernel", "threads", "sm_80", "sm_90", "sm_120", "shared", ...gpus.map(({ name }) => name)];
  return families
    .map(([name, pattern]) => {
      const rows = kernels.filter(({ kernel }) => pattern.test(kernel)).map(row);
      return `**${name}**\n\n${markdown(header, rows)}`;
    })
    .join("\n\n");
}

/** The time a GPU cannot go below: to move the bytes, or to do the operations. */
export function rooflineOf({ bytes, operations, unit }, gpu) {
  const memory = bytes / gpu.bandwidth;
  const arithmetic = operations / gpu[unit];
  return { seconds: Math.max(memory, arithmetic), bound: memory >= arithmetic ? "memory" : "arithmetic" };
}

function workRow(work) {
  const roofs = gpus.map((gpu) => rooflineOf(work, gpu));
  const cell = ({ seconds, bound }) => `${timeText(seconds)}${bound === "arithmetic" ? " *" : ""}`;
  return [bytesText(work.bytes), operationsText(work.operations), work.unit, ...roofs.map(cell)];
}

const names = gpus.map(({ name }) => name);

export function stepTables() {
  const work = readTable("cuda-work.tsv").filter(({ times }) => times > 0);
  const steps = [...new Set(work.map(({ step }) => step))];
  return steps
    .map((step) => {
      const lines = work.filter((line) => line.step === step);
      const rows = lines.map((line) => [
        line.op,
        `\`${line.kernel}\``,
        line.times,
        line.blocks,
        ...workRow(line),
      ]);
      const total = (gpu) => lines.reduce((sum, line) => sum + line.times * rooflineOf(line, gpu).seconds, 0);
      const bytes = lines.reduce((sum, line) => sum + line.times * line.bytes, 0);
      const operations = lines.reduce((sum, line) => sum + line.times * line.operations, 0);
      const launches = lines.reduce((sum, line) => sum + line.times, 0);
      rows.push([
        "**the step**",
        "",
        launches,
        "",
        bytesText(bytes),
        operationsText(operations),
        "",
        ...gpus.map((gpu) => timeText(total(gpu))),
      ]);
      const header = ["operation", "kernel", "launches", "blocks", "bytes", "operations", "unit", ...names];
      return `**${step[0].toUpperCase()}${step.slice(1)}**\n\n${markdown(header, rows, 9)}`;
    })
    .join("\n\n");
}

export function formTable() {
  const work = readTable("cuda-work.tsv").filter(({ times }) => times === 0);
  const rows = work.map((line) => [line.op, line.step, `\`${line.kernel}\``, line.blocks, ...workRow(line)]);
  return markdown(
    ["operation", "rows", "kernel", "blocks", "bytes", "operations", "unit", ...names],
    rows,
    8,
  );
}

export const tables = { gpus: gpuTable, kernels: kernelTables, steps: stepTables, forms: formTable };

/** The document's text with all tables as they are now. */
export function withTables(text) {
  return Object.entries(tables).reduce((result, [name, table]) => {
    const [begin, end] = [`<!-- table: ${name} -->`, "<!-- end -->"];
    const from = result.indexOf(begin);
    const to = result.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`docs/cuda.md has no place for the table ${name}`);
    return `${result.slice(0, from)}${begin}\n${table()}\n${result.slice(to)}`;
  }, text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes("--update")) writeFileSync(document, withTables(readFileSync(document, "utf8")));
  else for (const table of Object.values(tables)) console.log(`${table()}\n`);
}
