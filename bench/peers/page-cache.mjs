import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { cacheFolder } = createRequire(import.meta.url)("../../dist/sources/cache.js");

function drop(path) {
  const parameters = [`if=${path}`, "of=/dev/null", "iflag=nocache", "count=0", "status=none"];
  if (spawnSync("dd", parameters).status !== 0) return false;
  const columns = ["--bytes", "--noheadings", "--output", "RES"];
  const resident = spawnSync("fincore", [...columns, path], { encoding: "utf8" });
  return resident.status !== 0 || Number(resident.stdout) < 2 ** 20;
}

/** Weights that our own loads have kept packed: a load that reads them is not cold either. */
function packedFiles() {
  const folder = join(cacheFolder(), "packed");
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

/**
 * Has the system forget what it cached of a model's file and of packed weights (posix_fadvise with DONTNEED); no
 * process may have them mapped. Gives false where that cannot be done or, as far as can be seen, was not.
 */
export function dropPageCache(path) {
  return [realpathSync(path), ...packedFiles()].map(drop).every(Boolean);
}
