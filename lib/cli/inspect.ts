import { callNative, type NativeInspection, native } from "../native";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { fetchSource } from "./pull";
import { formatBytes, formatTable } from "./text";

/** Bytes that a model needs: its weights, and at most so many for the keys and values of a full context. */
export interface MemoryNeed {
  weightBytes: number;
  contextLength: number;
  /** Upper bound: layers with a sliding window need less. With 16-bit keys and values. */
  kvBytesMaximum: number;
}

const kvElementBytes = 2;

/** Reads the sizes that the KV cache depends on; undefined if the file does not describe a decoder. */
export function memoryNeed(inspection: NativeInspection, contextLength?: number): MemoryNeed | undefined {
  const values = new Map(inspection.metadata.map(({ key, value }) => [key, value]));
  const architecture = values.get("general.architecture");
  const read = (name: string) => {
    const value = values.get(`${architecture}.${name}`);
    return typeof value === "number" ? value : undefined;
  };
  const layers = read("block_count");
  const heads = read("attention.head_count");
  const width = read("embedding_length");
  const trained = read("context_length");
  if (layers === undefined || heads === undefined || width === undefined || trained === undefined)
    return undefined;
  const keyLength = read("attention.key_length") ?? width / heads;
  const valueLength = read("attention.value_length") ?? width / heads;
  const tokens = contextLength ?? trained;
  const elements = tokens * layers * (read("attention.head_count_kv") ?? heads) * (keyLength + valueLength);
  const weightBytes = inspection.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  return { weightBytes, contextLength: tokens, kvBytesMaximum: elements * kvElementBytes };
}

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

function describeMemory(need: MemoryNeed): string {
  const { weightBytes, kvBytesMaximum, contextLength } = need;
  const kv = `at most ${formatBytes(kvBytesMaximum)} for ${contextLength} tokens of context`;
  return `Memory: ${formatBytes(weightBytes)} for weights, ${kv}\n`;
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

/** `tokenmill inspect`: what a GGUF file says of itself. */
export async function inspect(
  source: string,
  options: { json?: boolean; contextLength?: number },
): Promise<void> {
  const { path } = await withInterrupt((signal) => fetchSource(source, signal));
  const inspection = callNative(() => native().inspectGguf(path));
  const memory = memoryNeed(inspection, options.contextLength);
  if (options.json) await writeJson({ path, ...inspection, ...(memory === undefined ? {} : { memory }) });
  else await write(describeInspection(path, inspection, memory));
}
