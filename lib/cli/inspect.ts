import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { peftFiles } from "../adapters/read-peft-adapter";
import { type ErrorCode, TokenmillError } from "../errors";
import { estimateMemory, type MemoryEstimate } from "../estimate-memory";
import { callNative, type NativeInspection, native } from "../native";
import { resolveAdapterSource } from "../sources/resolve-adapter-source";
import { inspectAdapter } from "./inspect-adapter";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { fetchSource } from "./pull";
import { formatBytes, formatTable } from "./text";

type MemoryNeed = Pick<MemoryEstimate, "weights" | "kv" | "scratch" | "total" | "contextLength">;

/** What loading the file takes, for the trained context or so much; undefined for what cannot be loaded. */
async function memoryNeed(path: string, contextLength?: number): Promise<MemoryNeed | undefined> {
  try {
    const { weights, kv, scratch, total, ...estimate } = await estimateMemory(path, {
      ...(contextLength === undefined ? {} : { contextLength }),
      memory: { budget: Number.MAX_SAFE_INTEGER },
    });
    return { weights, kv, scratch, total, contextLength: estimate.contextLength };
  } catch (error) {
    if (TokenmillError.isInstance(error) && notLoadable.includes(error.code)) return undefined;
    throw error;
  }
}

const notLoadable: ErrorCode[] = ["CorruptFile", "UnsupportedModel", "UnsupportedQuantization"];

type Metadata = NativeInspection["metadata"][number];

function describeValue({ value }: Metadata): string {
  if (typeof value !== "object") return JSON.stringify(value);
  const rest = value.length > value.head.length ? ", …" : "";
  return `[${value.head.map((item) => JSON.stringify(item)).join(", ")}${rest}] (${value.length})`;
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

function describeTypes({ tensors }: NativeInspection): string {
  const types = new Map<string, { count: number; bytes: number }>();
  for (const { type, bytes } of tensors) {
    const sum = types.get(type) ?? { count: 0, bytes: 0 };
    types.set(type, { count: sum.count + 1, bytes: sum.bytes + bytes });
  }
  const rows = [...types]
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, { count, bytes }]) => [type, String(count), formatBytes(bytes)]);
  return formatTable([["TYPE", "TENSORS", "SIZE"], ...rows], [1, 2]);
}

function describeMemory({ weights, kv, scratch, total, contextLength }: MemoryNeed): string {
  const [all, ...parts] = [total, weights, kv, scratch].map(formatBytes);
  return (
    `Memory: ${all} (${parts[0]} for weights, ${parts[1]} for ${contextLength} tokens of context, ` +
    `${parts[2]} for computing)\n`
  );
}

function describeInspection(
  path: string,
  inspection: NativeInspection,
  need: MemoryNeed | undefined,
): string {
  const { version, alignment, fileBytes, metadata, tensors } = inspection;
  const metadataRows = metadata.map((item) => [item.key, item.type, shorten(describeValue(item), 90)]);
  const tensorRows = tensors.map(({ name, type, shape, offset, bytes }) => {
    return [name, type, shape.join(" × "), String(offset), formatBytes(bytes)];
  });
  return [
    `${path}\nGGUF version ${version}, ${formatBytes(fileBytes)}, alignment ${alignment}\n`,
    need === undefined ? "" : describeMemory(need),
    `\n${formatTable([["KEY", "TYPE", "VALUE"], ...metadataRows])}`,
    `\n${describeTypes(inspection)}`,
    `\n${formatTable([["TENSOR", "TYPE", "SHAPE", "OFFSET", "SIZE"], ...tensorRows], [3, 4])}`,
  ].join("");
}

function isGgufAdapter({ metadata }: NativeInspection): boolean {
  return metadata.some(({ key, value }) => key === "general.type" && value === "adapter");
}

/** `tokenmill inspect`: what a GGUF file or an adapter says of itself. */
export async function inspect(
  source: string,
  options: { json?: boolean; contextLength?: number },
): Promise<void> {
  const { path, folderName } = await withInterrupt((signal) =>
    fetchSource(source, signal, resolveAdapterSource),
  );
  if ((await stat(path)).isDirectory() || basename(path) === peftFiles.weights)
    return inspectAdapter(path, folderName, options);
  const inspection = callNative(() => native().inspectGguf(path));
  if (isGgufAdapter(inspection)) return inspectAdapter(path, folderName, options);
  const memory = await memoryNeed(path, options.contextLength);
  if (options.json) await writeJson({ path, ...inspection, ...(memory === undefined ? {} : { memory }) });
  else await write(describeInspection(path, inspection, memory));
}
