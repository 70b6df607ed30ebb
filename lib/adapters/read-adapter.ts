import { stat } from "node:fs/promises";
import { basename, dirname, extname } from "node:path";
import { TokenmillError } from "../errors";
import { callNative, native } from "../native";
import { printable } from "../printable";
import { describeError } from "../sources/failure";
import type { AdapterFile } from "./adapter-spec";
import { peftFiles, readPeftAdapter } from "./read-peft-adapter";

/** In UTF-16 units, of what requests call an adapter by. */
export const adapterNameLengthMaximum = 256;

/**
 * Reads an adapter but for its factors' values: a folder as PEFT saves it (or the safetensors file in it), or a GGUF
 * file.
 *
 * @param path absolute
 * @param folderName what the folder is called, where that is not its name here; a file is called by its name without
 *   the extension
 * @throws TokenmillError ModelNotFound; CorruptFile, UnsupportedModel or UnsupportedQuantization naming the setting or
 *   the tensor at fault
 */
export async function readAdapter(path: string, folderName?: string): Promise<AdapterFile> {
  const state = await stat(path).catch((cause) => {
    throw new TokenmillError("ModelNotFound", `There is nothing at ${path} (${describeError(cause)})`, {
      cause,
    });
  });
  const isInside = !state.isDirectory() && basename(path) === peftFiles.weights;
  const folder = isInside ? dirname(path) : path;
  if (state.isDirectory() || isInside)
    return readPeftAdapter(folder, toAdapterName(folderName ?? basename(folder)));
  const file = callNative(() => native().readGgufAdapter(path));
  return { ...file, format: "gguf", name: toAdapterName(basename(path, extname(path))) };
}

/** What an adapter is called that has no text to be called by. */
const nameless = "adapter";

/** A name as `loadAdapter` takes it, of one that a file or folder has: printable, and not too long. */
export function toAdapterName(name: string): string {
  const text = printable(name).trim().slice(0, adapterNameLengthMaximum);
  return text.replace(/[\uD800-\uDBFF]$/, "") || nameless; // half of a character may be left
}

/** What an adapter is, in short. */
export interface AdapterSummary {
  /** Each rank that occurs, ascending. */
  ranks: number[];
  /** Each scale of the factors that occurs, ascending. */
  scales: number[];
  /** What is adapted, without the layers' numbers, and in how many places. */
  targets: { target: string; count: number }[];
  /** Types of the factors. */
  types: string[];
  /** Of the factors. */
  bytes: number;
  parameters: number;
}

function distinct<T>(values: T[]): T[] {
  return [...new Set(values)].sort((a, b) => (a < b ? -1 : 1));
}

export function summarizeAdapter({ spec: { entries } }: AdapterFile): AdapterSummary {
  const factors = entries.flatMap(({ a, b }) => [a, b]);
  const counts = new Map<string, number>();
  for (const { target } of entries) {
    const name = target.replace(/^.*\blayers\.\d+\.|^blk\.\d+\.|\.weight$/g, "");
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return {
    ranks: distinct(entries.map(({ a }) => a.rows)),
    scales: distinct(entries.map(({ scale }) => scale)),
    targets: [...counts].map(([target, count]) => ({ target, count })),
    types: distinct(factors.map(({ dtype }) => dtype)),
    bytes: factors.reduce((sum, { bytes }) => sum + bytes, 0),
    parameters: factors.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
  };
}
