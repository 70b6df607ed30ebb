// The native programs of the benchmark: built with the tests' build folder, run for one JSON object a line.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
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

const pathOf = (name) => join(root, "build", "native-tests", name);

/** The objects that a program prints. */
export function runProgram(name, ...parameters) {
  const lines = run(pathOf(name), parameters.map(String)).trim().split("\n");
  return lines.map((line) => JSON.parse(line));
}

/** Gives each object that a long program prints to `accept`, as it comes. */
export async function followProgram(name, parameters, accept) {
  const child = spawn(pathOf(name), parameters, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  for await (const line of createInterface({ input: child.stdout })) accept(JSON.parse(line));
  const [code, signal] = await ended;
  if (code !== 0) throw new Error(`${name} ended with ${signal ?? `exit code ${code}`}`);
}
