// `npm run bench -- reuse`: what is gained where work need not be done again.
import { createRequire } from "node:module";
import { loadModel } from "../../dist/index.mjs";
import { provideModel } from "../models/catalog.mjs";
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
  return formatTable(
    [
      ["FORKS", "TOKENS", "MEDIAN MS", "MAX MS", "RESIDENT KB", "KV KB", "PAGES", "SAME REPLIES", "HOLDS"],
      [
        `${count}`,
        `${depth}`,
        formatFigure(medianMs),
        formatFigure(maxMs),
        kilobytes(rssBytes),
        kilobytes(kvBytes),
        `${pages}`,
        rest.identical ? "yes" : "NO",
        `${rest.holds ? "yes" : "NO"}: < ${demanded.maxMs} ms each, < ${kilobytes(demanded.bytes)} KB in all`,
      ],
    ],
    [0, 1, 2, 3, 4, 5, 6],
  );
}

/** @param {{ model: string, rounds: number, threads?: number, out?: string }} options */
export async function reuse({ model: name, rounds, threads, out }) {
  const path = await provideModel(name, { announce: note });
  const model = await loadModel(path, threads === undefined ? {} : { threads });
  note(`${name}: guesses`);
  const draft = await measureDraft(model, rounds);
  note(`${name}: shared prefixes`);
  const shared = await measurePrefix(model, rounds);
  note(`${name}: forks`);
  const forks = await measureFork(model);
  const fork = { ...forks, ...summarizeFork(forks) };
  await model.dispose();
  process.stdout.write(`\n${describeDraft(draft)}\n${describePrefix(shared)}\n${describeFork(fork)}`);
  const settings = { rounds, threads: model.info.device.threads };
  const result = { settings, model: name, draft, prefix: shared, fork };
  process.stdout.write(`\n${writeResult("reuse", result, out)}\n`);
  return [...draft, fork].every(({ identical }) => identical);
}
