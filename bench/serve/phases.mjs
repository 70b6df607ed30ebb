// What the load test does to a model. Each phase gives what its callers saw; nothing is computed of it here.
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { answer } from "./client.mjs";

/** Ends any number of requests. */
function stopper() {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}

/** Never early, as a timer of whole milliseconds can be. */
async function sleepUntil(ms) {
  for (let left = ms - performance.now(); left > 0; left = ms - performance.now()) await sleep(left);
}

/** All requests at once, to the last token. */
export async function together(model, { requests }) {
  const beginMs = performance.now();
  const records = await Promise.all(requests.map((request) => answer(model, request, { dueMs: beginMs })));
  return { beginMs, endMs: performance.now(), records };
}

/**
 * More requests than can be answered: `streams` are under way all the time, and where one ends the next begins. The
 * steady part begins when as many have ended as are under way and takes `seconds`; then the rest is cancelled.
 *
 * @param {{ requests: Iterator<object>, streams: number, seconds: number }} plan
 */
export async function saturate(model, { requests, streams, seconds }) {
  const stop = stopper();
  const records = [];
  let ended = 0;
  let beginMs;
  let timer;
  const stream = async () => {
    while (!stop.signal.aborted) {
      records.push(await answer(model, requests.next().value, { signal: stop.signal }));
      if (++ended !== streams) continue;
      beginMs = performance.now();
      timer = setTimeout(() => stop.abort(), seconds * 1000);
    }
  };
  try {
    await Promise.all(Array.from({ length: streams }, stream));
  } finally {
    clearTimeout(timer);
  }
  return { beginMs, endMs: beginMs + seconds * 1000, records };
}

/**
 * Requests that arrive whenever they like. Measured are those due between `warmupSeconds` and `seconds` later;
 * others keep arriving until these are complete and are cancelled then, so that the last ones have the same company.
 *
 * @param {{ requests: Iterator<object>, arrivals: Iterable<number>, warmupSeconds: number,
 *   seconds: number }} plan arrivals in milliseconds from the phase's beginning
 */
export async function arrive(model, { requests, arrivals, warmupSeconds, seconds }) {
  const stop = stopper();
  const originMs = performance.now();
  const [beginMs, endMs] = [warmupSeconds * 1000, (warmupSeconds + seconds) * 1000];
  const measured = [];
  const others = [];
  let complete;
  let isComplete = false;
  for (const atMs of arrivals) {
    if (atMs >= endMs) {
      complete ??= Promise.all(measured).then(() => {
        isComplete = true;
      });
    }
    const dueMs = originMs + atMs;
    await Promise.race([sleepUntil(dueMs), ...(complete ? [complete] : [])]);
    if (isComplete) break;
    const record = answer(model, requests.next().value, { dueMs, signal: stop.signal });
    (atMs >= beginMs && atMs < endMs ? measured : others).push(record);
  }
  stop.abort();
  await Promise.all(others);
  return { seconds, records: await Promise.all(measured) };
}

/** A promise that the `count`th call of `reached` resolves. */
function gate(count) {
  const calls = { missing: count };
  const promise = new Promise((resolve) => {
    calls.reached = () => {
      if (--calls.missing === 0) resolve();
    };
  });
  return { promise, reached: calls.reached };
}

/**
 * All requests at once; the span that is given begins when each has its first token and ends when they have had
 * `tokens` more on average. Then they are cancelled.
 *
 * @param {{ requests: object[], tokens: number }} plan
 */
export async function sustain(model, { requests, tokens }) {
  const stop = stopper();
  const first = gate(requests.length);
  const enough = gate(requests.length * tokens);
  let beginMs;
  const onToken = (count) => {
    if (count === 1) first.reached();
    else if (beginMs !== undefined) enough.reached();
  };
  const answers = requests.map((request) => answer(model, request, { signal: stop.signal, onToken }));
  await first.promise;
  beginMs = performance.now();
  await enough.promise;
  const endMs = performance.now();
  stop.abort();
  return { beginMs, endMs, records: await Promise.all(answers) };
}

/**
 * A long prompt among streams that run: after `settleTokens` of each stream, `quietTokens` of each alone, then until
 * the prompt's first token, and `afterTokens` more.
 *
 * @param {{ streams: object[], long: object, settleTokens: number, quietTokens: number, afterTokens: number }} plan
 */
export async function interrupt(model, { streams, long, settleTokens, quietTokens, afterTokens }) {
  const stop = stopper();
  const settled = gate(streams.length);
  const quiet = gate(streams.length);
  let lastTokens = Number.POSITIVE_INFINITY;
  const longest = { count: 0 };
  const after = gate(1);
  const onToken = (count) => {
    if (count === settleTokens) settled.reached();
    if (count === settleTokens + quietTokens) quiet.reached();
    longest.count = Math.max(longest.count, count);
    if (count === lastTokens) after.reached();
  };
  const answers = streams.map((request) => answer(model, request, { signal: stop.signal, onToken }));
  await settled.promise;
  const quietMs = performance.now();
  await quiet.promise;
  const arrival = await answer(model, long);
  lastTokens = longest.count + afterTokens;
  await after.promise;
  stop.abort();
  return { quietMs, long: arrival, records: await Promise.all(answers) };
}
