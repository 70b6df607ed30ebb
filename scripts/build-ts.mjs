// Compiles lib/ to dist/ as CommonJS and adds the ESM entries, which re-export the same copy.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = join(root, "lib");
const output = join(root, "dist");
/** What package.json exports: each has an ESM twin. */
const entries = ["index", "prometheus", "opentelemetry"];
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
  const generated = new Set(entries.flatMap((entry) => [`${entry}.mjs`, `${entry}.d.mts`]));
  for (const path of filesBelow(output)) {
    const name = relative(output, path);
    const stem = name.replace(/(\.d\.ts|\.js)$/, "");
    if (!generated.has(name) && !existsSync(join(source, `${stem}.ts`))) rmSync(path);
  }
}

/** Names what the CommonJS entry exports one by one: a wildcard would export `__esModule` as well. */
function writeEsmEntry(entry) {
  const names = Object.keys(createRequire(import.meta.url)(join(output, `${entry}.js`))).sort();
  writeFileSync(join(output, `${entry}.mjs`), `export { ${names.join(", ")} } from "./${entry}.js";\n`);
  writeFileSync(join(output, `${entry}.d.mts`), `export * from "./${entry}.js";\n`);
}

function makeCommandExecutable() {
  const command = join(output, "cli", "main.js");
  if (existsSync(command)) chmodSync(command, 0o755);
}

const status = compile();
if (status === 0) {
  removeStaleOutputs();
  for (const entry of entries) writeEsmEntry(entry);
  makeCommandExecutable();
}
process.exitCode = status;
