// What `npm test` and the checks of continuous integration are made of: programs that are run, judged and counted.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const nativeTests = join(root, "build", "native-tests");
export const count = { passed: 0, failed: 0, skipped: 0 };

export function command(name, arguments_, options = {}) {
  return spawnSync(name, arguments_, { cwd: root, stdio: "inherit", ...options });
}

/** Calls `run` and gives what it gave and, as text, how long it took. */
function timed(run) {
  const startMs = performance.now();
  const result = run();
  return { ...result, took: `${((performance.now() - startMs) / 1000).toFixed(1)} s` };
}

/** Runs one native test program, which says how many of its tests passed. */
export function runNativeTest(name, [program, ...arguments_], environment = {}) {
  const { status, stdout, took } = timed(() =>
    command(program, arguments_, {
      stdio: ["ignore", "pipe", "inherit"],
      encoding: "utf8",
      env: { ...process.env, ...environment },
    }),
  );
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(stdout) ?? [];
  count.passed += Number(passed ?? 0);
  count.failed += Number(failed ?? 0);
  const ok = status === 0 && passed !== undefined;
  if (!ok && Number(failed ?? 0) === 0) count.failed += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${ok ? ` (${passed}, ${took})` : `\n${stdout}`}`);
}

/** Runs the native tests of a folder whose names contain `filter`. */
export function runNative(folder, { label = "native", filter = "" } = {}) {
  const tests = readdirSync(folder)
    .filter((name) => name.replace(/\.exe$/, "").endsWith("_test") && name.includes(filter))
    .sort();
  for (const name of tests) runNativeTest(`${label}/${name}`, [join(folder, name)]);
}

/** One more test: whether a command succeeds, and says what it should. */
export function runCheck(name, program, arguments_, { environment = {}, expected = /(?:)/ } = {}) {
  const { status, stdout, stderr, took } = timed(() =>
    command(program, arguments_, {
      stdio: "pipe",
      encoding: "utf8",
      env: { ...process.env, ...environment },
    }),
  );
  const ok = status === 0 && expected.test(stdout);
  count[ok ? "passed" : "failed"] += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${ok ? ` (${took})` : `\n${stdout}${stderr}`}`);
}

export function runSkip(reason) {
  console.log(`SKIP ${reason}`);
  count.skipped += 1;
}

/** Says what has been counted, and fails the process where something failed or nothing was run. */
export function report() {
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : "";
  console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
  process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
}

/** Adds what another process counted, as its `report` says; one that says nothing or has a bad status has failed. */
function addReport(text, status) {
  const [, passed = 0, failed = 1, skipped = 0] =
    /(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$/.exec(text) ?? [];
  count.passed += Number(passed);
  count.failed += status === 0 ? Number(failed) : Math.max(1, Number(failed));
  count.skipped += Number(skipped);
}

/**
 * Starts a script that reports as this process does, beside what this one runs. Gives a function that waits for its
 * end, shows what it wrote and counts what it reports.
 */
export function startBeside(arguments_) {
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-checks-"));
  const log = join(folder, "log");
  const output = openSync(log, "w"); // a pipe would fill up while this process waits for one of its own
  const child = spawn(process.execPath, arguments_, { cwd: root, stdio: ["ignore", output, output] });
  const ended = once(child, "exit");
  closeSync(output);
  process.once("exit", () => child.kill());
  return async () => {
    const [status] = await ended; // null after a signal
    const text = readFileSync(log, "utf8");
    rmSync(folder, { recursive: true, force: true });
    process.stdout.write(text);
    addReport(text, status);
  };
}
