import { mkdir, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { cacheFolder } from "./sources/cache";

/** Bytes that all files with packed weights may take together. */
const limitBytes = 8 * 2 ** 30;
const namePattern = /^[0-9a-f]{32}\.packed$/;
/** What a process that was killed may leave behind on file systems that need a name for every file. */
const leftoverPattern = /^[0-9a-f]{32}\.packed\.\w+$/;
const leftoverAgeMs = 24 * 3600 * 1000;

function packedFolder(): string {
  return join(cacheFolder(), "packed");
}

/**
 * What the native load needs to know of the packed weights' folder; nothing when they are not to be kept.
 * `TOKENMILL_PACKED_CACHE=0` turns the default off.
 */
export async function packedCacheOptions(
  enabled = process.env.TOKENMILL_PACKED_CACHE !== "0",
): Promise<{ packedFolder: string; packedLimit: number } | object> {
  if (!enabled) return {};
  const folder = packedFolder();
  // Where the folder cannot be made the native side says so when it cannot write there.
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch(() => undefined);
  return { packedFolder: folder, packedLimit: limitBytes };
}

interface PackedFile {
  path: string;
  bytes: number;
  usedMs: number;
}

async function readFolder(pattern: RegExp): Promise<PackedFile[]> {
  const folder = packedFolder();
  const names = await readdir(folder).catch(() => []);
  const files: PackedFile[] = [];
  for (const name of names.filter((name) => pattern.test(name))) {
    const path = join(folder, name);
    const state = await stat(path).catch(() => undefined); // Another process may have removed it.
    if (state) files.push({ path, bytes: state.size, usedMs: state.mtimeMs });
  }
  return files;
}

/** Removes what was used longest ago, until the rest is within `limit` bytes. Processes that use a file keep it. */
export async function trimPackedCache(limit = limitBytes): Promise<void> {
  const files = (await readFolder(namePattern)).sort((a, b) => b.usedMs - a.usedMs);
  let kept = 0;
  const old = files.filter(({ bytes }) => {
    kept += bytes;
    return kept > limit;
  });
  const leftovers = await readFolder(leftoverPattern);
  const abandoned = leftovers.filter(({ usedMs }) => Date.now() - usedMs > leftoverAgeMs);
  for (const { path } of [...old, ...abandoned]) await unlink(path).catch(() => undefined);
}
