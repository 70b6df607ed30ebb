// npm run package:cuda: builds the library for NVIDIA GPUs and lays out its package, tokenmill-cuda-linux-x64, in
// build-cuda/package. Prints its size and fails where that is over the budget.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const build = join(root, "build-cuda");
const name = "tokenmill-cuda-linux-x64";
const library = "libtokenmill-cuda.so";
/** Of the library, and of the package as npm packs it. */
const budgets = { library: 48 * 2 ** 20, packed: 16 * 2 ** 20 };

function run(command, parameters, options = {}) {
  const { status, stdout } = spawnSync(command, parameters, {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${parameters.join(" ")} failed:\n${stdout}`);
}

/** The CUDA release of the toolkit, "13.0": kernels need a driver of that release or later. */
function toolkitRelease() {
  return /release (\d+\.\d+)/.exec(run("nvcc", ["--version"]))[1];
}

/** The package's own manifest: the main package's version, and the library as what the name resolves to. */
function manifest() {
  const { version, license, engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return {
    name,
    version,
    description: "NVIDIA GPUs for tokenmill, on Linux x64",
    license,
    engines,
    os: ["linux"],
    cpu: ["x64"],
    libc: ["glibc"],
    main: library,
    files: [library],
  };
}

function layOut(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(build, library), join(folder, library));
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest(), null, 2)}\n`);
  writeFileSync(
    join(folder, "README.md"),
    `# ${name}\n\nRuns models on NVIDIA GPUs of compute capability 8.0 or later, for tokenmill of the same version. ` +
      `Needs NVIDIA's driver, of CUDA ${toolkitRelease()} or later, and nothing of its toolkit.\n`,
  );
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

const options = ["-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_CUDA=ON"];
run("cmake", ["-S", root, "-B", build, ...options]);
run("cmake", ["--build", build, "--parallel", String(availableParallelism()), "--target", "tokenmill_cuda"]);
const folder = join(build, "package", name);
layOut(folder);
const [packed] = JSON.parse(run("npm", ["pack", folder, "--json", "--ignore-scripts"], { cwd: build }));
const sizes = { library: statSync(join(folder, library)).size, packed: packed.size };
console.log(`${folder}\n${join(build, packed.filename)}`);
for (const [part, size] of Object.entries(sizes)) {
  const isOver = size > budgets[part];
  console.log(
    `${part}: ${mebibytes(size)} of ${mebibytes(budgets[part])}${isOver ? ", over the budget" : ""}`,
  );
  if (isOver) process.exitCode = 1;
}
