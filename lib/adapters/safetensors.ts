import { type FileHandle, open } from "node:fs/promises";
import { TokenmillError } from "../errors";
import { printable } from "../printable";
import { describeError } from "../sources/failure";
import { parseStrictJson, type StrictJson } from "./strict-json";

/** Adapters of the largest models have some thousand tensors, of 150 bytes each in a header. */
const headerBytesMaximum = 8 << 20;
const lengthBytes = 8;
/** What is looked at for each tensor is bounded with their number. */
const tensorsMaximum = 1 << 15;

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

/** Whether a tensor of this name is a matrix to be read; other ones are passed over, or refused by throwing. */
type Selection = (name: string) => boolean;

/**
 * Reads the header of a safetensors file, none of which is trusted: its length, keys that come twice, types, shapes and
 * offsets are checked, and that the tensors fill the file's rest without gap or overlap. Data is not read.
 *
 * @throws TokenmillError ModelNotFound; CorruptFile naming the tensor; UnsupportedQuantization for types other than
 *   F32, F16 and BF16; UnsupportedModel for what is no matrix
 */
export async function readSafetensors(
  path: string,
  select: Selection = () => true,
): Promise<SafetensorsFile> {
  const file = await open(path, "r").catch((cause) => {
    throw new TokenmillError("ModelNotFound", `${path} cannot be read (${describeError(cause)})`, { cause });
  });
  try {
    const state = await file.stat();
    if (!state.isFile()) throw new TokenmillError("ModelNotFound", `${path} is not a file`);
    const header = await readHeader(file, path, state.size);
    const start = lengthBytes + header.length;
    const tensors = parseHeader(parseStrictJson(header, `the header of ${path}`), { path, start, select });
    checkPlaces(tensors, { path, start, end: state.size });
    const matrices = tensors.filter((tensor): tensor is StoredTensor => "dtype" in tensor);
    return { path, bytes: state.size, tensors: matrices };
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

/** A tensor's bytes, of one that is not read too. */
type Place = Pick<StoredTensor, "name" | "offset" | "bytes">;

interface HeaderContext {
  path: string;
  start: number;
  select: Selection;
}

function parseHeader(header: StrictJson, context: HeaderContext): (Place | StoredTensor)[] {
  const entries = header as Map<string, StrictJson>;
  if (entries.size > tensorsMaximum)
    throw corrupt(context.path, `has ${entries.size} tensors; at most ${tensorsMaximum} are read`);
  const tensors: (Place | StoredTensor)[] = [];
  for (const [name, entry] of entries) {
    if (name === "__metadata__") checkMetadata(entry, context.path);
    else tensors.push(parseTensor(name, entry, context));
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
  { path, start, select }: HeaderContext,
): Place | StoredTensor {
  if (!printableName.test(name))
    throw corrupt(path, `has a tensor named ${printable(JSON.stringify(name.slice(0, 200)))}`);
  const refuse = (what: string) => corrupt(path, `has tensor '${name}' ${what}`);
  if (!(entry instanceof Map) || entry.size !== 3 || !tensorKeys.every((key) => entry.has(key)))
    throw refuse(`with other keys than ${tensorKeys.join(", ")}`);
  const matrix = select(name) ? matrixOf(name, entry, refuse) : undefined;
  const offsets = lengths(entry.get("data_offsets"));
  const [begin, end] = offsets ?? [];
  if (begin === undefined || end === undefined || offsets?.length !== 2 || end < begin)
    throw refuse("with data_offsets that are no begin and end");
  if (!Number.isSafeInteger(start + end)) throw refuse(`that ends at ${end}`);
  const place = { name, offset: start + begin, bytes: end - begin };
  if (!matrix) return place;
  const { dtype, rows, cols } = matrix;
  const bytes = rows * cols * factorTypes[dtype];
  if (!Number.isSafeInteger(bytes) || bytes !== place.bytes)
    throw refuse(`of ${rows} × ${cols} ${dtype} in ${place.bytes} bytes, which take ${bytes}`);
  return { ...place, dtype, rows, cols };
}

function matrixOf(name: string, entry: Map<string, StrictJson>, refuse: (what: string) => TokenmillError) {
  const dtype = checkType(name, entry.get("dtype"), refuse);
  const shape = lengths(entry.get("shape"));
  if (shape === undefined) throw refuse("with a shape that is no list of lengths");
  if (shape.length !== 2) {
    throw new TokenmillError(
      "UnsupportedModel",
      `tensor '${name}' has ${shape.length} dimensions; an adapter's factors are matrices`,
    );
  }
  const [rows = 0, cols = 0] = shape;
  return { dtype, rows, cols };
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
  tensors: Place[],
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
