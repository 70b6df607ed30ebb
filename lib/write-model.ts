import { resolve } from "node:path";
import { TokenmillError } from "./errors";
import { type NativeRewrite, toTokenmillError } from "./native";
import type { QuantizeResult, SourceOptions } from "./options";

/**
 * Runs native work that writes a model, with its progress told and its signal heard. An error that `onProgress` throws
 * ends the work and is what the promise rejects with.
 *
 * @param doing what it is, for the error of an abort
 */
export async function writeModel(
  output: string,
  { signal, onProgress }: SourceOptions,
  { doing, file }: { doing: string; file: string },
  start: (target: string, onProgress: (loaded: number, total: number) => void) => NativeRewrite,
): Promise<QuantizeResult> {
  const target = resolve(output);
  let thrown: { error: unknown } | undefined;
  const work = start(target, (loaded, total) => {
    try {
      if (thrown === undefined) onProgress?.({ phase: "quantize", loaded, total, file });
    } catch (error) {
      thrown = { error };
      work.abort();
    }
  });
  if (signal?.aborted) work.abort();
  signal?.addEventListener("abort", work.abort, { once: true });
  try {
    return { path: target, ...(await work.promise) };
  } catch (error) {
    if (thrown) throw thrown.error;
    if (!signal?.aborted) throw toTokenmillError(error);
    throw new TokenmillError("Aborted", `${doing} was aborted by its signal`, { cause: signal.reason });
  } finally {
    signal?.removeEventListener("abort", work.abort);
  }
}
