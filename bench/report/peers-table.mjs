// A model's results as text: for each work a row of each engine.
import { createRequire } from "node:module";
import { formatFigure, formatPercent, formatRatio, formatSummary } from "./format.mjs";
import { describeLimits } from "./limits-text.mjs";

const { formatBytes, formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

function describeFraction(fraction) {
  if (fraction === undefined) return "";
  return `${fraction.void ? "void" : formatSummary(fraction, formatPercent)} of ${fraction.of}`;
}

const summaryCells = (summary, format) =>
  summary === undefined ? ["–", "–"] : [format(summary.median), format(summary.best)];

/** A row for ours with its part of the limit, then one for each peer with how many times better ours is. */
function workRows(work, ours, peers) {
  const first = summaryCells(work.engines[ours], formatFigure);
  return [
    [work.id, work.unit, ours, ...first, "", "", describeFraction(work.fraction)],
    ...peers.map((peer) => [
      "",
      "",
      peer,
      ...summaryCells(work.engines[peer], formatFigure),
      ...summaryCells(work.ratios[peer], formatRatio),
      work.fasterLlamaCpp === peer ? "the faster llama.cpp: counts" : "",
    ]),
  ];
}

function describeEntrant({ name, status, version, reason }) {
  if (status === "ran") return `  ${name} ${version}\n`;
  return `  ${name}: ${status === "failed" ? "failed" : "left out"}: ${reason}\n`;
}

/** Everything that is printed of one model: medians and bests of the rounds, and of the ratios within rounds. */
export function describeModel({ name, path, fileBytes, entrants, limits, works, oneByOne }, ours) {
  const measured = entrants.filter((one) => works.some(({ engines }) => engines[one.name] !== undefined));
  const peers = measured.map((one) => one.name).filter((peer) => peer !== ours);
  const header = ["WORK", "UNIT", "ENGINE", "MEDIAN", "BEST", "OURS MEDIAN", "BEST", ""];
  const rows = works.flatMap((work) => workRows(work, ours, peers));
  return [
    `\n${name}, ${formatBytes(fileBytes)}: ${path}\n`,
    ...entrants.map(describeEntrant),
    limits === undefined ? "" : describeLimits(limits),
    "\n",
    formatTable([header, ...rows], [3, 4, 5, 6]),
    ...oneByOne.map(
      ({ streams, peer, ratio }) =>
        `${streams} to ${peer} one by one: ${formatSummary(ratio, formatRatio)}\n`,
    ),
  ].join("");
}
