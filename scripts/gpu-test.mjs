// Builds and runs tests of GPU kernels on the emulator, each with only what it needs:
//
//   node scripts/gpu-test.mjs               every test of test/native/gpu
//   node scripts/gpu-test.mjs matmul        matmul_test.cc with native/kernels/cuda/matmul.cu
//   node scripts/gpu-test.mjs matmul NAME   only its tests whose names contain NAME
//
// A test that needs more says so in a line of its own, with paths below native or test/native/gpu:
//   // sources: kernels/cuda/rows.cu quant/quant.cc helpers.cu
// GPU_SEEDS=n: schedules to try. JOBS=n: compilers at once (2).
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const tests = "test/native/gpu";
const out = "build/gpu-tests";
const common = "-std=c++20 -g -Wall -Wextra -Wno-unused-parameter -Wno-restrict -ffp-contract=off".split(" ");
const includes = ["-Inative", "-Itest/native", `-I${tests}`];
const kernelFlags = ["-O1", "-fsanitize=thread,alignment", "-DTOKENMILL_GPU_EMULATE", "-x", "c++"];
const compiler = process.env.CXX ?? "g++";

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
  paths.push("scripts/gpu-test.mjs"); // it has the flags
  return paths.every((path) => existsSync(path) && statSync(path).mtimeMs < built);
}

/** What the emulator cannot see or do. Launchers, behind __CUDACC__, may use what they like. */
function hasForbidden(source) {
  if (!source.endsWith(".cu")) return false;
  const kernels = readFileSync(source, "utf8").split("#ifndef __CUDACC__")[0];
  const found = /\b(memcpy|memset|memmove|__shared__|__device__|asm)\b|<<</.exec(kernels);
  if (found) console.error(`${source}: kernels may not use ${found[0]}: see gpu.h`);
  return found !== null;
}

function compile(source) {
  if (hasForbidden(source)) return Promise.resolve(false);
  const optimize = source.endsWith("_test.cc") ? "-O1" : "-O2";
  const flags = source.endsWith(".cu") ? kernelFlags : [optimize];
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

async function runTest(test, filter) {
  const sources = [...sourcesOf(test), ...below("native/kernels/cuda/emu", ".cc"), "native/core/status.cc"];
  if (!(await compileAll(sources))) return false;
  const program = join(out, basename(test, ".cc"));
  const linked = spawnSync(compiler, ["-o", program, ...sources.map(objectOf), "-lpthread", "-ldl"], { stdio: "inherit" });
  if (linked.status !== 0) return false;
  return spawnSync(program, filter, { stdio: "inherit" }).status === 0;
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
