// `npm run bench -- compare A B`: what changed from one result to another.
import { createRequire } from "node:module";
import { compareFigures } from "../report/comparison.mjs";
import { figureColumns, figuresOf } from "../report/figures.mjs";
import { formatFigure, formatPercent } from "../report/format.mjs";
import { readResult } from "../report/result-file.mjs";

const require = createRequire(import.meta.url);
const { UsageError } = require("../../dist/cli/exit.js");
const { formatTable } = require("../../dist/cli/text.js");

const marks = { better: "better", worse: "WORSE", noise: "", unknown: "? too few rounds" };

function describeRun(letter, { date, commit, machine }) {
  return `${letter}: ${date}, ${commit ?? "no commit"}, ${machine.cpu}\n`;
}

/** The comparison as text; a UsageError where the two cannot be compared. */
export function describeComparison(a, b) {
  if (a.kind !== b.kind) {
    throw new UsageError(
      `A is a result of '${a.kind}' and B of '${b.kind}': only results of one kind can be compared`,
    );
  }
  const { changes, onlyBefore, onlyAfter } = compareFigures(figuresOf(a), figuresOf(b));
  if (changes.length === 0) throw new UsageError("A and B have no figure in common");
  const columns = figureColumns[a.kind];
  const header = [...columns, "UNIT", "A", "B", "B/A", "SPREAD", "CHANGE"];
  const rows = changes.map(({ name, unit, a: before, b: after, ratio, spread, verdict }) => [
    ...name,
    unit,
    formatFigure(before),
    formatFigure(after),
    ratio.toFixed(2),
    formatPercent(spread),
    marks[verdict],
  ]);
  const first = columns.length + 1;
  const missing = (names, letter) =>
    names.length === 0
      ? ""
      : `${names.length} only in ${letter}: ${names.map((name) => name.join(" ")).join("; ")}\n`;
  return [
    describeRun("A", a),
    describeRun("B", b),
    "\n",
    formatTable([header, ...rows], [first, first + 1, first + 2, first + 3]),
    missing(onlyBefore, "A"),
    missing(onlyAfter, "B"),
  ].join("");
}

export function compare(pathA, pathB) {
  process.stdout.write(describeComparison(readResult(pathA), readResult(pathB)));
}
