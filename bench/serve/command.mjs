// `npm run bench -- serve`: the library under the load of a service.
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { EngineProcess } from "../engines/engine-process.mjs";
import { modelLabel, provideModel } from "../models/catalog.mjs";
import { plotPathOf, writePlot } from "../report/plot-file.mjs";
import { writeResult } from "../report/result-file.mjs";
import { describeServe } from "../report/serve-table.mjs";
import { contextTokens, deepPromptTokens, interruption, planOf, streams, warmupSeconds } from "./plan.mjs";
import { plotServe } from "./plots.mjs";
import { summarizeInterruptions, summarizeLoad, summarizeOffline, summarizeSaturated } from "./summary.mjs";
import { meanRequestTokens } from "./workload.mjs";

const { UsageError } = createRequire(import.meta.url)("../../dist/cli/exit.js");

const note = (text) => process.stderr.write(`bench: ${text}\n`);

/** One figure a round, after one round that warms up. */
async function rounds(count, run) {
  const results = [];
  for (let round = -1; round < count; round++) {
    const result = await run(round);
    if (round >= 0) results.push(result);
  }
  return results;
}

/** The phases one after the other; seeds differ, so that no phase has another's requests. */
async function measure(ask, plan, seed) {
  const nextSeed = seeds(seed);
  note("offline");
  const decode = await rounds(plan.offlineRounds, () =>
    ask("decodeTogether", { seed: nextSeed(), streams, tokens: plan.offlineTokens }),
  );
  const deep = [];
  for (let round = 0; round < plan.deepRounds; round++) {
    const params = { seed: nextSeed(), streams, promptTokens: deepPromptTokens, tokens: plan.offlineTokens };
    deep.push(await ask("sustain", params));
  }
  const prefill = await rounds(plan.offlineRounds, () =>
    ask("prefillTogether", { seed: nextSeed(), streams }),
  );
  const offline = summarizeOffline({ decode, deep, prefill });

  note("saturated");
  const saturatedRun = await ask("saturate", { seed: nextSeed(), streams, seconds: plan.seconds });
  const saturated = summarizeSaturated(saturatedRun, offline.rates, meanRequestTokens());

  const loads = [];
  for (const load of plan.loads) {
    const perSecond = load * saturated.requestsPerSecond;
    note(`${Math.round(load * 100)} %: ${perSecond.toFixed(2)} requests a second`);
    const params = { seed: nextSeed(), perSecond, warmupSeconds, seconds: plan.seconds };
    const run = await ask("arrive", params);
    loads.push({ ...summarizeLoad(run, load, saturated.requestsPerSecond), ...watched(run) });
  }

  note("long prompt");
  const interruptions = [];
  for (let round = 0; round < plan.interruptions; round++) {
    interruptions.push(await ask("interrupt", { seed: nextSeed(), ...interruption }));
  }
  const long = summarizeInterruptions(interruptions);
  return { offline, saturated: { ...saturated, ...watched(saturatedRun) }, loads, long };
}

const watched = ({ engine, eventLoopMs }) => ({ engine, eventLoopMs });

/** Seeds that are apart even from those of a neighbouring seed. */
function seeds(seed) {
  let count = 0;
  return () => seed * 1000 + 10 * count++;
}

/** All figures in one list, and the rest beside it. */
function resultOf({ offline, saturated, loads, long }) {
  const parts = [offline, saturated, ...loads, long];
  const withoutFigures = ({ figures, ...rest }) => rest;
  return {
    figures: parts.flatMap(({ figures }) => figures),
    offline: withoutFigures(offline),
    saturated: withoutFigures(saturated),
    loads: loads.map(withoutFigures),
    long: withoutFigures(long),
  };
}

/**
 * @param {{ model: string, threads?: number, seed: number, seconds?: number, loads?: number[], targetTpot?: number,
 *   quick: boolean, timeout: number, out?: string }} options
 */
export async function serve(options) {
  const plan = planOf(options);
  const path = await provideModel(options.model, { announce: note });
  const loadProcess = new EngineProcess("the load process", {
    command: process.execPath,
    parameters: [fileURLToPath(new URL("load-process.mjs", import.meta.url))],
  });
  const ask = (method, params) => loadProcess.request(method, params, options.timeout * 1000);
  try {
    const { threads, targetTpot, seed, quick } = options;
    const model = await ask("load", { model: path, threads, targetTpot });
    if (model.contextLength < contextTokens) {
      throw new UsageError(
        `${path} has a context of ${model.contextLength} tokens; the load test needs ${contextTokens}`,
      );
    }
    const result = resultOf(await measure(ask, plan, seed));
    const settings = { ...plan, streams, warmupSeconds, seed, targetTpot, quick };
    const content = { settings, model: { ...model, name: modelLabel(options.model), path }, ...result };
    const file = writeResult("serve", content, options.out);
    const plot = writePlot(plotPathOf(file), plotServe(content));
    process.stdout.write(`${describeServe(content)}\n${file}\n${plot}\n`);
  } finally {
    await loadProcess.close();
  }
}
