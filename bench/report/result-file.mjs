// The JSON files that runs write and `compare` reads.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, cpus, totalmem, type } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const { UsageError } = createRequire(import.meta.url)("../../dist/cli/exit.js");
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Of the files' layout. */
const formatVersion = 1;
const kinds = ["peers", "kernels", "serve"];

function commit() {
  try {
    const options = { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    return execFileSync("git", ["describe", "--always", "--dirty"], options).trim();
  } catch {
    return undefined; // Not a clone.
  }
}

/** Writes a result and gives its path: the one asked for, else one by kind and time in bench/results. */
export function writeResult(kind, result, path) {
  const date = new Date().toISOString();
  const file = path ?? join(root, "bench", "results", `${kind}-${date.replace(/[:.]/g, "-")}.json`);
  const machine = {
    cpu: cpus()[0]?.model.trim(),
    cores: cpus().length,
    memoryBytes: totalmem(),
    system: `${type()} ${arch()}`,
    node: process.version,
  };
  mkdirSync(dirname(file), { recursive: true });
  const content = { kind, formatVersion, date, commit: commit(), machine, ...result };
  writeFileSync(file, `${JSON.stringify(content, null, 1)}\n`);
  return file;
}

/** Reads a result; anything else is a UsageError. */
export function readResult(path) {
  let content;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new UsageError(`${path} cannot be read as a result: ${error.message}`);
  }
  if (!kinds.includes(content?.kind)) throw new UsageError(`${path} is not a result of this benchmark`);
  if (content.formatVersion === formatVersion) return content;
  throw new UsageError(
    `${path} has format version ${content.formatVersion}; this benchmark knows ${formatVersion}`,
  );
}
