import { spawnSync } from "node:child_process";
import { realpathSync } from "node:fs";

/**
 * Has the system forget what it cached of a file (posix_fadvise with DONTNEED), which no process may have mapped.
 * Gives false where that cannot be done or, as far as can be seen, was not.
 */
export function dropPageCache(path) {
  const file = realpathSync(path);
  const dropped = spawnSync("dd", [`if=${file}`, "of=/dev/null", "iflag=nocache", "count=0", "status=none"]);
  if (dropped.status !== 0) return false;
  const resident = spawnSync("fincore", ["--bytes", "--noheadings", "--output", "RES", file], {
    encoding: "utf8",
  });
  return resident.status !== 0 || Number(resident.stdout) < 2 ** 20;
}
