// Builds and runs tests of GPU kernels on the emulator, each with only what it needs:
//
//   node scripts/gpu-test.mjs               every test of test/native/gpu
//   node scripts/gpu-test.mjs matmul        matmul_test.cc with native/kernels/cuda/matmul.cu
//   node scripts/gpu-test.mjs matmul NAME   only its tests whose names contain NAME
//
// A test that needs more says so in a line of its own, with paths below native or test/native/gpu:
//   // sources: kernels/cuda/rows.cu quant/quant.cc helpers.cu
// and names a program that writes NAME.ptx.cc and NAME.inc for it:
//   // generated: ptx_semantics.mjs
// GPU_SEEDS=n: schedules to try. JOBS=n: compilers at once (2).
// GPU_BACKEND=ptx: nvcc's PTX of the kernels, translated, for each target in turn; skipped where there is no nvcc.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasNvcc, ptxTargets, translateKernels } from "./gpu-ptx.mjs";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const tests = "test/native/gpu";
const out = "build/gpu-tests";
const common = "-std=c++20 -g -Wall -Wextra -Wno-unused-parameter -Wno-restrict -ffp-contract=off".split(" ");
const includes = ["-Inative", "-Itest/native", `-I${tests}`, `-I${out}/generated`];
const kernelFlags = ["-O1", "-fsanitize=thread", "-DTOKENMILL_GPU_EMULATE", "-x", "c++"];
const translationFlags = ["-O1", "-w"];
const compiler = process.env.CXX ?? "g++";
const translated = process.env.GPU_BACKEND === "ptx";

const below = (folder, end) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(end))
    .map((name) => join(folder, name));

function sourcesOf(test) {
  const name = basename(test).replace(/_test\.cc$/, "");
  const named = [...readFileSync(test, "utf8").matchAll(/^\/\/ sources: (.*)$/gm)].flatMap((m) => m[1].split(/\s+/));
  const own = [`native/kernels/cuda/${name}.cu`, `${tests}/${name}.cu`].filter((path) => existsSync(path));
  const more = named.map((path) => (existsSync(join("native", path)) ? join("native", path) : join(tests, path)));
  return [test, ...new Set([...own, ...more])];
}

const objectOf = (source) => join(out, `${source.replaceAll("/", "_")}.o`);

/** True when the object is newer than all it was made from. */
function isFresh(source) {
  const object = objectOf(source);
  const dependencies = `${object}.d`;
  if (!existsSync(object) || !existsSync(dependencies)) return false;
  const built = statSync(object).mtimeMs;
  const paths = readFileSync(dependencies, "utf8").replace(/\\\n/g, " ").split(/\s+/).slice(1).filter(Boolean);
  return paths.every((path) => existsSync(path) && statSync(path).mtimeMs < built);
}

function flagsOf(source) {
  if (source.endsWith(".cu")) return kernelFlags;
  if (source.endsWith(".ptx.cc")) return translationFlags;
  return [source.endsWith("_test.cc") ? "-O1" : "-O2"];
}

function compile(source) {
  const flags = flagsOf(source);
  const object = objectOf(source);
  const dependencies = ["-MMD", "-MF", `${object}.d`];
  const arguments_ = [...common, ...flags, ...includes, ...dependencies, "-c", source, "-o", object];
  return new Promise((done) => spawn(compiler, arguments_, { stdio: "inherit" }).on("close", (code) => done(code === 0)));
}

async function compileAll(sources) {
  const stale = sources.filter((source) => !isFresh(source));
  let ok = true;
  const work = async () => {
    while (stale.length > 0) ok = (await compile(stale.shift())) && ok;
  };
  await Promise.all(Array.from({ length: Number(process.env.JOBS ?? 2) }, work));
  return ok;
}

/** What programs named by a test write for it: translated kernels. */
function generatedSources(test) {
  return [...readFileSync(test, "utf8").matchAll(/^\/\/ generated: (.*)\.mjs$/gm)].map(([, name]) => {
    const { status } = spawnSync(process.execPath, [join(tests, `${name}.mjs`), `${out}/generated`], { stdio: "inherit" });
    if (status !== 0) throw new Error(`${name}.mjs failed`);
    return `${out}/generated/${name}.ptx.cc`;
  });
}

function ptxSources(sources) {
  if (!translated) return [];
  const kernels = sources.filter((source) => source.endsWith(".cu"));
  return translateKernels(kernels, join(out, "ptx"), includes);
}

function runProgram(program, filter) {
  const run = (target) => {
    if (translated) console.log(`translated from PTX of ${target}:`);
    const env = { ...process.env, GPU_PTX_TARGET: target };
    return spawnSync(program, filter, { stdio: "inherit", env }).status === 0;
  };
  return translated ? ptxTargets.map(run).every(Boolean) : run("");
}

async function runTest(test, filter) {
  const own = sourcesOf(test);
  const shared = [...below("native/kernels/cuda/emu", ".cc"), "native/core/status.cc"];
  const kernels = [...generatedSources(test), ...ptxSources(own)];
  const runtime = kernels.length > 0 ? below("native/kernels/cuda/ptxcheck", ".cc") : [];
  const sources = [...own, ...shared, ...kernels, ...runtime];
  if (!(await compileAll(sources))) return false;
  const program = join(out, basename(test, ".cc"));
  const linked = spawnSync(compiler, ["-o", program, ...sources.map(objectOf), "-lpthread", "-ldl"], { stdio: "inherit" });
  if (linked.status !== 0) return false;
  return runProgram(program, filter);
}

if (translated && !hasNvcc()) {
  console.log("SKIPPED: GPU_BACKEND=ptx needs nvcc, which is not here");
  process.exit(0);
}

const [name, ...filter] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const chosen = name ? [`${tests}/${name}_test.cc`] : below(tests, "_test.cc");
let failed = 0;
for (const test of chosen) {
  console.log(`${basename(test, ".cc")}:`);
  if (!(await runTest(test, filter))) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
