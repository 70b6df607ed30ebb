// Runs after `npm install` in a clone and before `npm pack`: builds the native library and the TypeScript.
// The published package has no sources for it to find there and no install script at all.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(name, command, arguments_, hint) {
  console.log(`tokenmill: ${name}`);
  const { status, error } = spawnSync(command, arguments_, { cwd: root, stdio: "inherit" });
  if (status === 0) return;
  console.error(`tokenmill: ${name} failed${error ? `: ${error.message}` : ""}. ${hint}`);
  process.exit(1);
}

const cmakeJs = join(root, "node_modules", "cmake-js", "bin", "cmake-js");
if (!existsSync(cmakeJs)) {
  console.log("tokenmill: without the development packages nothing is built here");
  process.exit(0);
}
run(
  "building the native library",
  process.execPath,
  [cmakeJs, "build", "--silent"],
  "A C++20 compiler (g++ 12 or clang 14 and later) and CMake 3.18 or later are needed.",
);
run("compiling the TypeScript", process.execPath, [join(root, "scripts", "build-ts.mjs")], "");
