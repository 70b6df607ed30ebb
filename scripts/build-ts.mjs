// Compiles lib/ to dist/ as CommonJS and adds the ESM entry, which re-exports the same copy.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = join(root, "lib");
const output = join(root, "dist");
const buildInfo = join(root, "build", "typescript.tsbuildinfo");

/** Runs the compiler incrementally: a second build checks only what changed. */
function compile() {
  // Without its outputs the incremental state would make the compiler believe that nothing is to be written.
  if (!existsSync(join(output, "index.js"))) rmSync(buildInfo, { force: true });
  const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const flags = ["--project", root, "--incremental", "--tsBuildInfoFile", buildInfo];
  const { status } = spawnSync(process.execPath, [compiler, ...flags], { stdio: "inherit" });
  return status ?? 1;
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

/** Deletes what earlier builds wrote for sources that no longer exist. */
function removeStaleOutputs() {
  const generated = new Set(["index.mjs", "index.d.mts"]);
  for (const path of filesBelow(output)) {
    const name = relative(output, path);
    const stem = name.replace(/(\.d\.ts|\.js)$/, "");
    if (!generated.has(name) && !existsSync(join(source, `${stem}.ts`))) rmSync(path);
  }
}

/** Names what the CommonJS entry exports one by one: a wildcard would export `__esModule` as well. */
function writeEsmEntry() {
  const names = Object.keys(createRequire(import.meta.url)(join(output, "index.js"))).sort();
  writeFileSync(join(output, "index.mjs"), `export { ${names.join(", ")} } from "./index.js";\n`);
  writeFileSync(join(output, "index.d.mts"), 'export * from "./index.js";\n');
}

function makeCommandExecutable() {
  const command = join(output, "cli", "main.js");
  if (existsSync(command)) chmodSync(command, 0o755);
}

const status = compile();
if (status === 0) {
  removeStaleOutputs();
  writeEsmEntry();
  makeCommandExecutable();
}
process.exitCode = status;
