/** Three significant digits, without an exponent. */
export function formatFigure(value) {
  if (value >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

/** @param {number} value how many times */
export const formatRatio = (value) => `${formatFigure(value)}×`;

/** @param {number} value 1 is all */
export const formatPercent = (value) => `${(value * 100).toFixed(0)} %`;

/** Median and best as a cell; a dash where nothing was measured. */
export function formatSummary(summary, format) {
  return summary === undefined ? "–" : `${format(summary.median)} (${format(summary.best)})`;
}
