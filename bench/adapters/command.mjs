// `npm run bench -- adapters`: what adapters cost the streams of a batch.
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "../../dist/index.mjs";
import { provideModel } from "../models/catalog.mjs";
import { describeBar } from "../report/bars.mjs";
import { formatFigure, formatPercent } from "../report/format.mjs";
import { writeResult } from "../report/result-file.mjs";
import { median } from "../report/statistics.mjs";
import { measureLoads, measureMixes } from "./measure.mjs";
import { linearLayers, writeAdapter } from "./synthetic-adapter.mjs";

const { formatTable } = createRequire(import.meta.url)("../../dist/cli/text.js");

const note = (text) => process.stderr.write(`bench: ${text}\n`);

/** What streams have to keep of their speed: by the ids of mixes, and those without an adapter beside others. */
const keptBars = { own: { atLeast: 0.75 }, one: { atLeast: 0.85 } };
const besideBar = { atLeast: 0.95 };
const loadBar = { below: 20 };

const keptOf = ({ plain, adapted }) => median(adapted.map((speed, i) => speed / plain[i]));

/** @param {Awaited<ReturnType<typeof measureMixes>>} mixes */
export function describeBars(mixes, loadMs) {
  const line = (text, kept, bar) =>
    `${text}: ${formatPercent(kept)} kept; ${describeBar(kept, bar, formatPercent)}\n`;
  const lines = mixes.flatMap(({ id, text, beside, ...all }) => [
    ...(keptBars[id] ? [line(text, keptOf(all), keptBars[id])] : []),
    ...(beside.plain.length > 0 ? [line(`${text}: the streams without one`, keptOf(beside), besideBar)] : []),
  ]);
  const ms = median(loadMs);
  const load = `loading one: ${formatFigure(ms)} ms; ${describeBar(ms, loadBar, (value) => `${value} ms`)}\n`;
  return [...lines, load].join("");
}

function describe(mixes) {
  const rows = mixes.map(({ text, plain, adapted }) => [
    text,
    formatFigure(median(plain)),
    formatFigure(median(adapted)),
    formatPercent(keptOf({ plain, adapted })),
  ]);
  return formatTable([["STREAMS", "PLAIN TOKENS/S", "WITH ADAPTERS", "KEPT"], ...rows], [1, 2, 3]);
}

/** @param {{ model: string, streams: number, rank: number, rounds: number, threads?: number, out?: string }} options */
export async function adapters({ model: name, streams, rank, rounds, threads, out }) {
  const path = await provideModel(name, { announce: note });
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-bench-"));
  try {
    const layers = linearLayers(path);
    const folders = Array.from({ length: streams }, (_, seed) =>
      writeAdapter(join(folder, `${seed}`), layers, { rank, seed }),
    );
    // In memory an adapter takes more than its factors in F16, but not twice as much; one more is loaded and unloaded.
    const factorBytes = layers.reduce((sum, { rows, cols }) => sum + 2 * (rows + cols) * rank, 0);
    const model = await loadModel(path, {
      prefixCache: false,
      memory: { adapters: 2 * (streams + 1) * factorBytes + (64 << 20) },
      ...(threads === undefined ? {} : { threads }),
    });
    note(`${name}: loading adapters`);
    const loadMs = await measureLoads(model, folders[0], Math.max(rounds, 7));
    const loaded = [];
    for (const [i, source] of folders.entries())
      loaded.push(await model.loadAdapter(source, { name: `${i}` }));
    note(
      `${name}: ${streams} streams, adapters of rank ${rank}, ${formatFigure(loaded[0].bytes / 1e6)} MB each`,
    );
    const mixes = await measureMixes(model, loaded, { rounds, tokens: 64 });
    const settings = { streams, rank, rounds, threads: model.info.device.threads, bytes: loaded[0].bytes };
    await model.dispose();
    process.stdout.write(`\n${describe(mixes)}\n${describeBars(mixes, loadMs)}`);
    process.stdout.write(`\n${writeResult("adapters", { settings, model: name, mixes, loadMs }, out)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
