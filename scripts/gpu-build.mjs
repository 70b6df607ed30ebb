// How tests of GPU kernels are built, each with only what it needs: gpu-test.mjs runs them, mutants.mjs runs them on
// changed kernels.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";

export const tests = "test/native/gpu";
export const out = "build/gpu-tests";
const common = "-std=c++20 -g -Wall -Wextra -Wno-unused-parameter -Wno-restrict -ffp-contract=off".split(" ");
export const includes = ["-Inative", "-Itest/native", `-I${tests}`, `-I${out}/generated`];
/** Of nvcc for a kernel's PTX; fused products by gpu::fma alone. */
export const nvccFlags = ["-ptx", "-std=c++20", "-fmad=false"];
const kernelFlags = ["-O1", "-fsanitize=thread,alignment", "-DTOKENMILL_GPU_EMULATE", "-x", "c++"];
const translationFlags = ["-O1", "-w"];
const compiler = process.env.CXX ?? "g++";

export const below = (folder, end) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(end))
    .map((name) => join(folder, name));

/** The sources that a test names, and its own; the emulator comes on top. */
export function sourcesOf(test) {
  const name = basename(test).replace(/_test\.cc$/, "");
  const named = [...readFileSync(test, "utf8").matchAll(/^\/\/ sources: (.*)$/gm)].flatMap((m) =>
    m[1].split(/\s+/),
  );
  const own = [`native/kernels/cuda/${name}.cu`, `${tests}/${name}.cu`].filter((path) => existsSync(path));
  const more = named.flatMap((path) => {
    const [folder, end] = path.split("*");
    if (end !== undefined) return below(join("native", folder), end);
    return existsSync(join("native", path)) ? join("native", path) : join(tests, path);
  });
  return [test, ...new Set([...own, ...more])];
}

export const emulatorSources = () => [...below("native/kernels/cuda/emu", ".cc"), "native/core/status.cc"];

export const objectOf = (source) => join(out, `${source.replaceAll("/", "_")}.o`);

/** What a file was made from when its compiler last wrote it. */
export function dependenciesOf(made) {
  if (!existsSync(`${made}.d`)) return [];
  const text = readFileSync(`${made}.d`, "utf8").replace(/\\\n/g, " ");
  return text.split(/\s+/).slice(1).filter(Boolean);
}

/** True when a file is newer than all it was made from, and than the script that has the compiler's flags. */
export function isFresh(made, script = "scripts/gpu-build.mjs") {
  const dependencies = dependenciesOf(made);
  if (!existsSync(made) || dependencies.length === 0) return false;
  const { mtimeMs } = statSync(made);
  return [...dependencies, script].every((path) => existsSync(path) && statSync(path).mtimeMs < mtimeMs);
}

function flagsOf(source) {
  if (source.endsWith(".cu")) return kernelFlags;
  if (source.endsWith(".ptx.cc")) return translationFlags;
  return [source.endsWith("_test.cc") ? "-O1" : "-O2"];
}

/** The compiler's arguments; folders of `before` are looked through before all others. */
export function compileArguments(source, object, before = []) {
  const folders = [...before.map((folder) => `-I${folder}`), ...includes];
  const dependencies = ["-MMD", "-MF", `${object}.d`];
  return [...common, ...flagsOf(source), ...folders, ...dependencies, "-c", source, "-o", object];
}

/** Runs the compiler; whether it succeeded. */
export function runCompiler(arguments_, stdio = "inherit") {
  return new Promise((done) =>
    spawn(compiler, arguments_, { stdio }).on("close", (code) => done(code === 0)),
  );
}

/** What the emulator cannot see or do. Launchers, behind __CUDACC__, may use what they like. */
function hasForbidden(source) {
  if (!source.endsWith(".cu")) return false;
  const kernels = readFileSync(source, "utf8").split("#ifndef __CUDACC__")[0];
  const found = /\b(memcpy|memset|memmove|__shared__|__device__|asm)\b|<<</.exec(kernels);
  if (found) console.error(`${source}: kernels may not use ${found[0]}: see gpu.h`);
  return found !== null;
}

async function compile(source) {
  return !hasForbidden(source) && runCompiler(compileArguments(source, objectOf(source)));
}

export async function compileAll(sources) {
  const stale = sources.filter((source) => !isFresh(objectOf(source)));
  let ok = true;
  const work = async () => {
    while (stale.length > 0) ok = (await compile(stale.shift())) && ok;
  };
  await Promise.all(Array.from({ length: Number(process.env.JOBS ?? 2) }, work));
  return ok;
}

export function link(program, objects) {
  const arguments_ = ["-o", program, ...objects, "-lpthread", "-ldl"];
  return spawnSync(compiler, arguments_, { stdio: "inherit" }).status === 0;
}
