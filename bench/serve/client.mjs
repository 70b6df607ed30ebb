// One caller of the library, with a watch.
import { randomUUID } from "node:crypto";
import { monitorEventLoopDelay } from "node:perf_hooks";

const eventLoopResolutionMs = 5;

/**
 * @typedef {object} RequestRecord
 * @property {number} dueMs when it arrived; all moments are on the clock of `performance.now()`
 * @property {number[]} tokenMs when the caller had each token
 * @property {number} [endMs] when the reply was complete; absent when it was cancelled
 * @property {number} promptTokens
 * @property {number} [queueMs] from the call to its first step, as the engine says
 * @property {number} [engineTtftMs] from the call to its first token, as the engine says
 */

/**
 * Answers a request and notes when its tokens came. A salt of its own keeps it from taking anything from the cache.
 *
 * @param {import("../../dist/index.mjs").Model} model
 * @param {{ prompt: number[], answerTokens: number }} request
 * @param {{ dueMs?: number, signal?: AbortSignal, onToken?: (count: number) => void }} options a signal ends it
 *   with what there is; `onToken` is told each token's number, from 1
 * @returns {Promise<RequestRecord>}
 */
export async function answer(model, { prompt, answerTokens }, { dueMs, signal, onToken } = {}) {
  const record = { dueMs: dueMs ?? performance.now(), promptTokens: prompt.length, tokenMs: [] };
  const options = { maxTokens: answerTokens, temperature: 0, ignoreEos: true, cacheSalt: randomUUID() };
  const reply = model.generate(prompt, options);
  const cancel = () => reply.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  if (signal?.aborted) cancel();
  for await (const { tokens } of reply) {
    const nowMs = performance.now();
    for (let i = 0; i < tokens.length; i++) {
      record.tokenMs.push(nowMs);
      onToken?.(record.tokenMs.length);
    }
  }
  signal?.removeEventListener("abort", cancel);
  const { finishReason, timings, usage } = await reply;
  if (finishReason === "aborted") return record;
  if (usage.completionTokens !== answerTokens || usage.cachedTokens > 0) {
    throw new Error(
      `${usage.completionTokens} tokens instead of ${answerTokens}, ${usage.cachedTokens} from the cache`,
    );
  }
  return {
    ...record,
    endMs: performance.now(),
    queueMs: timings.queueMs,
    engineTtftMs: timings.ttftMs,
  };
}

function countersOf(model) {
  const { steps, preempted, histograms } = model.stats();
  const { stepRows, stepSequences } = histograms;
  return { steps, preempted, rows: stepRows.sum, sequences: stepSequences.sum };
}

/** Runs a phase beside a watch on the event loop and the engine's counters. */
export async function watch(model, phase) {
  const delay = monitorEventLoopDelay({ resolution: eventLoopResolutionMs });
  const before = countersOf(model);
  delay.enable();
  const result = await phase();
  delay.disable();
  const after = countersOf(model);
  const steps = after.steps - before.steps;
  const lateMs = (percent) => Math.max(0, delay.percentile(percent) / 1e6 - eventLoopResolutionMs);
  return {
    ...result,
    eventLoopMs: {
      p50: lateMs(50),
      p99: lateMs(99),
      max: Math.max(0, delay.max / 1e6 - eventLoopResolutionMs),
    },
    engine: {
      steps,
      rowsPerStep: (after.rows - before.rows) / Math.max(1, steps),
      sequencesPerStep: (after.sequences - before.sequences) / Math.max(1, steps),
      preempted: after.preempted - before.preempted,
    },
  };
}
