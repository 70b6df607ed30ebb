import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type FileHandle, open, readFile, rename, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode, throwIfAborted } from "./failure";

const heartbeatMs = 500;
const pollMs = 100;
/** Without a heartbeat for so long, a holder is given up: one whose process is gone, and any other. */
const deadHolderMs = 2_500;
const silentHolderMs = 15_000;
const abandonedGuardMs = 60_000;
const recordBytes = 512;

/** What a lock file says about its holder. */
interface LockRecord {
  id: string;
  pid: number;
  host: string;
  loaded: number;
  total: number;
}

export interface LockOptions {
  signal?: AbortSignal | undefined;
  /** Asked before each attempt: whether the lock is no longer needed. */
  isDone: () => Promise<boolean>;
  /** Called while another holds the lock, with what it has reported. */
  onWait: (loaded: number, total: number) => void;
}

/** Fixed length, so that writing it again in place never leaves a torn end. */
function encodeRecord(record: LockRecord): Buffer {
  return Buffer.from(`${JSON.stringify(record).padEnd(recordBytes - 1)}\n`);
}

function decodeRecord(text: string): LockRecord | undefined {
  try {
    return JSON.parse(text) as LockRecord;
  } catch {
    return undefined; // Just created, or caught in the middle of a write.
  }
}

function isProcessGone(record: LockRecord | undefined): boolean {
  if (record === undefined || record.host !== hostname()) return false;
  try {
    process.kill(record.pid, 0);
    return false;
  } catch (error) {
    return errorCode(error) === "ESRCH";
  }
}

async function openExclusively(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "wx");
  } catch (error) {
    if (errorCode(error) === "EEXIST") return undefined;
    throw error;
  }
}

/** Writes the first record; a lock file that cannot be written is not left behind. */
async function claim(path: string, handle: FileHandle, record: LockRecord): Promise<void> {
  try {
    await handle.write(encodeRecord(record), 0, recordBytes, 0);
  } catch (error) {
    await handle.close();
    await unlink(path);
    throw error;
  }
}

async function ignoreMissing(action: Promise<unknown>): Promise<void> {
  await action.catch((error) => {
    if (errorCode(error) !== "ENOENT") throw error;
  });
}

/**
 * What a waiter has seen of the present holder. Clocks are not compared: they may be those of two machines.
 */
class Observation {
  record: LockRecord | undefined;
  #modifiedMs = Number.NaN;
  #changedAtMs = performance.now();

  /** Whether there is a lock file. */
  async look(path: string): Promise<boolean> {
    try {
      const [text, { mtimeMs }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
      const record = decodeRecord(text);
      if (mtimeMs !== this.#modifiedMs || record?.id !== this.record?.id)
        this.#changedAtMs = performance.now();
      this.#modifiedMs = mtimeMs;
      this.record = record;
      return true;
    } catch (error) {
      if (errorCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  isStale(): boolean {
    const silentMs = performance.now() - this.#changedAtMs;
    return silentMs > silentHolderMs || (silentMs > deadHolderMs && isProcessGone(this.record));
  }
}

/** Replaces a stale holder's lock by one's own. A guard file keeps out others that want the same. */
export async function replaceLock(
  path: string,
  stale: LockRecord | undefined,
  own: LockRecord,
): Promise<FileHandle | undefined> {
  const guard = `${path}.guard`;
  const guardHandle = await openExclusively(guard);
  if (guardHandle === undefined) {
    const state = await stat(guard).catch(() => undefined);
    if (state && Date.now() - state.mtimeMs > abandonedGuardMs) await ignoreMissing(unlink(guard));
    return undefined;
  }
  try {
    const current = decodeRecord(await readFile(path, "utf8").catch(() => ""));
    if (current?.id !== stale?.id) return undefined;
    const temporary = `${path}.${own.id}`;
    const handle = await open(temporary, "wx");
    await claim(temporary, handle, own);
    await rename(temporary, path);
    return handle;
  } finally {
    await guardHandle.close();
    await ignoreMissing(unlink(guard));
  }
}

/**
 * A lock among processes: a file that its holder keeps rewriting. A holder that stops doing so loses it, and
 * learns so from {@link FileLock.lost}; who depends on the lock calls {@link FileLock.assertHeld} right
 * before the deed.
 */
export class FileLock {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #record: LockRecord;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #beating: Promise<void> = Promise.resolve();

  private constructor(path: string, handle: FileHandle, record: LockRecord) {
    this.#path = path;
    this.#handle = handle;
    this.#record = record;
    this.#timer = setInterval(() => {
      this.#beating = this.#beat();
    }, heartbeatMs);
    this.#timer.unref();
  }

  /** Waits for the lock; undefined once `isDone` says that it is not needed. */
  static async acquire(path: string, options: LockOptions): Promise<FileLock | undefined> {
    const record = { id: randomUUID(), pid: process.pid, host: hostname(), loaded: 0, total: 0 };
    const observation = new Observation();
    while (!(await options.isDone())) {
      throwIfAborted(options.signal, "Waiting for another process's download");
      const created = await openExclusively(path);
      if (created !== undefined) {
        await claim(path, created, record);
        return new FileLock(path, created, record);
      }
      if (await observation.look(path)) {
        const replaced = observation.isStale()
          ? await replaceLock(path, observation.record, record)
          : undefined;
        if (replaced !== undefined) return new FileLock(path, replaced, record);
        options.onWait(observation.record?.loaded ?? 0, observation.record?.total ?? 0);
      }
      await sleep(pollMs);
    }
    return undefined;
  }

  /** Fires when another process has taken the lock over. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** What those who wait are told with the next heartbeat. */
  report(loaded: number, total: number): void {
    this.#record.loaded = loaded;
    this.#record.total = total;
  }

  /** Throws when the lock was taken over. Synchronous, to leave no gap before what depends on it. */
  readonly assertHeld = (): void => {
    if (this.#isHeld()) return;
    this.#lost.abort();
    throw new Error(`The lock ${this.#path} was taken over by another process`);
  };

  #isHeld(): boolean {
    try {
      return readFileSync(this.#path, "utf8").includes(this.#record.id);
    } catch {
      return false;
    }
  }

  async #beat(): Promise<void> {
    try {
      await this.#handle.write(encodeRecord(this.#record), 0, recordBytes, 0);
    } catch {
      // A full disk does not end the hold; the others will see no heartbeat.
    }
    if (!this.#isHeld()) this.#lost.abort();
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
    await this.#handle.close();
    if (this.#isHeld()) await ignoreMissing(unlink(this.#path));
  }
}
