// `npm run bench -- kernels`: the operations of the CPU backend, one by one.
import { createRequire } from "node:module";
import { latestValid, summarizeLimits } from "../limits.mjs";
import { buildPrograms, followProgram } from "../native-programs.mjs";
import { formatFigure, formatPercent, formatRatio, formatSummary } from "../report/format.mjs";
import { describeLimits } from "../report/limits-text.mjs";
import { writeResult } from "../report/result-file.mjs";
import { summarizeKernel } from "./summary.mjs";

const require = createRequire(import.meta.url);
const { UsageError } = require("../../dist/cli/exit.js");
const { formatTable } = require("../../dist/cli/text.js");

const header = ["OP", "FORMAT", "SHAPE", "ROWS", "µs", "PEAK", "", "REFERENCE"];

/** The table of a run. Figures are medians of the rounds, the best in brackets. */
export function describeKernels(kernels) {
  const rows = kernels.map(({ op, format, shape, rows: count, microseconds, fraction, timesReference }) => [
    op,
    format,
    shape,
    count,
    formatSummary(microseconds, formatFigure),
    fraction.void ? "void" : formatSummary(fraction, formatPercent),
    fraction.void ? "" : `of ${fraction.of}`,
    timesReference === undefined ? "–" : formatRatio(timesReference),
  ]);
  return formatTable([header, ...rows], [3, 4, 5, 7]);
}

function parametersOf({ threads = 0, rounds, quick, op, format, shape, rows, reference }) {
  const named = {
    threads,
    rounds: rounds ?? (quick ? 3 : 7),
    op,
    format,
    shape,
    rows,
    reference: reference ? 1 : 0,
  };
  return Object.entries(named).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
}

/**
 * @param {{ op?: string, format?: string, shape?: string, rows?: number, rounds?: number, quick: boolean,
 *   threads?: number, reference: boolean, out?: string }} options
 */
export async function kernels(options) {
  buildPrograms("kernel_bench");
  const limits = [];
  const measured = [];
  let settings = {};
  let latest;
  await followProgram("kernel_bench", parametersOf(options), (object) => {
    if (object.isa !== undefined) settings = object;
    else if (object.read !== undefined) {
      limits.push(object);
      latest = latestValid(latest, object);
    } else {
      measured.push(summarizeKernel(object, latest));
      process.stderr.write(`bench: ${object.op} ${object.format} ${object.shape}, ${object.rows}\n`);
    }
  });
  if (measured.length === 0) throw new UsageError("No operation has such a name, format, shape and rows");
  const machine = summarizeLimits(limits);
  process.stdout.write(`\n${settings.isa}\n${describeLimits(machine)}\n${describeKernels(measured)}`);
  const result = { settings, limits: machine, kernels: measured };
  process.stdout.write(`\n${writeResult("kernels", result, options.out)}\n`);
}
