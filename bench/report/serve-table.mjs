// The load test's figures as text.
import { createRequire } from "node:module";
import { describeBar } from "./bars.mjs";
import { formatFigure } from "./format.mjs";

const { formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

function describeSteps({ engine: { steps, rowsPerStep, sequencesPerStep, preempted } }) {
  const rows = `${formatFigure(rowsPerStep)} tokens of ${formatFigure(sequencesPerStep)} requests`;
  return `${steps} steps, on average of ${rows}; ${preempted} preempted`;
}

/** Everything that is printed of a run. */
export function describeServe({ model, settings, figures, saturated, loads }) {
  const target = settings.targetTpot === undefined ? "" : `, targetTpot ${settings.targetTpot} ms`;
  const rows = figures.map(({ phase, figure, unit, value, bar }) => [
    phase,
    figure,
    formatFigure(value),
    unit,
    bar === undefined ? "" : describeBar(value, bar),
  ]);
  const header = ["PHASE", "FIGURE", "VALUE", "UNIT", "DEMANDED"];
  return [
    `\n${model.name} on ${model.device.isa}, ${model.device.threads} threads${target}, seed ${settings.seed}\n`,
    `saturated: context of ${Math.round(saturated.meanDepth)} tokens on average, where offline is ` +
      `${formatFigure(saturated.offline.answer)} tokens/s; ${describeSteps(saturated)}\n`,
    ...loads.map(
      ({ load, arrivalsPerSecond, requests, ...run }) =>
        `load ${Math.round(load * 100)} %: ${requests} requests measured, ` +
        `${formatFigure(arrivalsPerSecond)} a second; ${describeSteps(run)}\n`,
    ),
    "\n",
    formatTable([header, ...rows], [2]),
  ].join("");
}
