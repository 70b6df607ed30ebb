// Whether a figure meets what is demanded of it, in words.
import { formatPercent } from "./format.mjs";

/** @param {{ below?: number, atLeast?: number }} bar */
export function holds(value, { below, atLeast }) {
  return below === undefined ? value >= atLeast : value < below;
}

/**
 * "HOLDS, by 12 %" or "MISSED, by 3 %": of the bar, which follows.
 *
 * @param {number} value
 * @param {{ below?: number, atLeast?: number }} bar
 * @param {(value: number) => string} format
 */
export function describeBar(value, bar, format = String) {
  const { below, atLeast } = bar;
  const most = below ?? atLeast;
  const by = formatPercent(Math.abs(value - most) / most);
  const demanded = below === undefined ? `at least ${format(most)}` : `below ${format(most)}`;
  return `${holds(value, bar) ? "HOLDS" : "MISSED"}, by ${by}: ${demanded}`;
}
