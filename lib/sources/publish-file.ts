import { renameSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes a rename survive a power failure, where the platform can. */
async function syncFolder(path: string): Promise<void> {
  try {
    const handle = await open(path, "r");
    await handle.sync().finally(() => handle.close());
  } catch {
    // Folders cannot be opened everywhere, and the file itself is safe.
  }
}

/**
 * Closes a finished file and moves it from `path` to `target`: others see either nothing or all of it, also
 * after a crash. `assertHeld` throws when the file is no longer this process's to move.
 */
export async function publishFile(
  handle: FileHandle,
  path: string,
  target: string,
  assertHeld: () => void,
): Promise<void> {
  await handle.sync();
  const written = await handle.stat({ bigint: true });
  await handle.close();
  // Synchronous from the check to the deed.
  assertHeld();
  const found = statSync(path, { bigint: true });
  if (found.ino !== written.ino || found.dev !== written.dev) {
    throw new Error(`${path} was replaced by another process`);
  }
  renameSync(path, target);
  await syncFolder(dirname(target));
}
