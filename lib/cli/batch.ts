import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import type { BatchOptions, BatchProgress } from "../batch/batch-item";
import { splitBatchOptions } from "../batch/check-batch";
import { TokenmillError } from "../errors";
import { loadModel } from "../load-model";
import type { Model } from "../model";
import { checkLoadOptions } from "../validate";
import {
  type AdapterChoices,
  checkAdapterChoices,
  loadAdapters,
  withoutAdapterChoices,
} from "./adapter-choices";
import { readDoneIds, readItems, toLine } from "./batch-files";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { type LoadChoices, loadOptions, withoutLoadChoices } from "./load-options";
import { writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import type { SamplingChoices } from "./sampling-choices";

/** The options of `tokenmill batch`, as commander names them. */
export interface BatchCommandOptions extends LoadChoices, SamplingChoices, AdapterChoices {
  order?: "input" | "completion";
  concurrency?: number;
  resume?: boolean;
  force?: boolean;
  json?: boolean;
}

function batchOptions(options: BatchCommandOptions): BatchOptions {
  const { resume, force, json, ...batch } = withoutAdapterChoices(withoutLoadChoices(options));
  return batch;
}

/** Refuses before anything is loaded what could only fail afterwards. */
function check(input: string, output: string, options: BatchCommandOptions): void {
  try {
    splitBatchOptions(batchOptions(options));
    checkLoadOptions(loadOptions(options));
  } catch (error) {
    throw TokenmillError.isInstance(error) ? new UsageError(error.message, { cause: error }) : error;
  }
  checkAdapterChoices(options);
  if (options.resume && options.force) throw new UsageError("--resume and --force exclude each other");
  if (input !== "-" && !existsSync(input)) throw new UsageError(`There is no file '${input}'`);
  if (resolve(input) === resolve(output)) throw new UsageError("The output is the input itself");
  if (existsSync(output) && !options.resume && !options.force) {
    throw new UsageError(`'${output}' exists already; --resume goes on with it, --force replaces it`);
  }
}

/** Says on a terminal how far the batch is, in one line that is written over. */
class BatchDisplay {
  #lastMs = 0;
  #isShown = false;

  readonly update = ({ completed, failed, skipped, completionTokens }: BatchProgress): void => {
    if (!process.stderr.isTTY || performance.now() - this.#lastMs < 100) return;
    this.#lastMs = performance.now();
    this.#isShown = true;
    process.stderr.write(
      `\r\x1b[K${completed} done, ${failed} failed, ${skipped} skipped, ${completionTokens} tokens`,
    );
  };

  stop(): void {
    if (this.#isShown) process.stderr.write("\r\x1b[K");
  }
}

async function runBatch(
  model: Model,
  files: { input: string; output: string },
  options: BatchCommandOptions,
  signal: AbortSignal,
): Promise<BatchProgress> {
  const adapters = await loadAdapters(model, options, signal);
  const skip =
    options.resume && existsSync(files.output) ? await readDoneIds(files.output) : new Set<string>();
  const output = await open(files.output, options.resume ? "a" : "w");
  const display = new BatchDisplay();
  let progress: BatchProgress = { skipped: 0, completed: 0, failed: 0, promptTokens: 0, completionTokens: 0 };
  const onProgress = (state: BatchProgress) => {
    progress = state;
    display.update(state);
  };
  try {
    const batch = { ...batchOptions(options), ...adapters, skip, signal, onProgress };
    for await (const result of model.generateMany(readItems(files.input), batch))
      await output.appendFile(toLine(result));
  } finally {
    display.stop();
    if (files.input === "-") process.stdin.destroy(); // else it keeps the process until it ends
    await output.close();
  }
  return progress;
}

/** `tokenmill batch`: answers every line of a file, and goes on where an earlier run was cut off. */
export async function batch(
  source: string,
  input: string,
  output: string,
  options: BatchCommandOptions,
): Promise<void> {
  check(input, output, options);
  const progress = await withInterrupt(async (signal) => {
    const display = new ProgressDisplay();
    const load = loadModel(source, { ...loadOptions(options), signal, onProgress: display.update });
    const model = await load.finally(() => display.stop());
    try {
      return await runBatch(model, { input, output }, options, signal);
    } finally {
      await model.dispose();
    }
  });
  if (options.json) await writeJson(progress);
  if (progress.failed > 0) {
    throw new Error(
      `${progress.failed} of ${progress.failed + progress.completed} items failed; their errors are in '${output}', ` +
        "and --resume tries them again",
    );
  }
}
