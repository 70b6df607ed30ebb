// The second form of GPU kernels for tests: nvcc's PTX, translated to C++ by native/kernels/cuda/ptxcheck.
//
//   node scripts/gpu-ptx.mjs OUT SOURCE.cu…     writes OUT/NAME.TARGET.ptx and OUT/NAME.TARGET.ptx.cc
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { translate } from "../native/kernels/cuda/ptxcheck/translate.mjs";
import { isFresh, nvccFlags } from "./gpu-build.mjs";

/** nvcc has one front end for the older and one for the newer targets; their PTX differs. GPU_PTX_TARGET: one alone. */
export function ptxTargets() {
  return process.env.GPU_PTX_TARGET ? [process.env.GPU_PTX_TARGET] : ["sm_80", "sm_120"];
}

export function hasNvcc() {
  return spawnSync("nvcc", ["--version"], { stdio: "ignore" }).status === 0;
}

/** The PTX file of a source for a target, made anew when it is older than what it was made from. */
function compilePtx(source, target, out, includes) {
  const ptx = join(out, `${basename(source, ".cu")}.${target}.ptx`);
  if (isFresh(ptx)) return ptx;
  const flags = [...nvccFlags, ...includes, `-arch=${target}`, "-MMD", "-MF", `${ptx}.d`];
  const { status } = spawnSync("nvcc", [...flags, source, "-o", ptx], { stdio: "inherit" });
  if (status !== 0) throw new Error(`nvcc does not compile ${source} for ${target}`);
  return ptx;
}

/** Writes the translation where it differs from what is there, so that it is not compiled again without need. */
function writeTranslation(ptx) {
  const translation = `${ptx}.cc`;
  const text = translate(readFileSync(ptx, "utf8"), basename(ptx));
  if (!existsSync(translation) || readFileSync(translation, "utf8") !== text)
    writeFileSync(translation, text);
  return translation;
}

/** The C++ files of the sources' kernels, for all targets. */
export function translateKernels(sources, out, includes = ["-Inative"]) {
  mkdirSync(out, { recursive: true });
  return sources.flatMap((source) =>
    ptxTargets().map((target) => writeTranslation(compilePtx(source, target, out, includes))),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [out, ...sources] = process.argv.slice(2);
  for (const path of translateKernels(sources, out)) console.log(path);
}
