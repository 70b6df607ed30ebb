import { type FileHandle, open } from "node:fs/promises";
import { TokenmillError } from "../errors";
import { printable } from "../printable";
import { describeError } from "../sources/failure";
import { parseStrictJson, type StrictJson } from "./strict-json";

/** Adapters of the largest models have some thousand tensors, of 150 bytes each in a header. */
const headerBytesMaximum = 8 << 20;
const lengthBytes = 8;

/** Types of an adapter's factors, with the bytes of an element. */
export const factorTypes = { F32: 4, F16: 2, BF16: 2 } as const;
export type FactorType = keyof typeof factorTypes;

/** A matrix in a safetensors file. */
export interface StoredTensor {
  name: string;
  dtype: FactorType;
  rows: number;
  cols: number;
  /** Of its first byte in the file. */
  offset: number;
  bytes: number;
}

export interface SafetensorsFile {
  path: string;
  bytes: number;
  /** In the order of their bytes. */
  tensors: StoredTensor[];
}

/**
 * Reads the header of a safetensors file, none of which is trusted: its length, keys that come twice, types, shapes and
 * offsets are checked, and that the tensors fill the file's rest without gap or overlap. Data is not read.
 *
 * @throws TokenmillError ModelNotFound; CorruptFile naming the tensor; UnsupportedQuantization for types other than
 *   F32, F16 and BF16; UnsupportedModel for what is no matrix
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await open(path, "r").catch((cause) => {
    throw new TokenmillError("ModelNotFound", `${path} cannot be read (${describeError(cause)})`, { cause });
  });
  try {
    const state = await file.stat();
    if (!state.isFile()) throw new TokenmillError("ModelNotFound", `${path} is not a file`);
    const header = await readHeader(file, path, state.size);
    const start = lengthBytes + header.length;
    const tensors = parseHeader(parseStrictJson(header, `the header of ${path}`), { path, start });
    checkPlaces(tensors, { path, start, end: state.size });
    return { path, bytes: state.size, tensors };
  } finally {
    await file.close();
  }
}

async function readHeader(file: FileHandle, path: string, fileBytes: number): Promise<Buffer> {
  if (fileBytes < lengthBytes) throw corrupt(path, `has ${fileBytes} bytes; a header's length takes 8`);
  const length = (await readExactly(file, path, 0, lengthBytes)).readBigUInt64LE();
  if (length > BigInt(headerBytesMaximum) || length > BigInt(fileBytes - lengthBytes)) {
    throw corrupt(
      path,
      `states a header of ${length} bytes; the file has ${fileBytes}, and at most ${headerBytesMaximum} are read`,
    );
  }
  const header = await readExactly(file, path, lengthBytes, Number(length));
  if (header[0] !== "{".charCodeAt(0)) throw corrupt(path, "has a header that does not begin with '{'");
  return header;
}

async function readExactly(file: FileHandle, path: string, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, offset);
  if (bytesRead !== bytes) throw corrupt(path, `ended at ${offset + bytesRead} while it was read`);
  return buffer;
}

function corrupt(path: string, what: string): TokenmillError {
  return new TokenmillError(
    "CorruptFile",
    `${path} ${what}: the file is incomplete or damaged, fetch it again`,
  );
}

function parseHeader(header: StrictJson, place: { path: string; start: number }): StoredTensor[] {
  const tensors: StoredTensor[] = [];
  for (const [name, entry] of header as Map<string, StrictJson>) {
    if (name === "__metadata__") checkMetadata(entry, place.path);
    else tensors.push(parseTensor(name, entry, place));
  }
  return tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
}

function checkMetadata(metadata: StrictJson, path: string): void {
  if (metadata instanceof Map && [...metadata.values()].every((value) => typeof value === "string")) return;
  throw corrupt(path, "has '__metadata__' that is no map of strings");
}

/** Modules of PyTorch have such names; others would reach terminals in messages. */
const printableName = /^[!-~]{1,256}$/;
const tensorKeys = ["dtype", "shape", "data_offsets"];

function parseTensor(
  name: string,
  entry: StrictJson,
  { path, start }: { path: string; start: number },
): StoredTensor {
  if (!printableName.test(name))
    throw corrupt(path, `has a tensor named ${printable(JSON.stringify(name.slice(0, 200)))}`);
  const refuse = (what: string) => corrupt(path, `has tensor '${name}' ${what}`);
  if (!(entry instanceof Map) || entry.size !== 3 || !tensorKeys.every((key) => entry.has(key)))
    throw refuse(`with other keys than ${tensorKeys.join(", ")}`);
  const dtype = checkType(name, entry.get("dtype"), refuse);
  const shape = lengths(entry.get("shape"));
  if (shape === undefined) throw refuse("with a shape that is no list of lengths");
  if (shape.length !== 2) {
    throw new TokenmillError(
      "UnsupportedModel",
      `tensor '${name}' has ${shape.length} dimensions; an adapter's factors are matrices`,
    );
  }
  const offsets = lengths(entry.get("data_offsets"));
  const [begin, end] = offsets ?? [];
  if (begin === undefined || end === undefined || offsets?.length !== 2 || end < begin)
    throw refuse("with data_offsets that are no begin and end");
  const [rows = 0, cols = 0] = shape;
  const bytes = rows * cols * factorTypes[dtype];
  if (!Number.isSafeInteger(bytes) || bytes !== end - begin)
    throw refuse(`of ${rows} × ${cols} ${dtype} in ${end - begin} bytes, which take ${bytes}`);
  if (!Number.isSafeInteger(start + end)) throw refuse(`that ends at ${end}`);
  return { name, dtype, rows, cols, offset: start + begin, bytes };
}

function checkType(
  name: string,
  dtype: StrictJson | undefined,
  refuse: (what: string) => TokenmillError,
): FactorType {
  if (typeof dtype !== "string") throw refuse("with a dtype that is no string");
  if (Object.hasOwn(factorTypes, dtype)) return dtype as FactorType;
  throw new TokenmillError(
    "UnsupportedQuantization",
    `tensor '${name}' has type ${printable(JSON.stringify(dtype.slice(0, 20)))}; save the adapter in one of ` +
      Object.keys(factorTypes).join(", "),
  );
}

/** The elements of a list of non-negative integers that a double holds exactly; undefined for anything else. */
function lengths(value: StrictJson | undefined): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const fits = (item: StrictJson) => typeof item === "number" && Number.isSafeInteger(item) && item >= 0;
  return value.every(fits) ? (value as number[]) : undefined;
}

/** Every byte behind the header belongs to one tensor. */
function checkPlaces(
  tensors: StoredTensor[],
  { path, start, end }: { path: string; start: number; end: number },
): void {
  let at = start;
  let previous = "the header";
  for (const { name, offset, bytes } of tensors) {
    const between = `between ${previous} and tensor '${name}'`;
    if (offset < at) throw corrupt(path, `has an overlap of ${at - offset} bytes ${between}`);
    if (offset > at) throw corrupt(path, `has a gap of ${offset - at} bytes ${between}`);
    at = offset + bytes;
    previous = `tensor '${name}'`;
    if (at > end) throw corrupt(path, `has ${end} bytes, but ${previous} ends at ${at}`);
  }
  if (at < end) throw corrupt(path, `has ${end - at} bytes behind ${previous} that belong to no tensor`);
}
