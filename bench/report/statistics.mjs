// Figures of rounds. None of them is computed from an empty list.

/** The value at a fraction of the sorted list, between two neighbours where it falls there. */
export function quantile(values, fraction) {
  if (values.length === 0) throw new RangeError("no values");
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(at)];
  return below + (sorted[Math.ceil(at)] - below) * (at - Math.floor(at));
}

export function median(values) {
  return quantile(values, 0.5);
}

/** The best of a work's figures: the largest speed, the smallest time. */
export function best(values, better) {
  if (values.length === 0) throw new RangeError("no values");
  return better === "higher" ? Math.max(...values) : Math.min(...values);
}

/** What is reported of a work's rounds. */
export function summarize(rounds, better) {
  return { median: median(rounds), best: best(rounds, better), rounds };
}

/** How many times better ours is than theirs: above 1 is better, for speeds and for times. */
export function advantage(ours, theirs, better) {
  return better === "higher" ? ours / theirs : theirs / ours;
}
