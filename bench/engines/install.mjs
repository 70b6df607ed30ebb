// Puts the peers into the cache, once and on demand: packages of npm by a prefix, of Python in an environment.
import { spawnSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchFolder } from "../folder.mjs";
import { EngineError } from "./engine-process.mjs";

const windows = process.platform === "win32";

/** Runs an installer; its output goes to a file that a failure names. */
function install(command, parameters, log) {
  const { status, error, stdout, stderr } = spawnSync(command, parameters, {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    shell: windows && command === "npm",
  });
  if (status === 0) return;
  writeFileSync(log, `${stdout ?? ""}${stderr ?? ""}${error ? error.message : ""}`);
  const line = `${stderr ?? ""}`.trim().split("\n").at(-1) ?? "";
  throw new EngineError(`it could not be installed: ${error?.message ?? line} (${log})`);
}

/** Whether a Python has a module; it is not imported. */
export function pythonHas(python, module) {
  const code = `import importlib.util, sys; sys.exit(0 if importlib.util.find_spec("${module}") else 1)`;
  return spawnSync(python, ["-c", code], { stdio: "ignore" }).status === 0;
}

/**
 * The Python that has `modules`: the one given, else that of an environment in the cache, which is made if
 * `allowed`.
 */
export function providePython(name, { python, modules, packages, allowed, announce }) {
  const hasAll = (path) => modules.every((module) => pythonHas(path, module));
  if (python !== undefined && hasAll(python)) return python;
  const folder = join(benchFolder(), `python-${name}`);
  const own = join(folder, windows ? "Scripts/python.exe" : "bin/python");
  if (existsSync(own) && hasAll(own)) return own;
  if (!allowed) throw new EngineError("it is not installed, and --no-install was given");
  announce(`installing ${packages.join(", ")} into ${folder}`);
  const log = `${folder}.log`;
  if (!existsSync(own)) {
    rmSync(folder, { recursive: true, force: true });
    install(windows ? "python" : "python3", ["-m", "venv", folder], log);
  }
  install(own, ["-m", "pip", "install", ...packages], log);
  return own;
}

/** The folder whose node_modules has a package of npm's. */
export function provideNodePackage(name, range, { allowed, announce }) {
  const folder = benchFolder(name);
  if (existsSync(join(folder, "node_modules", name, "package.json"))) return folder;
  if (!allowed) throw new EngineError("it is not installed, and --no-install was given");
  announce(`installing ${name}@${range} into ${folder}`);
  const parameters = ["install", "--prefix", folder, "--no-audit", "--no-fund", `${name}@${range}`];
  install("npm", parameters, `${folder}.log`);
  return folder;
}
