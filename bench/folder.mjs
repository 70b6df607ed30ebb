import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { cacheFolder } = createRequire(import.meta.url)("../dist/sources/cache.js");

/** A folder of the benchmark's in the cache, for peers and models that are made once; exists afterwards. */
export function benchFolder(...names) {
  const folder = join(cacheFolder(), "bench", ...names);
  mkdirSync(folder, { recursive: true });
  return folder;
}
