import { aliases } from "../sources/aliases";
import { cacheFolder, listCachedFiles } from "../sources/cache";
import { write, writeJson } from "./output";
import { formatBytes, formatTable } from "./text";

/** `tokenmill list`: the files in the cache. */
export async function list(options: { json?: boolean }): Promise<void> {
  const files = await listCachedFiles(aliases);
  if (options.json) return writeJson(files);
  if (files.length === 0) return write(`No models in ${cacheFolder()}\n`);
  const rows = files.map(({ source, path, bytes, modified }) => [
    source ?? path,
    formatBytes(bytes),
    modified.toISOString().slice(0, 10),
  ]);
  await write(formatTable([["MODEL", "SIZE", "MODIFIED"], ...rows], [1]));
}
