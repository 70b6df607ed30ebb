// The native programs of the benchmark: built with the tests' build folder, run for one JSON object a line.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(command, parameters) {
  const options = { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 };
  const { status, error, stdout, stderr } = spawnSync(command, parameters, options);
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${parameters.join(" ")} failed: ${error?.message ?? `${stdout}${stderr}`.trim()}`,
  );
}

export function buildPrograms(...names) {
  run("cmake", ["-S", ".", "-B", "build", "-DTOKENMILL_TESTS=ON"]);
  run("cmake", ["--build", "build", "--target", ...names]);
}

/** The objects that a program prints. */
export function runProgram(name, ...parameters) {
  const lines = run(join(root, "build", "native-tests", name), parameters.map(String))
    .trim()
    .split("\n");
  return lines.map((line) => JSON.parse(line));
}
