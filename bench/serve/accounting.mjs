// What callers saw → figures. Times in milliseconds.
import { quantile } from "../report/statistics.mjs";

/** @typedef {import("./client.mjs").RequestRecord} RequestRecord */

const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** The percentiles that are reported; undefined of nothing. */
export function percentilesOf(values) {
  if (values.length === 0) return undefined;
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((fraction) => quantile(values, fraction));
  return { p50, p90, p99, maximum: Math.max(...values), count: values.length };
}

/**
 * Tokens a second that were done within a span: of answers those that came within it, of prompts those whose answer
 * began within it. `requests` are those that ended within it.
 *
 * @param {RequestRecord[]} records
 */
export function throughputOf(records, { beginMs, endMs }) {
  const isWithin = (ms) => ms >= beginMs && ms < endMs;
  const perSecond = (count) => (count * 1000) / (endMs - beginMs);
  return {
    answer: perSecond(sumOf(records.map(({ tokenMs }) => tokenMs.filter(isWithin).length))),
    prompt: perSecond(
      sumOf(records.map(({ tokenMs, promptTokens }) => (isWithin(tokenMs[0]) ? promptTokens : 0))),
    ),
    requests: perSecond(records.filter((record) => isWithin(record.endMs)).length),
  };
}

/** Parts of a span, equally long. */
export function partsOf({ beginMs, endMs }, count) {
  const partMs = (endMs - beginMs) / count;
  return Array.from({ length: count }, (_, i) => ({
    beginMs: beginMs + i * partMs,
    endMs: i + 1 === count ? endMs : beginMs + (i + 1) * partMs,
  }));
}

/** Tokens of context that the answers' tokens within a span had on average, prompt and answer together. */
export function meanDepth(records, { beginMs, endMs }) {
  const depths = records.flatMap(({ promptTokens, tokenMs }) =>
    tokenMs.flatMap((ms, i) => (ms >= beginMs && ms < endMs ? [promptTokens + i] : [])),
  );
  return depths.length === 0 ? 0 : sumOf(depths) / depths.length;
}

/**
 * Tokens a second at a depth, from the rates at two others: a token's time grows by as much with each token of context.
 *
 * @param {{ depth: number, rate: number }} shallow
 * @param {{ depth: number, rate: number }} deep
 */
export function rateAtDepth(depth, shallow, deep) {
  const share = (depth - shallow.depth) / (deep.depth - shallow.depth);
  return 1 / ((1 - share) / shallow.rate + share / deep.rate);
}

/**
 * The time that the offline rates would need for what was done in a second, prompts and answers one after the other.
 *
 * @param {{ answer: number, prompt: number }} done tokens a second
 * @param {{ answer: number, prompt: number }} offline tokens a second of either kind alone
 */
export function offlineFraction(done, offline) {
  return done.answer / offline.answer + done.prompt / offline.prompt;
}

/** From a request's arrival to its first token, as its caller saw it. */
export function ttftMs({ dueMs, tokenMs }) {
  return tokenMs[0] - dueMs;
}

/** A reply's mean time between tokens; nothing of a reply of one token. */
export function tpotMs({ tokenMs }) {
  const gaps = tokenMs.length - 1;
  return gaps > 0 ? [(tokenMs[gaps] - tokenMs[0]) / gaps] : [];
}

/** Each token's time since the one before, of tokens that came within the span. */
export function gapsWithin({ tokenMs }, { beginMs, endMs }) {
  return tokenMs.flatMap((ms, i) =>
    i > 0 && ms > beginMs && ms <= endMs ? [{ atMs: ms, gapMs: ms - tokenMs[i - 1] }] : [],
  );
}

const always = { beginMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY };

const gapsOf = (record, span) => gapsWithin(record, span).map(({ gapMs }) => gapMs);

/** Latencies of complete replies. */
export function latenciesOf(records) {
  return {
    ttft: percentilesOf(records.map(ttftMs)),
    tpot: percentilesOf(records.flatMap(tpotMs)),
    gap: percentilesOf(records.flatMap((record) => gapsOf(record, always))),
    queue: percentilesOf(records.map(({ queueMs }) => queueMs)),
    engineTtft: percentilesOf(records.map(({ engineTtftMs }) => engineTtftMs)),
  };
}

/**
 * Time per token of streams from a long prompt's arrival to its first token, and without it: before and after, for
 * their own contexts grow meanwhile.
 *
 * @param {{ quietMs: number, long: RequestRecord, records: RequestRecord[] }} run
 */
export function interruptionOf({ quietMs, long, records }) {
  const arrivalMs = long.dueMs;
  const firstMs = long.tokenMs[0];
  const before = { beginMs: quietMs, endMs: arrivalMs };
  // The step with the prompt's end gives its tokens to one caller after the other.
  const isAfter = ({ atMs, gapMs }) => atMs - gapMs >= firstMs;
  const after = records.flatMap((record) =>
    gapsWithin(record, { beginMs: firstMs, endMs: Number.POSITIVE_INFINITY })
      .filter(isAfter)
      .map(({ gapMs }) => gapMs),
  );
  const during = percentilesOf(
    records.flatMap((record) => gapsOf(record, { beginMs: arrivalMs, endMs: firstMs })),
  );
  const without = percentilesOf([...records.flatMap((record) => gapsOf(record, before)), ...after]);
  return { without, during, ratio: during.p99 / without.p99, ttftMs: firstMs - arrivalMs };
}

/** Median and maximum of all streams' times per token, in bins of `binMs` from the beginning. */
export function timeline(records, { beginMs, endMs, binMs }) {
  const bins = new Map();
  for (const { atMs, gapMs } of records.flatMap((record) => gapsWithin(record, { beginMs, endMs }))) {
    const bin = Math.floor((atMs - beginMs) / binMs);
    bins.set(bin, [...(bins.get(bin) ?? []), gapMs]);
  }
  return [...bins]
    .sort(([a], [b]) => a - b)
    .map(([bin, gaps]) => ({
      atMs: (bin + 0.5) * binMs,
      median: quantile(gaps, 0.5),
      maximum: Math.max(...gaps),
    }));
}
