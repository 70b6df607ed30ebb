import { median, quantile } from "./statistics.mjs";

/** Fewer rounds do not show how much they vary. */
const roundsNeeded = 3;

/** The middle half of the rounds. */
function middle(rounds) {
  return { low: quantile(rounds, 0.25), high: quantile(rounds, 0.75) };
}

function verdictOf(a, b, better) {
  if (Math.min(a.length, b.length) < roundsNeeded) return "unknown";
  const [before, after] = [middle(a), middle(b)];
  if (after.low > before.high) return better === "higher" ? "better" : "worse";
  if (after.high < before.low) return better === "higher" ? "worse" : "better";
  return "noise";
}

/** The wider of the two results' middle halves, as a fraction of its median. */
function spreadOf(...results) {
  return Math.max(
    ...results.map((rounds) => {
      const { low, high } = middle(rounds);
      return (high - low) / median(rounds);
    }),
  );
}

/**
 * Compares two lists of figures by name. A change counts as one, "better" or "worse", where the middle halves of
 * the rounds do not touch; with fewer than three rounds it is "unknown".
 *
 * @param {ReturnType<typeof import("./figures.mjs").figuresOf>} before
 * @param {ReturnType<typeof import("./figures.mjs").figuresOf>} after
 */
export function compareFigures(before, after) {
  const keyOf = ({ name }) => JSON.stringify(name);
  const later = new Map(after.map((figure) => [keyOf(figure), figure]));
  const earlier = new Set(before.map(keyOf));
  const changes = before.flatMap((figure) => {
    const other = later.get(keyOf(figure));
    if (other === undefined) return [];
    const { name, unit, better, rounds } = figure;
    const [a, b] = [median(rounds), median(other.rounds)];
    const verdict = verdictOf(rounds, other.rounds, better);
    return [{ name, unit, a, b, ratio: b / a, spread: spreadOf(rounds, other.rounds), verdict }];
  });
  return {
    changes,
    onlyBefore: before.filter((figure) => !later.has(keyOf(figure))).map(({ name }) => name),
    onlyAfter: after.filter((figure) => !earlier.has(keyOf(figure))).map(({ name }) => name),
  };
}
