import assert from "node:assert/strict";
import { test } from "node:test";
import { fractionOf, oneByOne, summarizeWork } from "../../../bench/peers/summary.mjs";
import { advantage, best, median, quantile, summarize } from "../../../bench/report/statistics.mjs";

test("medians and quantiles lie between their neighbours and leave the list alone", () => {
  const values = [5, 1, 4];
  assert.equal(median(values), 4);
  assert.equal(median([1, 2, 3, 10]), 2.5);
  assert.deepEqual([quantile(values, 0), quantile(values, 0.25), quantile(values, 1)], [1, 2.5, 5]);
  assert.deepEqual(values, [5, 1, 4]);
  assert.throws(() => median([]), RangeError);
  assert.throws(() => best([], "higher"), RangeError);
});

test("the best of speeds is the largest, of times the smallest", () => {
  assert.deepEqual(summarize([3, 9, 5], "higher"), { median: 5, best: 9, rounds: [3, 9, 5] });
  assert.equal(summarize([3, 9, 5], "lower").best, 3);
  assert.equal(advantage(10, 5, "higher"), 2);
  assert.equal(advantage(10, 5, "lower"), 0.5);
});

const work = { id: "w", unit: "tokens/s", better: "higher" };
const roles = { ours: "o", peers: ["p", "q", "t"], llamaCpps: ["p", "q"] };

/** Rounds of a peer and of ours beside it. */
function rounds(peer, pairs) {
  return pairs.flatMap(([theirs, ours], round) => [
    { work: "w", round, engine: peer, value: theirs },
    { work: "w", round, engine: "o", against: peer, value: ours },
  ]);
}

test("ratios are medians of each round's own, against the run of ours beside the peer's", () => {
  // The machine is half as fast in the second round: ratios within a round do not see it.
  const all = [
    ...rounds("p", [
      [10, 40],
      [5, 20],
      [10, 50],
    ]),
    ...rounds("q", [
      [20, 40],
      [10, 20],
      [20, 40],
    ]),
  ];
  const summary = summarizeWork(work, all, roles);
  assert.deepEqual(summary.ratios.p, { median: 4, best: 5, rounds: [4, 4, 5] });
  assert.deepEqual(summary.ratios.q.rounds, [2, 2, 2]);
  assert.equal(summary.fasterLlamaCpp, "q");
  assert.deepEqual(summary.engines.o.rounds, [40, 20, 45]);
  assert.equal(summary.ratios.t, undefined);
});

test("the faster of two loads is the one with less time", () => {
  const load = { id: "w", unit: "ms", better: "lower" };
  const all = [...rounds("p", [[100, 10]]), ...rounds("q", [[50, 10]])];
  const summary = summarizeWork(load, all, roles);
  assert.equal(summary.fasterLlamaCpp, "q");
  assert.equal(summary.ratios.q.median, 5);
});

test("a round that one of the two did not finish gives no ratio", () => {
  const all = rounds("p", [
    [10, 20],
    [10, 30],
  ]).slice(0, 3);
  assert.deepEqual(summarizeWork(work, all, roles).ratios.p.rounds, [2]);
});

test("many streams are also compared with a peer that answers one by one", () => {
  const all = [
    { work: "decode-0", round: 0, engine: "t", value: 20 },
    { work: "streams-8", round: 0, engine: "o", against: "t", value: 1000 },
    { work: "streams-8", round: 1, engine: "o", against: "t", value: 1000 },
  ];
  assert.deepEqual(oneByOne("streams-8", "decode-0", all, { ours: "o", peer: "t" }).rounds, [50]);
  assert.equal(oneByOne("streams-8", "decode-0", all, { ours: "o", peer: "p" }), undefined);
});

test("fractions use the limit of their own round, and rounds without one do not count", () => {
  const all = rounds("p", [
    [1, 50],
    [1, 30],
    [1, 99],
  ]);
  const limits = new Map([
    [0, 100],
    [1, 40],
  ]);
  assert.deepEqual(fractionOf(work, all, limits, "o"), { median: 0.625, best: 0.75, rounds: [0.5, 0.75] });
  assert.equal(fractionOf(work, all, new Map(), "o"), undefined);
});
