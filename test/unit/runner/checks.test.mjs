// What `npm test` counts of programs that it runs, in turn and beside itself.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const module = new URL("../../../scripts/checks.mjs", import.meta.url).href;
const folder = mkdtempSync(join(tmpdir(), "tokenmill-checks-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let scripts = 0;

function script(lines) {
  const path = join(folder, `${scripts++}.mjs`);
  writeFileSync(path, lines);
  return path;
}

/** Runs lines that use the module, and gives what they printed and how they ended. */
function run(lines) {
  const path = script(`import * as checks from ${JSON.stringify(module)};\n${lines}\nchecks.report();`);
  const { stdout, status } = spawnSync(process.execPath, [path], { encoding: "utf8" });
  return { stdout, status, last: stdout.trimEnd().split("\n").at(-1) };
}

const beside = (...paths) =>
  `const started = ${JSON.stringify(paths)}.map((path) => checks.startBeside([path]));
   for (const ended of started) await ended();`;

test("what runs beside is shown and counted, however long this process is busy", () => {
  const writes = "console.log('x'.repeat(300_000));";
  const first = script(`${writes} console.log("7 passed, 0 failed, 2 skipped");`);
  const second = script(`console.log("ok   second"); console.log("5 passed, 0 failed");`);
  const busy = "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);";
  const { stdout, status, last } = run(`${beside(first, second).replace(";", `; ${busy}`)}`);
  assert.equal(last, "12 passed, 0 failed, 2 skipped");
  assert.equal(status, 0);
  assert.ok(stdout.includes("x".repeat(300_000)) && stdout.includes("ok   second"));
});

test("what fails beside, or ends without a report, fails the whole", () => {
  const fails = script(`console.log("3 passed, 2 failed"); process.exitCode = 1;`);
  const dies = script(`console.log("4 passed, 0 failed"); throw new Error("bad");`);
  const silent = script(`process.exit(0);`);
  const empty = script(`console.log("0 passed, 0 failed"); process.exitCode = 1;`);
  const killed = script(`console.log("2 passed, 0 failed"); process.kill(process.pid, "SIGKILL");`);
  for (const [path, expected] of [
    [fails, "4 passed, 2 failed"],
    [dies, "1 passed, 1 failed"],
    [silent, "1 passed, 1 failed"],
    [empty, "1 passed, 1 failed"],
    [killed, "3 passed, 1 failed"],
  ]) {
    const { status, last } = run(`checks.count.passed += 1; ${beside(path)}`);
    assert.deepEqual([last, status], [expected, 1]);
  }
});

test("a check fails by its status or by not saying what it should", () => {
  const { stdout, status, last } = run(`
    const node = process.execPath;
    checks.runCheck("good", node, ["-e", "console.log('so')"], { expected: /so/ });
    checks.runCheck("bad", node, ["-e", "console.log('why'); process.exit(3)"]);
    checks.runCheck("mute", node, ["-e", ""], { expected: /so/ });
    checks.runNativeTest("counts", [node, "-e", "console.log('4 passed, 0 failed')"]);
    checks.runNativeTest("crashes", [node, "-e", "process.exit(9)"]);
    checks.runSkip("nothing to do");`);
  assert.equal(last, "5 passed, 3 failed, 1 skipped");
  assert.equal(status, 1);
  assert.match(stdout, /^ok {3}good \([\d.]+ s\)\nFAIL bad\nwhy\n/);
  assert.match(stdout, /\nok {3}counts \(4, [\d.]+ s\)\nFAIL crashes\n/);
});

test("nothing run is no success", () => {
  const { status, last } = run("");
  assert.deepEqual([last, status], ["0 passed, 0 failed", 1]);
});
