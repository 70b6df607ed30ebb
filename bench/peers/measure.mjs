// One model through all engines: loads in fresh processes first, for a file that a process has mapped stays cached,
// then speeds in processes that stay.
import { EngineError } from "../engines/engine-process.mjs";
import { dropPageCache } from "./page-cache.mjs";
import { promptsOf } from "./prompts.mjs";
import { peakBytesOf, runRequest, startEngine } from "./run-engine.mjs";
import { schedule } from "./schedule.mjs";

/** @typedef {{ name: string, program: object, status: string, reason?: string, version?: string }} Entrant */

/**
 * Measures `works` of one model. Engines that fail are marked and left out from then on.
 *
 * @param {Entrant[]} entrants engines that can be started; `ours` names one of them
 * @param {object} plan path, vocabularySize, works, rounds, threads, contextTokens, timeoutMs, ours
 * @param {{ onOurs: (work: object, round: number) => void, note: (text: string) => void }} hooks `onOurs` is
 *   called after each measurement of ours
 * @returns {Promise<import("./summary.mjs").Measurement[]>}
 */
export async function measureModel(entrants, plan, hooks) {
  const measurements = [];
  const byName = new Map(entrants.map((entrant) => [entrant.name, entrant]));
  const runStage = async (works, stage, rounds, measure) => {
    if (works.length === 0) return;
    const peers = entrants.filter(({ name, status }) => name !== plan.ours && status === "ran");
    const order = { ...rounds, works, peers: peers.map(({ name }) => name), ours: plan.ours };
    let round;
    for (const step of schedule(order)) {
      if (step.round !== round) {
        round = step.round;
        hooks.note(`${stage}: ${round < 0 ? "warming up" : `round ${round + 1} of ${rounds.rounds}`}`);
      }
      const entrant = byName.get(step.engine);
      if (entrant.status !== "ran" || (step.against && byName.get(step.against).status !== "ran")) continue;
      const value = await attempt(entrant, () => measure(entrant, step), hooks);
      if (value !== undefined && round >= 0) {
        const { against } = step;
        const where = { work: step.work.id, round, engine: entrant.name };
        measurements.push({ ...where, ...(against === undefined ? {} : { against }), value });
        if (entrant.name === plan.ours) hooks.onOurs(step.work, round);
      }
    }
  };

  const loads = plan.works.filter(({ stage }) => stage === "load");
  const primed = new Set();
  await runStage(loads, "load and memory", { firstRound: -1, rounds: plan.rounds }, (entrant, step) => {
    if (step.round >= 0) return measureFresh(entrant, step, plan, hooks);
    if (primed.has(entrant.name)) return undefined;
    primed.add(entrant.name);
    return prime(entrant, plan);
  });
  const speeds = plan.works.filter(({ stage }) => stage === "speed");
  const running = new Map();
  try {
    await runStage(speeds, "speed", { firstRound: -1, rounds: plan.rounds }, async (entrant, step) => {
      if (!running.has(entrant.name)) running.set(entrant.name, await start(entrant, plan));
      return measureSpeed(running.get(entrant.name), entrant, step, plan);
    });
  } finally {
    await Promise.all([...running.values()].map((engine) => engine.close()));
  }
  return measurements;
}

/** The measured value; undefined if the engine failed or the work cannot be measured here. */
async function attempt(entrant, measure, { note }) {
  try {
    return await measure();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    entrant.status = "failed";
    entrant.reason = error.message;
    note(`${error.message}; the run goes on without it`);
    return undefined;
  }
}

async function start(entrant, plan) {
  const { engine, loaded } = await startEngine(entrant, plan);
  entrant.version = loaded.version;
  entrant.configuration = loaded.configuration;
  return engine;
}

async function measureSpeed(engine, entrant, { round, work }, plan) {
  const { vocabularySize, works, timeoutMs } = plan;
  const prompts = promptsOf(work.request, { vocabularySize, round, work: works.indexOf(work) });
  const answer = await runRequest(engine, entrant.name, { request: work.request, prompts, timeoutMs });
  if (answer.setting) entrant.settings = { ...entrant.settings, [work.id]: answer.setting };
  return work.value(answer);
}

/** A first load, so that what engines keep for the next one is there. */
async function prime(entrant, plan) {
  await (await start(entrant, plan)).close();
}

/** A load, and where the work has a request its peak of memory, in a process of its own. */
async function measureFresh(entrant, { round, work }, plan, { note }) {
  if (work.cold && !dropPageCache(plan.path)) {
    note(`${work.id} of ${entrant.name} is left out: the page cache could not be dropped`);
    return undefined;
  }
  const { engine, loaded } = await startEngine(entrant, plan, work.packedCache);
  try {
    entrant.version = loaded.version;
    entrant.configuration = loaded.configuration;
    if (work.request === undefined) return work.value(loaded);
    const { vocabularySize, works, timeoutMs } = plan;
    const prompts = promptsOf(work.request, { vocabularySize, round, work: works.indexOf(work) });
    await runRequest(engine, entrant.name, { request: work.request, prompts, timeoutMs });
    const peakBytes = peakBytesOf(engine.pid);
    return peakBytes === undefined ? undefined : work.value({ peakBytes });
  } finally {
    await engine.close();
  }
}
