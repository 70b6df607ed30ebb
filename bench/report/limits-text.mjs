import { createRequire } from "node:module";
import { formatFigure, formatPercent, formatSummary } from "./format.mjs";

const { formatBytes } = createRequire(import.meta.url)("../../dist/cli/text.js");

function describeArithmetic(name, { kernel, operationsPerSecond, perCycle, issueRate, clockGhz, ...limit }) {
  const speed = `${(operationsPerSecond / 1e12).toFixed(2)} Tops/s`;
  const rate = `${perCycle.toFixed(2)} of ${issueRate.toFixed(1)} a cycle at ${clockGhz.toFixed(2)} GHz`;
  if (operationsPerSecond === 0) return `${name} (${kernel}): void: the threads never ran side by side\n`;
  const verdict = limit.void ? "void, for the peak kernel must reach 95 %" : "valid";
  return `${name} (${kernel}): ${speed}, ${rate}, ${formatPercent(limit.reached)}: ${verdict}\n`;
}

/** The machine's limits, and whether each of them counts, as lines of text. */
export function describeLimits({ threads, integer, float, read }) {
  const gigabytes = (bytes) => formatFigure(bytes / 1e9);
  return [
    `limits with ${threads} ${threads === 1 ? "thread" : "threads"}\n`,
    `  ${describeArithmetic("integer dot", integer)}`,
    `  ${describeArithmetic("f32 FMA", float)}`,
    `  read of ${formatBytes(read.bytes)}: ${formatSummary(read, gigabytes)} GB/s\n`,
  ].join("");
}
