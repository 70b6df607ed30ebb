// The third form of GPU kernels for tests: what the package for GPUs has of them, run on a GPU by NVIDIA's driver.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { includes, nvccFlags, objectOf, out, tests } from "./gpu-build.mjs";

const build = "build-cuda";
const images = `${build}/cuda/images.cc`;

/** How a test's program ends that found no GPU (gpu_test.h). */
export const skipped = 77;

const run = (command, parameters) => spawnSync(command, parameters, { stdio: "inherit" }).status === 0;

/** Compiles the package's kernels. */
export function buildImages() {
  const options = ["-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_CUDA=ON"];
  rmSync(objectOf(images), { force: true }); // it has the kernels in it, which its dependencies do not tell
  return (
    run("cmake", ["-S", ".", "-B", build, ...options]) &&
    run("cmake", ["--build", build, "--parallel", "--target", "tokenmill_cuda_images"])
  );
}

/** Builds the library; its path. */
export function buildLibrary() {
  return run("cmake", ["--build", build, "--parallel", "--target", "tokenmill_cuda"])
    ? resolve(build, "libtokenmill-cuda.so")
    : undefined;
}

/** The test's own kernels, which the package does not have, as PTX for the oldest GPU. */
function ownImages(sources) {
  const kernels = sources.filter((source) => source.startsWith(tests) && source.endsWith(".cu"));
  return kernels.map((source) => {
    const ptx = resolve(out, "cuda", `${basename(source, ".cu")}.ptx`);
    mkdirSync(resolve(out, "cuda"), { recursive: true });
    const flags = [...nvccFlags, "-arch=compute_80", ...includes];
    if (!run("nvcc", [...flags, source, "-o", ptx])) throw new Error(`nvcc does not compile ${source}`);
    return { module: basename(source, ".cu"), ptx };
  });
}

/** A file that has them, for cuda_test_driver.cc. */
function imagesSource(program, own) {
  const path = join(out, "cuda", `${program}_images.cc`);
  const rows = own.map(
    ({ module, ptx }) =>
      `    {"${module}", 80, true, R"ptx(${readFileSync(ptx, "utf8")})ptx", ` +
      `${Buffer.byteLength(readFileSync(ptx))}},\n`,
  );
  const text = `#include <vector>

#include "kernels/cuda/images.h"

namespace tokenmill::cuda {
std::vector<Image> TestImages() {
  return {
${rows.join("")}  };
}
}  // namespace tokenmill::cuda
`;
  mkdirSync(join(out, "cuda"), { recursive: true });
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
  return path;
}

/** What a test's program needs beside its own sources to run on a GPU. */
export function deviceSources(test, sources) {
  const native = "native/kernels/cuda";
  return [
    `${tests}/cuda_test_driver.cc`,
    `${native}/driver_cuda.cc`,
    `${native}/cuda_api.cc`,
    images,
    imagesSource(basename(test, ".cc"), ownImages(sources)),
  ].filter((source) => !sources.includes(source));
}
