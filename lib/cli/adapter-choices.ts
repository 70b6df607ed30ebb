import type { AdapterChoice } from "../adapter";
import type { Model } from "../model";
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

/** Loads a command's adapters by the names that their files give them; what requests take for all of them. */
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
      const adapter = await model.loadAdapter(source, { ...scale, signal, onProgress: display.update });
      stack.push({ adapter });
    }
  } finally {
    display.stop();
  }
  return stack.length === 0 ? {} : { adapter: stack };
}
