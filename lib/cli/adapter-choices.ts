import type { AdapterChoice } from "../adapter";
import { readAdapter } from "../adapters/read-adapter";
import type { Model } from "../model";
import { resolveAdapterSource } from "../sources/resolve-adapter-source";
import { UsageError } from "./exit";
import { ProgressDisplay } from "./progress-display";

/** A command's adapters, as commander names them. */
export interface AdapterChoices {
  /** Sources. */
  adapter?: string[];
  adapterScale?: number;
}

/** A command's options without those of its adapters. */
export function withoutAdapterChoices<Options extends AdapterChoices>(options: Options) {
  const { adapter, adapterScale, ...rest } = options;
  return rest;
}

/** Refuses before anything is loaded what could only be ignored afterwards. */
export function checkAdapterChoices({ adapter, adapterScale }: AdapterChoices): void {
  if (adapterScale !== undefined && adapter === undefined)
    throw new UsageError("--adapter-scale needs an --adapter whose changes it multiplies");
}

/** The name, or when it is taken the first of NAME-2, NAME-3 and so on that is not. */
function freeName(name: string, model: Model): string {
  const taken = new Set(model.adapters().map((adapter) => adapter.name));
  const numbered = (number: number) => (number === 1 ? name : `${name.slice(0, 240)}-${number}`);
  let number = 1;
  while (taken.has(numbered(number))) number += 1;
  return numbered(number);
}

/**
 * Loads a command's adapters by the names of their folders or files, of which those that come again are numbered;
 * gives what requests take for all of them.
 */
export async function loadAdapters(
  model: Model,
  { adapter: sources = [], adapterScale }: AdapterChoices,
  signal: AbortSignal,
): Promise<{ adapter?: AdapterChoice }> {
  const stack = [];
  const display = new ProgressDisplay();
  try {
    for (const source of sources) {
      const scale = adapterScale === undefined ? {} : { scale: adapterScale };
      const { path, folderName } = await resolveAdapterSource(source, { signal, onProgress: display.update });
      const name = freeName((await readAdapter(path, folderName)).name, model);
      stack.push({ adapter: await model.loadAdapter(path, { ...scale, name, signal }) });
    }
  } finally {
    display.stop();
  }
  return stack.length === 0 ? {} : { adapter: stack };
}
