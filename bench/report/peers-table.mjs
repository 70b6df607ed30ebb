// A model's results as text: one row a work, a column for each engine and one for each ratio.
import { createRequire } from "node:module";

const { formatBytes, formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

/** Three significant digits, without an exponent. */
export function formatFigure(value) {
  if (value >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

export const formatRatio = (value) => `${value.toFixed(2)}×`;
export const formatPercent = (value) => `${(value * 100).toFixed(0)} %`;

const withBest = ({ median: middle, best }, format) => `${format(middle)} (${format(best)})`;
const cell = (summary, format) => (summary === undefined ? "–" : withBest(summary, format));

function workRow(work, ours, peers) {
  const counted = work.fasterLlamaCpp === undefined ? undefined : work.ratios[work.fasterLlamaCpp];
  return [
    work.id,
    work.unit,
    cell(work.engines[ours], formatFigure),
    ...peers.flatMap((peer) => [
      cell(work.engines[peer], formatFigure),
      cell(work.ratios[peer], formatRatio),
    ]),
    ...(peers.length > 0 ? [cell(counted, formatRatio)] : []),
    work.fraction === undefined ? "–" : `${cell(work.fraction, formatPercent)} of ${work.fraction.of}`,
  ];
}

function describeArithmetic(name, { kernel, operationsPerSecond, perCycle, issueRate, clockGhz, ...limit }) {
  const speed = `${(operationsPerSecond / 1e12).toFixed(2)} Tops/s`;
  const rate = `${perCycle.toFixed(2)} of ${issueRate.toFixed(1)} a cycle at ${clockGhz.toFixed(2)} GHz`;
  if (operationsPerSecond === 0) return `${name} (${kernel}): void: the threads never ran side by side\n`;
  const verdict = limit.void ? "void, for the peak kernel must reach 95 %" : "valid";
  return `${name} (${kernel}): ${speed}, ${rate}, ${formatPercent(limit.reached)}: ${verdict}\n`;
}

export function describeLimits({ threads, integer, float, read }) {
  const gigabytes = (bytes) => formatFigure(bytes / 1e9);
  return [
    `limits with ${threads} ${threads === 1 ? "thread" : "threads"}\n`,
    `  ${describeArithmetic("integer dot", integer)}`,
    `  ${describeArithmetic("f32 FMA", float)}`,
    `  read of ${formatBytes(read.bytes)}: ${cell(read, gigabytes)} GB/s\n`,
  ].join("");
}

function describeEntrant({ name, status, version, reason }) {
  if (status === "ran") return `  ${name} ${version}\n`;
  return `  ${name}: ${status === "failed" ? "failed" : "left out"}: ${reason}\n`;
}

/** Everything that is printed of one model. Figures are medians of the rounds, the best in brackets. */
export function describeModel({ name, path, fileBytes, entrants, limits, works, oneByOne }, ours) {
  const measured = entrants.filter((one) => works.some(({ engines }) => engines[one.name] !== undefined));
  const peers = measured.map((one) => one.name).filter((peer) => peer !== ours);
  const header = [
    "WORK",
    "UNIT",
    ours,
    ...peers.flatMap((peer) => [peer, "OURS"]),
    ...(peers.length > 0 ? ["TO FASTER llama.cpp"] : []),
    "LIMIT",
  ];
  const rows = works.map((work) => workRow(work, ours, peers));
  const right = header.map((_, column) => column).filter((column) => column > 1);
  return [
    `\n${name}, ${formatBytes(fileBytes)}: ${path}\n`,
    ...entrants.map(describeEntrant),
    limits === undefined ? "" : describeLimits(limits),
    "\n",
    formatTable([header, ...rows], right),
    ...oneByOne.map(
      ({ streams, peer, ratio }) => `${streams} to ${peer} one by one: ${cell(ratio, formatRatio)}\n`,
    ),
  ].join("");
}
