// Builds and runs tests of GPU kernels on the emulator, each with only what it needs:
//
//   node scripts/gpu-test.mjs               every test of test/native/gpu
//   node scripts/gpu-test.mjs matmul        matmul_test.cc with native/kernels/cuda/matmul.cu
//   node scripts/gpu-test.mjs matmul NAME   only its tests whose names contain NAME
//
// A test that needs more says so in a line of its own, with paths below native or test/native/gpu:
//   // sources: kernels/cuda/rows.cu quant/*.cc helpers.cu
// and names a program that writes NAME.ptx.cc and NAME.inc for it:
//   // generated: ptx-semantics.mjs
// GPU_SEEDS=n: schedules to try. JOBS=n: compilers at once (2).
// GPU_BACKEND=ptx: nvcc's PTX of the kernels, translated, for each target in turn (GPU_PTX_TARGET=sm_80: for that
// one); skipped where there is no nvcc.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
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
import { hasNvcc, ptxTargets, translateKernels } from "./gpu-ptx.mjs";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const translated = process.env.GPU_BACKEND === "ptx";

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
    return spawnSync(program, filter, { stdio: "inherit", env }).status === 0;
  };
  return translated ? ptxTargets().map(run).every(Boolean) : run("");
}

async function runTest(test, filter) {
  const own = sourcesOf(test);
  const kernels = [...generatedSources(test), ...ptxSources(own)];
  const runtime = kernels.length > 0 ? below("native/kernels/cuda/ptxcheck", ".cc") : [];
  const sources = [...own, ...emulatorSources(), ...kernels, ...runtime];
  if (!(await compileAll(sources))) return false;
  const program = join(out, basename(test, ".cc"));
  return link(program, sources.map(objectOf)) && runProgram(program, filter);
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
