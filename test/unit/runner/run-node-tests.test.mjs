// What `npm test` counts: a test file that fails in any way must show.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const runner = new URL("../../../scripts/run-node-tests.mjs", import.meta.url);

/** Runs a test file with this text and gives the counts. */
function countsOf(t, text) {
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-runner-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const write = (name, lines) => {
    writeFileSync(join(folder, name), lines.join("\n"));
    return join(folder, name);
  };
  const file = write("some.test.mjs", [
    'import { after, afterEach, before, describe, it, test } from "node:test";',
    'const fail = () => { throw new Error("bad"); };',
    text,
  ]);
  const program = write("program.mjs", [
    `import { runNodeTests } from ${JSON.stringify(runner.href)};`,
    "const count = { passed: 0, failed: 0, skipped: 0 };",
    `await runNodeTests([${JSON.stringify(file)}], 1, count);`,
    "console.log(JSON.stringify(count));",
  ]);
  const { NODE_TEST_CONTEXT, ...env } = process.env; // a runner inside a test would run nothing
  const { stdout } = spawnSync(process.execPath, [program], { env, encoding: "utf8" });
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

const cases = {
  "a test": ["test('a', () => {}); test('b', fail);", { passed: 1, failed: 1 }],
  "a test in a suite": [
    "describe('s', () => { it('a', () => {}); describe('t', () => { it('b', fail); }); });",
    { passed: 1, failed: 1 },
  ],
  "a test in a test": [
    "test('s', async (t) => { await t.test('a', fail); });",
    { passed: 0, failed: 2 }, // the outer one failed as well
  ],
  "a suite's hook before": [
    "describe('s', () => { before(fail); it('a', () => {}); });",
    { passed: 0, failed: 2 }, // the test inside never ran
  ],
  "a suite's hook after": [
    "describe('s', () => { after(fail); it('a', () => {}); });",
    { passed: 1, failed: 1 },
  ],
  "a test's hook": ["describe('s', () => { afterEach(fail); it('a', () => {}); });", { failed: 1 }],
  "a suite's body": ["describe('s', fail);", { failed: 1 }],
  "a file's hook": ["after(fail); test('a', () => {});", { passed: 1, failed: 1 }],
  "a file as it is imported": ["fail();", { failed: 1 }],
  "a file's exit code": ["test('a', () => {}); process.exitCode = 3;", { passed: 1, failed: 1 }],
};

for (const [what, [text, expected]] of Object.entries(cases)) {
  test(`a failure counts: ${what}`, (t) => {
    assert.deepEqual(countsOf(t, text), { passed: 0, failed: 0, skipped: 0, ...expected });
  });
}

test("tests in suites count once, skipped ones apart", (t) => {
  const text = `
    describe("s", () => { it("a", () => {}); describe("t", () => { it("b", () => {}); }); });
    test("c", { skip: "why" }, fail);
    it.skip("d", fail);`;
  assert.deepEqual(countsOf(t, text), { passed: 2, failed: 0, skipped: 2 });
});
