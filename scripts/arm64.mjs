// The engine for arm64, on another Linux machine: Debian's cross compiler builds it and QEMU runs it. Needs the
// packages g++-aarch64-linux-gnu and qemu-user.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Whether the cross compiler and QEMU are there. */
export function hasArm64Tools() {
  return ["aarch64-linux-gnu-g++", "qemu-aarch64"].every(
    (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status === 0,
  );
}

/** The arguments with which CMake configures the build folder. */
export function configureArm64(folder, flags = []) {
  const toolchain = "-DCMAKE_TOOLCHAIN_FILE=scripts/aarch64-linux-gnu.cmake";
  return ["-S", ".", "-B", folder, toolchain, "-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_TESTS=ON", ...flags];
}

/** The command that runs a native program of such a build, on a CPU that QEMU knows. */
export function onArm64(folder, program, cpu = "max") {
  const path = join(root, folder, "native-tests", program);
  return ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu, path];
}
