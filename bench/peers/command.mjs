// `npm run bench -- peers`: every model through every engine, round by round.
import { createRequire } from "node:module";
import { engines, oursName } from "../engines/catalog.mjs";
import { EngineError } from "../engines/engine-process.mjs";
import { judgeArithmetic, measureLimits, summarizeLimits } from "../limits.mjs";
import { isSynthetic, ModelUnavailable, modelLabel, modelNames, provideModel } from "../models/catalog.mjs";
import { prefillOperations, readModel } from "../models/costs.mjs";
import { buildPrograms } from "../native-programs.mjs";
import { describeModel } from "../report/peers-table.mjs";
import { writeResult } from "../report/result-file.mjs";
import { measureModel } from "./measure.mjs";
import { fractionOf, oneByOne, summarizeWork } from "./summary.mjs";
import { allWorks, contextTokensOf } from "./works.mjs";

const { UsageError } = createRequire(import.meta.url)("../../dist/cli/exit.js");

const note = (text) => process.stderr.write(`bench: ${text}\n`);

/** Every engine asked for, ready to start or left out with the reason. */
function prepareEntrants(names, { python, install }) {
  return names.map((name) => {
    try {
      const options = { python, allowed: install, announce: (text) => note(`${name}: ${text}`) };
      return { name, status: "ran", program: engines[name].prepare(options) };
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      note(`${name} is left out: ${error.message}`);
      return { name, status: "left out", reason: error.message };
    }
  });
}

/** The highest figures that the machine allows a work, by round, from the limits measured beside it. */
function limitsOf(work, model, limits) {
  const beside = limits.measured.filter((one) => one.work === work.id);
  const byRound = (figureOf) => {
    return new Map(beside.flatMap((one) => figureOf(one).map((figure) => [one.round, figure])));
  };
  if (work.limit === "decode") {
    return { of: "read", byRound: byRound(({ read }) => [read.bytesPerSecond / model.stepBytes]) };
  }
  if (work.limit !== "prefill") return { byRound: new Map() };
  const tokens = work.request.promptTokens;
  const kind = model.isQuantized ? "integer" : "float";
  const figureOf = (one) => {
    const peak = judgeArithmetic(one[kind]);
    return peak.void ? [] : [(peak.operationsPerSecond * tokens) / prefillOperations(model, tokens)];
  };
  return { of: model.isQuantized ? "integer peak" : "f32 peak", byRound: byRound(figureOf) };
}

function summarizeModel(model, { works, measurements, limits, entrants }) {
  const names = entrants.map(({ name }) => name);
  const peers = names.filter((name) => name !== oursName);
  const roles = { ours: oursName, peers, llamaCpps: peers.filter((name) => engines[name].isLlamaCpp) };
  const summaries = works.map((work) => {
    const { of, byRound } = limitsOf(work, model, limits);
    const fraction = fractionOf(work, measurements, byRound, oursName) ?? { void: true };
    const summary = summarizeWork(work, measurements, roles);
    return work.limit === undefined ? summary : { ...summary, fraction: { of, ...fraction } };
  });
  const single = works.find(({ id }) => id === "decode-0");
  const alone = peers
    .filter((peer) => !engines[peer].isLlamaCpp)
    .flatMap((peer) =>
      works
        .filter(({ request }) => single !== undefined && request?.purpose === "streams")
        .flatMap(({ id: streams }) => {
          const ratio = oneByOne(streams, single.id, measurements, { ours: oursName, peer });
          return ratio === undefined ? [] : [{ streams, peer, ratio }];
        }),
    );
  const shown = entrants.map(({ program, ...entrant }) => entrant);
  return { ...model, entrants: shown, limits, works: summaries, oneByOne: alone };
}

/** The works asked for, or those that the model has by default. */
function selectWorks(model, { quick, works: wanted }) {
  const all = allWorks({ quick });
  const unknown = wanted?.find((id) => all.every((work) => work.id !== id));
  if (unknown !== undefined) {
    throw new UsageError(`Unknown work '${unknown}'; known are ${all.map(({ id }) => id).join(", ")}`);
  }
  const isLong = ({ request }) => request !== undefined && request.promptTokens > 512;
  if (wanted === undefined) return all.filter((work) => !(isSynthetic(model) && isLong(work)));
  return all.filter(({ id }) => wanted.includes(id));
}

async function benchModel(name, path, works, options, prepared) {
  const model = { name: modelLabel(name), path, ...readModel(path) };
  const { rounds, threads } = options;
  const entrants = prepared.map((entrant) => ({ ...entrant }));
  const plan = {
    path,
    vocabularySize: model.vocabularySize,
    works,
    rounds,
    threads,
    contextTokens: contextTokensOf(works),
    timeoutMs: options.timeout * 1000,
    ours: oursName,
  };
  const limits = [];
  const ready = entrants.filter(({ status }) => status === "ran");
  const measurements = await measureModel(ready, plan, {
    note: (text) => note(`${name}: ${text}`),
    onOurs: ({ id, limit }, round) => {
      if (limit === undefined || limits.some((one) => one.work === id && one.round === round)) return;
      limits.push({ work: id, round, ...measureLimits({ threads, bytes: model.stepBytes }) });
    },
  });
  if (limits.length === 0) limits.push(measureLimits({ threads, bytes: model.stepBytes }));
  return summarizeModel(model, { works, measurements, limits: summarizeLimits(limits), entrants });
}

/** One model's results; where it cannot be had, the reason. */
async function tryModel(name, works, options, entrants) {
  try {
    const path = await provideModel(name, { announce: note });
    return await benchModel(name, path, works, options, entrants);
  } catch (error) {
    if (!(error instanceof ModelUnavailable)) throw error;
    return { name, unavailable: error.message };
  }
}

/**
 * @param {{ model?: string[], engines?: string[], works?: string[], rounds?: number, quick: boolean,
 *   threads?: number, python?: string, install: boolean, out?: string, timeout: number }} options
 * @returns {Promise<boolean>} whether ours ran everything
 */
export async function peers(options) {
  const rounds = options.rounds ?? (options.quick ? 3 : 7);
  const models = options.model ?? modelNames;
  const selected = models.map((name) => ({ name, works: selectWorks(name, options) }));
  buildPrograms("limits");
  const threads = options.threads ?? measureLimits({ threads: 0, bytes: 2 ** 20 }).threads;
  const names = [oursName, ...(options.engines ?? Object.keys(engines)).filter((name) => name !== oursName)];
  const entrants = prepareEntrants(names, options);
  const results = [];
  for (const { name, works } of selected) {
    const result = await tryModel(name, works, { ...options, rounds, threads }, entrants);
    process.stdout.write(
      result.unavailable === undefined
        ? describeModel(result, oursName)
        : `\n${name}: left out: ${result.unavailable}\n`,
    );
    results.push(result);
  }
  const settings = { rounds, threads, quick: options.quick };
  process.stdout.write(`\n${writeResult("peers", { settings, models: results }, options.out)}\n`);
  const ours = results.flatMap(({ entrants: all = [] }) => all.filter(({ name }) => name === oursName));
  return ours.every(({ status }) => status === "ran");
}
