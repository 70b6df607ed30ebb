import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, readFile, rm, writeFile } from "node:fs/promises";
import { errorCode, throwIfAborted } from "./failure";
import { publishFile } from "./publish-file";

const blockBytes = 1 << 20;

/** What is known of the bytes that a partial file is the beginning of. */
export interface PartialOrigin {
  url: string;
  /** The ETag or Last-Modified that a server can compare; undefined when it named none that is reliable. */
  validator?: string;
  /** Length of the whole; undefined while it is not known. */
  bytes?: number;
  /** Digest of the whole, where one was expected or promised. */
  sha256?: string;
}

async function readOrigin(path: string): Promise<PartialOrigin | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as PartialOrigin;
  } catch {
    return undefined; // None, or its writer was killed: what it describes cannot be used.
  }
}

async function hashBeginning(handle: FileHandle, signal: AbortSignal | undefined) {
  const hash = createHash("sha256");
  const block = Buffer.allocUnsafe(blockBytes);
  let length = 0;
  for (;;) {
    throwIfAborted(signal, "The download");
    const { bytesRead } = await handle.read(block, 0, blockBytes, length);
    if (bytesRead === 0) return { hash, length };
    hash.update(block.subarray(0, bytesRead));
    length += bytesRead;
  }
}

/**
 * The beginning of a file, `<path>.partial`, with the digest of what it holds. Where its bytes come from is
 * noted beside it, so that another run can go on.
 */
export class PartialFile {
  readonly path: string;
  readonly #originPath: string;
  #handle: FileHandle;
  #hash: Hash;
  #length: number;
  #origin: PartialOrigin | undefined;
  #isResumed: boolean;

  private constructor(
    path: string,
    handle: FileHandle,
    origin?: PartialOrigin,
    hash = createHash("sha256"),
    length = 0,
  ) {
    this.path = path;
    this.#originPath = `${path}.json`;
    this.#handle = handle;
    this.#origin = origin;
    this.#hash = hash;
    this.#length = length;
    this.#isResumed = length > 0;
  }

  /** Opens what an earlier run left of `url`, else a new file. Reads what is there, for the digest. */
  static async open(target: string, url: string, signal: AbortSignal | undefined): Promise<PartialFile> {
    const path = `${target}.partial`;
    const origin = await readOrigin(`${path}.json`);
    if (origin?.url === url) {
      try {
        const handle = await open(path, "r+");
        const { hash, length } = await hashBeginning(handle, signal).catch(async (error) => {
          await handle.close();
          throw error;
        });
        return new PartialFile(path, handle, origin, hash, length);
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error;
      }
    }
    await rm(path, { force: true });
    await rm(`${path}.json`, { force: true });
    return new PartialFile(path, await open(path, "wx"));
  }

  get length(): number {
    return this.#length;
  }

  get origin(): PartialOrigin | undefined {
    return this.#origin;
  }

  /** Whether it begins with bytes that an earlier run wrote. */
  get isResumed(): boolean {
    return this.#isResumed;
  }

  /** Starts over in a new file: another process that still writes to the old one does no harm. */
  async restart(): Promise<void> {
    await this.#handle.close();
    await this.remove();
    this.#handle = await open(this.path, "wx");
    this.#hash = createHash("sha256");
    this.#length = 0;
    this.#origin = undefined;
    this.#isResumed = false;
  }

  /** Notes where the bytes come from, before the first of them is written. */
  async setOrigin(origin: PartialOrigin): Promise<void> {
    await writeFile(this.#originPath, JSON.stringify(origin));
    this.#origin = origin;
  }

  async append(chunk: Uint8Array): Promise<void> {
    let written = 0;
    while (written < chunk.length) {
      const rest = chunk.length - written;
      const { bytesWritten } = await this.#handle.write(chunk, written, rest, this.#length + written);
      written += bytesWritten;
    }
    this.#hash.update(chunk);
    this.#length += chunk.length;
  }

  /** The digest so far, in lower-case hexadecimal. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** Moves the finished file to `target`; `assertHeld` throws when it is no longer this process's to move. */
  async publish(target: string, assertHeld: () => void): Promise<void> {
    await publishFile(this.#handle, this.path, target, assertHeld);
    await rm(this.#originPath, { force: true });
  }

  /** Leaves the file for a later run to go on with. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
    await rm(this.#originPath, { force: true });
  }
}
