import assert from "node:assert/strict";
import { test } from "node:test";
import {
  gapsWithin,
  interruptionOf,
  latenciesOf,
  meanDepth,
  offlineFraction,
  partsOf,
  percentilesOf,
  rateAtDepth,
  throughputOf,
  timeline,
} from "../../../bench/serve/accounting.mjs";
import { summarizeLoad, summarizeOffline, summarizeSaturated } from "../../../bench/serve/summary.mjs";

const near = (actual, expected) => assert.ok(Math.abs(actual - expected) < 1e-9 * Math.abs(expected));

test("percentiles lie between their neighbours, and nothing has none", () => {
  const values = Array.from({ length: 101 }, (_, i) => 100 - i);
  assert.deepEqual(percentilesOf(values), { p50: 50, p90: 90, p99: 99, maximum: 100, count: 101 });
  assert.deepEqual(percentilesOf([7]), { p50: 7, p90: 7, p99: 7, maximum: 7, count: 1 });
  assert.equal(percentilesOf([]), undefined);
});

// Came at 0, waited 100 ms, then a token each 10 ms; was cancelled in the second case.
const complete = { dueMs: 0, promptTokens: 50, tokenMs: [100, 110, 120, 130], endMs: 131, queueMs: 5 };
const cancelled = { dueMs: 90, promptTokens: 8, tokenMs: [115, 135] };
const empty = { dueMs: 95, promptTokens: 9, tokenMs: [] };
const records = [complete, cancelled, empty];

test("a span counts the tokens that came within it, prompts by first tokens, requests by ends", () => {
  const of = (beginMs, endMs) => throughputOf(records, { beginMs, endMs });
  assert.deepEqual(of(0, 1000), { answer: 6, prompt: 58, requests: 1 });
  assert.deepEqual(of(110, 130), { answer: 150, prompt: 400, requests: 0 });
  assert.deepEqual(of(130, 135), { answer: 200, prompt: 0, requests: 200 });
});

test("parts of a span have together what the span has", () => {
  const span = { beginMs: 90, endMs: 140 };
  const parts = partsOf(span, 3);
  assert.equal(parts[0].beginMs, 90);
  assert.equal(parts[2].endMs, 140);
  for (const key of ["answer", "prompt", "requests"]) {
    const sum = parts.reduce((total, part) => total + throughputOf(records, part)[key], 0);
    near(sum / 3, throughputOf(records, span)[key]);
  }
});

test("work at the offline rates is worth 1, however prompts and answers are mixed", () => {
  const offline = { answer: 800, prompt: 1600 };
  for (const share of [0, 0.3, 1]) {
    near(offlineFraction({ answer: 800 * share, prompt: 1600 * (1 - share) }, offline), 1);
  }
  near(offlineFraction({ answer: 400, prompt: 400 }, offline), 0.75);
});

test("a token's time grows in proportion to its depth", () => {
  const msAt = (depth) => 1 + 0.002 * depth;
  const [shallow, deep] = [10, 700].map((depth) => ({ depth, rate: 1000 / msAt(depth) }));
  for (const depth of [10, 300, 700, 1000]) near(rateAtDepth(depth, shallow, deep), 1000 / msAt(depth));
  assert.equal(meanDepth(records, { beginMs: 115, endMs: 131 }), (8 + 52 + 53) / 3);
  assert.equal(meanDepth(records, { beginMs: 500, endMs: 600 }), 0);
});

test("latencies count from when a request was due, and a reply of one token has no time between tokens", () => {
  const single = { dueMs: 40, promptTokens: 1, tokenMs: [60], endMs: 61, queueMs: 1 };
  const { ttft, tpot, gap } = latenciesOf([complete, single]);
  assert.deepEqual([ttft.maximum, ttft.p50, ttft.count], [100, 60, 2]);
  assert.deepEqual([tpot.p99, tpot.count], [10, 1]);
  assert.deepEqual([gap.maximum, gap.count], [10, 3]);
});

test("gaps belong to where they end", () => {
  const gaps = gapsWithin(complete, { beginMs: 110, endMs: 120 });
  assert.deepEqual(gaps, [{ atMs: 120, gapMs: 10 }]);
  const bins = timeline(records, { beginMs: 100, endMs: 140, binMs: 20 });
  assert.deepEqual(bins, [
    { atMs: 10, median: 10, maximum: 10 },
    { atMs: 30, median: 10, maximum: 20 },
  ]);
});

test("a long prompt's streams are compared with themselves before its arrival and after its first token", () => {
  const every = (from, to, ms) => Array.from({ length: (to - from) / ms }, (_, i) => from + (i + 1) * ms);
  // The step of the first token reaches this caller a millisecond later than the prompt's.
  const tokenMs = [...every(0, 1000, 10), ...every(1000, 3970, 30), 4001, ...every(4001, 5001, 20)];
  const run = {
    quietMs: 100,
    long: { dueMs: 1000, tokenMs: [4000] },
    records: [{ tokenMs }, { tokenMs }],
  };
  const { without, during, ratio, ttftMs } = interruptionOf(run);
  assert.deepEqual([without.p50, without.p99, during.p99, during.count], [10, 20, 30, 198]);
  assert.equal(without.maximum, 20);
  assert.deepEqual([ratio, ttftMs], [1.5, 3000]);
});

test("the offline figure is that of the peers' streams, and saturation is taken of the steady part", () => {
  const stream = (tokenMs, promptTokens) => ({ dueMs: 0, promptTokens, tokenMs });
  const tokens = (from, to, step) => {
    return Array.from({ length: Math.floor((to - from) / step) }, (_, i) => from + i * step);
  };
  const offline = summarizeOffline({
    decode: [
      { beginMs: 0, endMs: 500, records: [stream(tokens(0, 500, 10), 1), stream(tokens(0, 500, 10), 1)] },
    ],
    deep: [{ beginMs: 100, endMs: 600, records: [stream(tokens(0, 900, 10), 400)] }],
    prefill: [{ beginMs: 0, endMs: 250, records: [stream([250], 100)] }],
  });
  assert.deepEqual(
    offline.figures.map(({ value }) => value),
    [200, 100, 400],
  );
  const ended = { ...stream(tokens(0, 3000, 10), 100), endMs: 2990 };
  const run = { beginMs: 1000, endMs: 2500, records: [ended, stream([1500, 2600], 300)] };
  const saturated = summarizeSaturated(run, offline.rates, { answer: 80, prompt: 20 });
  const figureNamed = (name) => saturated.figures.find(({ figure }) => figure === name).value;
  near(figureNamed("answers"), 151 / 1.5);
  near(figureNamed("prompts"), 200);
  near(figureNamed("all tokens over offline"), (151 / 1.5 + 200) / 200);
  near(saturated.requestsPerSecond, (151 / 1.5 + 200) / 100);
  assert.equal(figureNamed("requests ended"), 0);
});

test("bars are held to what is reported, the load's at 60 % alone", () => {
  const slow = { ...complete, tokenMs: [600, 660, 720] };
  const barsAt = (load) =>
    summarizeLoad({ records: [slow], eventLoopMs: { p99: 0 } }, load, 2).figures.flatMap(({ figure, bar }) =>
      bar === undefined ? [] : [[figure, bar.holds]],
    );
  assert.deepEqual(barsAt(0.6), [
    ["TTFT p99 at 60 %", false],
    ["TPOT p99 at 60 %", false],
  ]);
  assert.deepEqual(barsAt(0.4), []);
});
