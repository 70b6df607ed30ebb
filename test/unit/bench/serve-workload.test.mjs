import assert from "node:assert/strict";
import { test } from "node:test";
import { median } from "../../../bench/report/statistics.mjs";
import { arrive, interrupt, saturate, sustain, together } from "../../../bench/serve/phases.mjs";
import {
  answerLengths,
  drawArrivals,
  drawLength,
  drawRequests,
  meanRequestTokens,
  promptLengths,
  randomOf,
} from "../../../bench/serve/workload.mjs";

const draws = 20_000;
const take = (iterator, count) => Array.from({ length: count }, () => iterator.next().value);

/** Standard deviations from the mean of a binomial's. */
function deviation(hits, count, probability) {
  return Math.abs(hits - count * probability) / Math.sqrt(count * probability * (1 - probability));
}

test("lengths are log-normal: median, sigma, and what is cut", () => {
  // Shares below the median times e^-1, 1 and e^1, and at the cut, where the normal distribution has them.
  const belowCut = { [promptLengths.median]: 0.99753, [answerLengths.median]: 0.95681 };
  for (const lengths of [promptLengths, answerLengths]) {
    const random = randomOf(7);
    const drawn = Array.from({ length: draws }, () => drawLength(random, lengths));
    const share = (limit) => drawn.filter((length) => length < limit).length;
    const at = (sigmas) => Math.round(lengths.median * Math.exp(sigmas)) + 0.5;
    const exact = { "-1": 0.1587, 0: 0.5, 1: 0.8413 };
    for (const [sigmas, probability] of Object.entries(exact)) {
      const shareBelow = (share(at(Number(sigmas)) - 1) + share(at(Number(sigmas)))) / 2; // half of those at it
      assert.ok(deviation(shareBelow, draws, probability) < 4.5, `${lengths.median} ${sigmas}`);
    }
    const below = belowCut[lengths.median];
    assert.ok(deviation(share(lengths.maximum), draws, below) < 4.5);
    assert.ok(drawn.every((length) => Number.isInteger(length) && length >= 1 && length <= lengths.maximum));
  }
});

test("mean tokens are those of the cut distribution", () => {
  // By its formula: exp(mu + 1/2) Phi(cut - 1) + 1000 (1 - Phi(cut)), with cut = ln(1000 / median).
  const { prompt, answer } = meanRequestTokens();
  assert.ok(Math.abs(prompt / 97.9 - 1) < 0.02, `${prompt}`);
  assert.ok(Math.abs(answer / 269.5 - 1) < 0.02, `${answer}`);
});

test("arrivals are a Poisson process: their rate, and gaps without memory", () => {
  const arrivals = take(drawArrivals({ seed: 3, perSecond: 4 }), draws);
  const gaps = arrivals.map((at, i) => at - (arrivals[i - 1] ?? 0));
  assert.ok(gaps.every((gap) => gap > 0));
  const meanMs = arrivals[draws - 1] / draws;
  assert.ok(Math.abs(meanMs - 250) < (4.5 * 250) / Math.sqrt(draws), `${meanMs}`);
  for (const times of [0.1, 1, 3]) {
    const longer = gaps.filter((gap) => gap > times * 250).length;
    assert.ok(deviation(longer, draws, Math.exp(-times)) < 4.5, `${times}`);
  }
  const product = gaps.slice(1).reduce((sum, gap, i) => sum + (gap / 250 - 1) * (gaps[i] / 250 - 1), 0);
  assert.ok(Math.abs(product) < 4.5 * Math.sqrt(draws));
});

test("requests follow from the seed, and none begins like another", () => {
  const settings = { seed: 5, vocabularySize: 50_000 };
  const requests = take(drawRequests(settings), 300);
  assert.deepEqual(take(drawRequests(settings), 300), requests);
  const others = take(drawRequests({ ...settings, seed: 15 }), 300);
  const long = [...requests, ...others].filter(({ prompt }) => prompt.length >= 8);
  assert.equal(new Set(long.map(({ prompt }) => prompt.slice(0, 8).join())).size, long.length);
  assert.ok(Math.abs(median(requests.map(({ prompt }) => prompt.length)) / promptLengths.median - 1) < 0.3);
});

/** Answers a token each millisecond or so, and counts who is under way. */
function fakeModel() {
  const seen = { running: 0, most: 0, cancelled: 0, requests: [] };
  const generate = (prompt, { maxTokens, cacheSalt }) => {
    seen.requests.push({ prompt, maxTokens, cacheSalt });
    seen.most = Math.max(seen.most, ++seen.running);
    let left = maxTokens;
    let finishReason = "length";
    const reply = {
      cancel: () => {
        if (left === 0) return;
        finishReason = "aborted";
        left = 0;
        seen.cancelled++;
      },
      async *[Symbol.asyncIterator]() {
        while (left > 0) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          if (left === 0) break;
          left--;
          yield { tokens: [1] };
        }
        seen.running--;
      },
      // biome-ignore lint/suspicious/noThenProperty: replies are awaited
      then: (resolve) =>
        resolve({
          finishReason,
          timings: { queueMs: 0, ttftMs: 1 },
          usage: { completionTokens: maxTokens, cachedTokens: 0 },
        }),
    };
    return reply;
  };
  return { generate, seen };
}

function* requestsOf(tokens) {
  for (;;) yield { prompt: [1, 2, 3], answerTokens: tokens };
}

test("saturated: as many as allowed are under way all the time, and each has a salt of its own", async () => {
  const model = fakeModel();
  const plan = { requests: requestsOf(5), streams: 4, seconds: 0.2 };
  const { beginMs, endMs, records } = await saturate(model, plan);
  assert.equal(model.seen.most, 4);
  assert.equal(model.seen.running, 0);
  assert.ok(Math.abs(endMs - beginMs - 200) < 1e-6);
  const ends = records.flatMap((record) => record.endMs ?? []).sort((a, b) => a - b);
  assert.ok(ends[3] <= beginMs && beginMs <= ends[4]);
  assert.equal(records.filter((record) => record.endMs === undefined).length, model.seen.cancelled);
  const salts = model.seen.requests.map(({ cacheSalt }) => cacheSalt);
  assert.equal(new Set(salts).size, salts.length);
});

test("arrivals: those due within the span are measured to their ends, with company until then", async () => {
  const model = fakeModel();
  const arrivals = Array.from({ length: 1000 }, (_, i) => 10 * i + 5);
  const plan = { requests: requestsOf(30), arrivals, warmupSeconds: 0.1, seconds: 0.1 };
  const { records } = await arrive(model, plan);
  assert.equal(records.length, 10);
  assert.ok(records.every(({ tokenMs, endMs }) => tokenMs.length === 30 && endMs >= tokenMs[29]));
  const [first, last] = [records[0].dueMs, records[9].dueMs];
  assert.ok(Math.abs(last - first - 90) < 1e-6);
  assert.ok(records.every(({ dueMs, tokenMs }) => tokenMs[0] > dueMs));
  const latestEnd = Math.max(...records.map(({ endMs }) => endMs));
  assert.ok(model.seen.requests.length > 10 + 10 && latestEnd > last);
  assert.equal(model.seen.running, 0);
});

test("together, sustained and interrupted: what is timed is complete, the rest cancelled", async () => {
  const requests = take(requestsOf(1000), 4);
  const short = await together(fakeModel(), { requests: take(requestsOf(3), 4) });
  assert.deepEqual(
    short.records.map(({ tokenMs }) => tokenMs.length),
    [3, 3, 3, 3],
  );
  assert.ok(short.records.every(({ endMs }) => endMs <= short.endMs));

  const sustained = await sustain(fakeModel(), { requests, tokens: 8 });
  const within = sustained.records.flatMap(({ tokenMs }) =>
    tokenMs.filter((ms) => ms >= sustained.beginMs && ms <= sustained.endMs),
  );
  assert.ok(within.length >= 4 * 8 && within.length <= 4 * 9 + 1, `${within.length}`);

  const model = fakeModel();
  const plan = { streams: requests, long: { prompt: [9], answerTokens: 1 } };
  const run = await interrupt(model, { ...plan, settleTokens: 3, quietTokens: 5, afterTokens: 4 });
  assert.equal(run.long.tokenMs.length, 1);
  assert.ok(run.quietMs < run.long.dueMs);
  assert.ok(run.records.every(({ tokenMs }) => tokenMs[7] <= run.long.dueMs));
  assert.ok(run.records.some(({ tokenMs }) => tokenMs.filter((ms) => ms > run.long.tokenMs[0]).length >= 3));
  assert.equal(model.seen.cancelled, 4);
});
