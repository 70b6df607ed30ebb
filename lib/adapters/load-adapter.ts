import type { AdapterOptions } from "../adapter";
import { TokenmillError } from "../errors";
import { type NativeModel, toTokenmillError } from "../native";
import { resolveAdapterSource } from "../sources/resolve-adapter-source";
import { checkNumber, checkSourceOptions, invalid } from "../validate";
import { type AdapterRecord, scaleRange } from "./loaded-adapters";
import { readAdapter } from "./read-adapter";

const nameLengthMaximum = 256;

function checkOptions(source: unknown, options: AdapterOptions): void {
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path or adapter reference");
  const { name, scale, ...rest } = options;
  checkSourceOptions(rest, "loadAdapter");
  checkNumber("scale", scale, scaleRange);
  if (name === undefined) return;
  if (typeof name !== "string" || name === "" || name.length > nameLengthMaximum)
    throw invalid("name", name, `a string of 1 to ${nameLengthMaximum} characters`);
}

/** Has an adapter's files read, fetched where they are not here. */
export async function loadAdapter(
  native: NativeModel,
  source: string,
  options: AdapterOptions,
): Promise<AdapterRecord> {
  checkOptions(source, options);
  const { signal, scale = 1 } = options;
  const { spec, name } = await readAdapter((await resolveAdapterSource(source, options)).path);
  throwIfAborted(source, signal);
  const { id, ...loaded } = await native.loadAdapter(spec).catch((error: unknown) => {
    throw toTokenmillError(error);
  });
  if (signal?.aborted) native.releaseAdapter(id);
  throwIfAborted(source, signal);
  const rank = Math.max(...spec.entries.map(({ a }) => a.rows));
  return { id, ...loaded, name: options.name ?? name, rank, scale };
}

function throwIfAborted(source: string, signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw new TokenmillError("Aborted", `loading the adapter '${source}' was aborted by its signal`, {
    cause: signal.reason,
  });
}
