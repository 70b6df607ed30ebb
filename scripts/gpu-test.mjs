// Builds and runs tests of GPU kernels on the emulator, each with only what it needs:
//
//   node scripts/gpu-test.mjs               every test of test/native/gpu
//   node scripts/gpu-test.mjs matmul        matmul_test.cc with native/kernels/cuda/matmul.cu
//   node scripts/gpu-test.mjs matmul NAME   only its tests whose names contain NAME
//
// A test that needs more says so in a line of its own, with paths below native or test/native/gpu:
//   // sources: kernels/cuda/rows.cu quant/*.cc helpers.cu
// names a program that writes NAME.ptx.cc and NAME.inc for it, and backends where it is not for all:
//   // generated: ptx-semantics.mjs
//   // backends: emu ptx
// GPU_SEEDS=n: schedules to try. JOBS=n: compilers at once (2).
// GPU_BACKEND=ptx: nvcc's PTX of the kernels, translated, for each target in turn (GPU_PTX_TARGET=sm_80: for that
// one); skipped where there is no nvcc.
// GPU_BACKEND=cuda (npm run test:cuda): the package's kernels on the system's first GPU, and then the whole engine on
// it where that is built. Says that it skipped where there is no GPU, fails where one is there and a test does.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  below,
  compileAll,
  emulatorSources,
  includes,
  link,
  objectOf,
  out,
  sourcesOf,
  tests,
} from "./gpu-build.mjs";
import { buildImages, buildLibrary, deviceSources, skipped } from "./gpu-cuda.mjs";
import { hasNvcc, ptxTargets, translateKernels } from "./gpu-ptx.mjs";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const backend = process.env.GPU_BACKEND || "emu";
const [translated, onDevice] = [backend === "ptx", backend === "cuda"];
let ranOnDevice = false;

/** What programs named by a test write for it: translated kernels. */
function generatedSources(test) {
  return [...readFileSync(test, "utf8").matchAll(/^\/\/ generated: (.*)\.mjs$/gm)].map(([, name]) => {
    const { status } = spawnSync(process.execPath, [join(tests, `${name}.mjs`), `${out}/generated`], {
      stdio: "inherit",
    });
    if (status !== 0) throw new Error(`${name}.mjs failed`);
    return `${out}/generated/${name.replaceAll("-", "_")}.ptx.cc`;
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
    const { status } = spawnSync(program, filter, { stdio: "inherit", env });
    ranOnDevice ||= onDevice && status !== skipped;
    return status === 0 || (onDevice && status === skipped);
  };
  return translated ? ptxTargets().map(run).every(Boolean) : run("");
}

async function runTest(test, filter) {
  const own = sourcesOf(test);
  const kernels = [...generatedSources(test), ...ptxSources(own)];
  const runtime = kernels.length > 0 ? below("native/kernels/cuda/ptxcheck", ".cc") : [];
  const device = onDevice ? deviceSources(test, own) : [];
  const sources = [...own, ...emulatorSources(), ...kernels, ...runtime, ...device];
  if (!(await compileAll(sources))) return false;
  const program = join(out, basename(test, ".cc"));
  return link(program, sources.map(objectOf)) && runProgram(program, filter);
}

/** Whether a test is for the backend. */
function isFor(test) {
  const named = /^\/\/ backends: (.*)$/m.exec(readFileSync(test, "utf8"));
  return named === null || named[1].split(" ").includes(backend);
}

/** The engine's own tests on the GPU; true where they pass or the engine is not built. */
function runEngine() {
  if (!existsSync("dist/index.mjs")) {
    console.log("SKIPPED the engine on the GPU: `npm run build` first");
    return true;
  }
  const library = buildLibrary();
  if (!library) return false;
  const env = { ...process.env, TOKENMILL_EMULATED_LIBRARY: library };
  const parameters = ["--test", "test/gpu/engine.test.mjs"];
  return spawnSync(process.execPath, parameters, { stdio: "inherit", env }).status === 0;
}

if (backend !== "emu" && !hasNvcc()) {
  console.log(`SKIPPED: GPU_BACKEND=${backend} needs nvcc, which is not here`);
  process.exit(0);
}
const [name, ...filter] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
if (onDevice && !buildImages()) process.exit(1);
const chosen = (name ? [`${tests}/${name}_test.cc`] : below(tests, "_test.cc")).filter(isFor);
let failed = 0;
for (const test of chosen) {
  console.log(`${basename(test, ".cc")}:`);
  if (!(await runTest(test, filter))) failed += 1;
}
if (onDevice && ranOnDevice && !name && !runEngine()) failed += 1;
if (onDevice && !ranOnDevice && failed === 0)
  console.log("\nSKIPPED: THERE IS NO GPU HERE. The tests were built; none of them ran.");
process.exit(failed === 0 ? 0 : 1);
