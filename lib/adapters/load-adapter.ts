import type { AdapterOptions } from "../adapter";
import { TokenmillError } from "../errors";
import { type NativeModel, toTokenmillError } from "../native";
import { resolveAdapterSource } from "../sources/resolve-adapter-source";
import { checkNumber, checkObject, checkSourceOptions, invalid } from "../validate";
import { type AdapterRecord, scaleRange } from "./loaded-adapters";
import { adapterNameLengthMaximum } from "./read-adapter";
import { readAdapterBeside } from "./read-adapter-beside";

function checkOptions(source: unknown, options: AdapterOptions): void {
  checkObject("options", options);
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path or adapter reference");
  const { name, scale, ...rest }: AdapterOptions = options;
  checkSourceOptions(rest, "loadAdapter");
  checkNumber("scale", scale, scaleRange);
  if (name === undefined) return;
  if (typeof name !== "string" || name === "" || name.length > adapterNameLengthMaximum)
    throw invalid("name", name, `a string of 1 to ${adapterNameLengthMaximum} characters`);
}

/** Has an adapter's files read, fetched where they are not here. `disposal` fires when the model is disposed of. */
export async function loadAdapter(
  native: NativeModel,
  source: string,
  options: AdapterOptions,
  disposal: AbortSignal,
): Promise<AdapterRecord> {
  checkOptions(source, options);
  const { scale = 1 } = options;
  const signal = options.signal ? AbortSignal.any([options.signal, disposal]) : disposal;
  const { path, folderName } = await resolveAdapterSource(source, { ...options, signal });
  throwIfAborted(source, signal);
  const { spec, name } = await readAdapterBeside(path, folderName, signal).catch((error) => {
    throwIfAborted(source, signal);
    throw error;
  });
  throwIfAborted(source, signal);
  const { id, ...loaded } = await native.loadAdapter(spec).catch((error: unknown) => {
    throw toTokenmillError(error);
  });
  if (signal.aborted) native.releaseAdapter(id);
  throwIfAborted(source, signal);
  const rank = Math.max(...spec.entries.map(({ a }) => a.rows));
  return { id, ...loaded, name: options.name ?? name, rank, scale };
}

function throwIfAborted(source: string, signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new TokenmillError("Aborted", `loading the adapter '${source}' was aborted by its signal`, {
    cause: signal.reason,
  });
}
