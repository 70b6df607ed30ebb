// What the phases saw → figures, each with the bar that it has to meet, if there is one.
import { holds } from "../report/bars.mjs";
import { median } from "../report/statistics.mjs";
import {
  interruptionOf,
  latenciesOf,
  meanDepth,
  offlineFraction,
  partsOf,
  rateAtDepth,
  throughputOf,
  timeline,
} from "./accounting.mjs";
import { bars } from "./plan.mjs";

/** Parts of the steady part that count as rounds when two results are compared. */
const steadyParts = 3;
const timelineBinMs = 100;

/**
 * @typedef {{ phase: string, figure: string, unit: string, better: "higher" | "lower", value: number,
 *   rounds: number[], bar?: { below?: number, atLeast?: number, holds: boolean } }} Figure
 */

/** @returns {Figure} of the median of rounds, unless the value of all of them together is given */
function figureOf(phase, figure, unit, rounds, value = median(rounds)) {
  const better = unit === "ms" || unit === "×" ? "lower" : "higher";
  const bar = bars[figure];
  if (bar === undefined) return { phase, figure, unit, better, value, rounds };
  return { phase, figure, unit, better, value, rounds, bar: { ...bar, holds: holds(value, bar) } };
}

const ratesOf = (runs, count) =>
  runs.map(({ records, beginMs, endMs }) => {
    return (records.reduce((sum, record) => sum + count(record), 0) * 1000) / (endMs - beginMs);
  });

/**
 * Tokens a second of answers alone, from prompts of one token (as the `streams` works of `peers` count them) and
 * with a context, and of prompts alone.
 *
 * @param {{ decode: object[], deep: object[], prefill: object[] }} runs a round each
 */
export function summarizeOffline({ decode, deep, prefill }) {
  const answer = ratesOf(decode, ({ tokenMs }) => tokenMs.length);
  const prompt = ratesOf(prefill, ({ promptTokens }) => promptTokens);
  const deepAnswer = deep.map((run) => throughputOf(run.records, run).answer);
  const depthOf = (runs) => median(runs.map((run) => meanDepth(run.records, run)));
  return {
    rates: {
      shallow: { depth: depthOf(decode), rate: median(answer) },
      deep: { depth: depthOf(deep), rate: median(deepAnswer) },
      prompt: median(prompt),
    },
    figures: [
      figureOf("offline", "answers", "tokens/s", answer),
      figureOf("offline", "answers with a context", "tokens/s", deepAnswer),
      figureOf("offline", "prompts", "tokens/s", prompt),
    ],
  };
}

/**
 * @param {{ records: object[], beginMs: number, endMs: number }} run
 * @param {ReturnType<typeof summarizeOffline>["rates"]} offline
 * @param {{ answer: number, prompt: number }} mean tokens of a request
 */
export function summarizeSaturated({ records, ...span }, { shallow, deep, prompt }, mean) {
  const whole = throughputOf(records, span);
  const parts = partsOf(span, steadyParts).map((part) => throughputOf(records, part));
  const figure = (name, unit, of) => figureOf("saturated", name, unit, parts.map(of), of(whole));
  const tokens = (one) => one.answer + one.prompt;
  // Steadier than counting the few requests that end within the span: their tokens at the workload's mean.
  const requestsPerSecond = tokens(whole) / tokens(mean);
  const depth = meanDepth(records, span);
  const offline = { answer: rateAtDepth(depth, shallow, deep), prompt };
  return {
    requestsPerSecond,
    meanDepth: depth,
    offline,
    figures: [
      figure("answers", "tokens/s", (one) => one.answer),
      figure("prompts", "tokens/s", (one) => one.prompt),
      figure("requests ended", "requests/s", (one) => one.requests),
      figure("requests by tokens", "requests/s", (one) => tokens(one) / tokens(mean)),
      figure("answers over offline", "", (one) => one.answer / shallow.rate),
      figure("all tokens over offline", "", (one) => tokens(one) / shallow.rate),
      figure("offline fraction", "", (one) => offlineFraction(one, offline)),
    ],
  };
}

/** @param {number} load as a part of the saturated throughput */
export function summarizeLoad({ records, eventLoopMs }, load, requestsPerSecond) {
  const percent = `${Math.round(load * 100)} %`;
  const phase = `load ${percent}`;
  const latencies = latenciesOf(records);
  const figures = [
    ["TTFT", latencies.ttft],
    ["TPOT", latencies.tpot],
    ["token gap", latencies.gap],
    ["queue", latencies.queue],
  ].flatMap(([name, of]) =>
    ["p50", "p90", "p99"].map((key) => figureOf(phase, `${name} ${key} at ${percent}`, "ms", [of[key]])),
  );
  const eventLoop = figureOf(phase, `event loop delay p99 at ${percent}`, "ms", [eventLoopMs.p99]);
  return {
    load,
    arrivalsPerSecond: load * requestsPerSecond,
    requests: records.length,
    latencies,
    figures: [...figures, eventLoop],
  };
}

/** @param {object[]} runs a round each */
export function summarizeInterruptions(runs) {
  const rounds = runs.map(interruptionOf);
  const figure = (name, unit, of) => figureOf("long prompt", name, unit, rounds.map(of));
  return {
    rounds,
    timeline: timelineOf(runs[0]),
    figures: [
      figure("p99 without", "ms", ({ without }) => without.p99),
      figure("p99 with", "ms", ({ during }) => during.p99),
      figure("p99 with over without", "×", ({ ratio }) => ratio),
      figure("p50 with over without", "×", ({ without, during }) => during.p50 / without.p50),
      figure("its TTFT", "ms", ({ ttftMs }) => ttftMs),
    ],
  };
}

/** The streams' times per token from the beginning of the quiet part, and when the prompt came and had its token. */
function timelineOf({ quietMs, long, records }) {
  const endMs = Math.max(...records.map(({ tokenMs }) => tokenMs[tokenMs.length - 1]));
  return {
    arrivalMs: long.dueMs - quietMs,
    firstTokenMs: long.tokenMs[0] - quietMs,
    bins: timeline(records, { beginMs: quietMs, endMs, binMs: timelineBinMs }),
  };
}
