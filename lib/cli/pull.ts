import { stat } from "node:fs/promises";
import type { SourceOptions } from "../options";
import { resolveSource } from "../sources/resolve-source";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";

/** Fetches a source with its progress shown. */
export async function fetchSource<Resolved>(
  source: string,
  signal: AbortSignal,
  resolve: (source: string, options: SourceOptions) => Promise<Resolved>,
): Promise<Resolved> {
  const display = new ProgressDisplay();
  try {
    return await resolve(source, { signal, onProgress: display.update });
  } finally {
    display.stop();
  }
}

/** `tokenmill pull`: fetches a model and prints where it is. */
export async function pull(source: string, options: { json?: boolean }): Promise<void> {
  const found = await withInterrupt((signal) => fetchSource(source, signal, resolveSource));
  if (!options.json) return write(`${found.path}\n`);
  const { size } = await stat(found.path);
  await writeJson({ ...found, bytes: size });
}
