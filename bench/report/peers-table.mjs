// A model's results as text: one row a work, a column for each engine and one for each ratio.
import { createRequire } from "node:module";
import { formatFigure, formatPercent, formatRatio, formatSummary } from "./format.mjs";
import { describeLimits } from "./limits-text.mjs";

const { formatBytes, formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

function describeFraction(fraction) {
  if (fraction === undefined) return "–";
  return `${fraction.void ? "void" : formatSummary(fraction, formatPercent)} of ${fraction.of}`;
}

function workRow(work, ours, peers) {
  const counted = work.fasterLlamaCpp === undefined ? undefined : work.ratios[work.fasterLlamaCpp];
  return [
    work.id,
    work.unit,
    formatSummary(work.engines[ours], formatFigure),
    ...peers.flatMap((peer) => [
      formatSummary(work.engines[peer], formatFigure),
      formatSummary(work.ratios[peer], formatRatio),
    ]),
    ...(peers.length > 0 ? [formatSummary(counted, formatRatio)] : []),
    describeFraction(work.fraction),
  ];
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
      ({ streams, peer, ratio }) =>
        `${streams} to ${peer} one by one: ${formatSummary(ratio, formatRatio)}\n`,
    ),
  ].join("");
}
