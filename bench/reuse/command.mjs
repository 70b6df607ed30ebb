// `npm run bench -- reuse`: what is gained where work need not be done again.
import { createRequire } from "node:module";
import { loadModel } from "../../dist/index.mjs";
import { ModelUnavailable, provideModel, provideWidened } from "../models/catalog.mjs";
import { describeBar } from "../report/bars.mjs";
import { formatFigure, formatPercent, formatRatio } from "../report/format.mjs";
import { writeResult } from "../report/result-file.mjs";
import { median } from "../report/statistics.mjs";
import { measureFork, summarizeFork } from "./fork.mjs";
import { measureDraft, measurePrefix } from "./measure.mjs";
import { prefix } from "./works.mjs";

const { formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

const note = (text) => process.stderr.write(`bench: ${text}\n`);
const ratios = (over, under) => over.map((value, i) => value / under[i]);

function describeDraft(works) {
  const rows = works.map(({ id, quotes, plain, drafted, identical, guessed, accepted }) => [
    id,
    quotes ? "yes" : "no",
    formatFigure(median(plain)),
    formatFigure(median(drafted)),
    formatRatio(median(ratios(drafted, plain))),
    guessed === 0 ? "–" : `${accepted} of ${guessed}`,
    identical ? "yes" : "NO",
  ]);
  return formatTable(
    [["PROMPT", "QUOTED", "TOKENS/S", "WITH GUESSES", "RATIO", "GUESSES RIGHT", "SAME REPLY"], ...rows],
    [2, 3, 4, 5],
  );
}

function describePrefix({ coldMs, warmMs, laterShare }) {
  return [
    `${prefix.requests} requests at once with ${prefix.tokens} tokens in common: `,
    `each later one computes at most ${formatPercent(Math.max(...laterShare))} of the first's prefill\n`,
    `one afterwards: first token after ${formatFigure(median(warmMs))} ms instead of `,
    `${formatFigure(median(coldMs))} ms, ${formatRatio(median(ratios(coldMs, warmMs)))} sooner\n`,
  ].join("");
}

/** @param {ReturnType<typeof summarizeFork>} summary */
export function describeFork({ depth, count, medianMs, maxMs, rssBytes, kvBytes, pages, demanded, ...rest }) {
  const kilobytes = (bytes) => String(Math.round(bytes / 1000));
  const table = formatTable(
    [
      ["FORKS", "TOKENS", "MEDIAN MS", "MAX MS", "RESIDENT KB", "KV KB", "PAGES", "SAME REPLIES"],
      [
        `${count}`,
        `${depth}`,
        formatFigure(medianMs),
        formatFigure(maxMs),
        kilobytes(rssBytes),
        kilobytes(kvBytes),
        `${pages}`,
        rest.identical ? "yes" : "NO",
      ],
    ],
    [0, 1, 2, 3, 4, 5, 6],
  );
  const bytes = Math.max(rssBytes, kvBytes);
  return [
    `${table}each fork's time: `,
    `${describeBar(maxMs, { below: demanded.maxMs }, (ms) => `${ms} ms`)}\n`,
    `memory of all forks: `,
    `${describeBar(bytes, { below: demanded.bytes }, (value) => `${kilobytes(value)} KB`)}\n`,
  ].join("");
}

/**
 * A model with a draft model: as long as no pair of sizes with one vocabulary can be had, the given model guesses
 * for an F16 file of its own weights. That shows the mechanism at its best, a draft that is nearly always right and
 * reads a third of the bytes, and not what a draft of another size gains.
 */
async function measureDraftModel(path, model, { rounds, loadOptions }) {
  if (["F32", "F16", "BF16"].includes(model.info.quantization)) return undefined;
  try {
    const target = await loadModel(await provideWidened(path, { announce: note }), loadOptions);
    const works = await measureDraft(target, rounds, model);
    await target.dispose();
    return works;
  } catch (error) {
    if (!(error instanceof ModelUnavailable)) throw error;
    note(`no draft model: ${error.message}`);
    return undefined;
  }
}

function describeDraftModel(works, { quantization }) {
  if (!works) return "";
  return (
    `an F16 file of the same weights, with the ${quantization} file as its draft model (the same model, so nearly ` +
    `always right: the mechanism at its best, not what a draft of another size gains):\n${describeDraft(works)}\n`
  );
}

/** @param {{ model: string, rounds: number, threads?: number, out?: string }} options */
export async function reuse({ model: name, rounds, threads, out }) {
  const path = await provideModel(name, { announce: note });
  const loadOptions = threads === undefined ? {} : { threads };
  const model = await loadModel(path, loadOptions);
  note(`${name}: guesses`);
  const draft = await measureDraft(model, rounds);
  note(`${name}: shared prefixes`);
  const shared = await measurePrefix(model, rounds);
  note(`${name}: forks`);
  const forks = await measureFork(model);
  const fork = { ...forks, ...summarizeFork(forks) };
  note(`${name}: a draft model`);
  const draftModel = await measureDraftModel(path, model, { rounds, loadOptions });
  await model.dispose();
  const drafted = describeDraftModel(draftModel, model.info);
  process.stdout.write(
    `\n${describeDraft(draft)}\n${drafted}${describePrefix(shared)}\n${describeFork(fork)}`,
  );
  const settings = { rounds, threads: model.info.device.threads };
  const result = { settings, model: name, draft, draftModel, prefix: shared, fork };
  process.stdout.write(`\n${writeResult("reuse", result, out)}\n`);
  return [...draft, ...(draftModel ?? []), fork].every(({ identical }) => identical);
}
