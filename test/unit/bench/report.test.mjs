import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { summarizeLimits } from "../../../bench/limits.mjs";
import { compareFigures } from "../../../bench/report/comparison.mjs";
import { formatFigure } from "../../../bench/report/format.mjs";
import { describeLimits } from "../../../bench/report/limits-text.mjs";
import { describeModel } from "../../../bench/report/peers-table.mjs";
import { summarize } from "../../../bench/report/statistics.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-bench-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const main = fileURLToPath(new URL("../../../bench/main.mjs", import.meta.url));

function runBench(...parameters) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...parameters], { encoding: "utf8" });
  return { status, stdout, stderr };
}

function resultFile(name, content) {
  const path = join(folder, name);
  const common = { formatVersion: 1, date: "2026-11-22T00:00:00Z", machine: { cpu: "a CPU" } };
  writeFileSync(path, JSON.stringify({ ...common, ...content }));
  return path;
}

const peersResult = (engines) => ({
  kind: "peers",
  models: [{ name: "m", works: [{ id: "w", unit: "tokens/s", better: "higher", engines }] }],
});

const arithmetic = (perCycle, issueRate = 2) => ({
  kernel: "k",
  operationsPerSecond: 1e12 * perCycle,
  perCycle,
  issueRate,
  clockGhz: 4,
});

const measured = (perCycle) => ({
  threads: 2,
  integer: arithmetic(perCycle),
  float: arithmetic(0, 0),
  read: { bytes: 1e8, bytesPerSecond: 4e10 },
});

test("a limit is void unless its kernel reaches 95 % of its issue rate", () => {
  const valid = summarizeLimits([measured(1.8), measured(1.95)]);
  assert.equal(valid.integer.void, false);
  assert.equal(valid.integer.perCycle, 1.95);
  assert.equal(summarizeLimits([measured(1.89)]).integer.void, true);
  assert.match(
    describeLimits(summarizeLimits([measured(1.89)])),
    /1\.89 of 2\.0 a cycle at 4\.00 GHz, 95 %: void/,
  );
  assert.match(describeLimits(valid), /98 %: valid/);
  assert.match(describeLimits(valid), /f32 FMA \(k\): void: the threads never ran side by side/);
});

test("the table has a row an engine, a dash for what is missing, and says who is left out and why", () => {
  const engines = { ours: summarize([30, 40, 50], "higher"), a: summarize([10, 20, 30], "higher") };
  const text = describeModel(
    {
      name: "m",
      path: "m.gguf",
      fileBytes: 1000,
      limits: undefined,
      oneByOne: [],
      entrants: [
        { name: "ours", status: "ran", version: "1" },
        { name: "a", status: "ran", version: "2" },
        { name: "b", status: "left out", reason: "it is not installed" },
        { name: "c", status: "failed", reason: "c ended early" },
      ],
      works: [
        {
          id: "w",
          unit: "tokens/s",
          engines,
          ratios: { a: summarize([2, 2, 3], "higher") },
          fasterLlamaCpp: "a",
          fraction: { of: "read", void: true },
        },
        { id: "x", unit: "ms", engines: { ours: engines.ours }, ratios: {} },
      ],
    },
    "ours",
  );
  assert.match(text, /b: left out: it is not installed\n/);
  assert.match(text, /c: failed: c ended early\n/);
  const rows = text
    .split("\n")
    .slice(-6, -1)
    .map((line) => line.split(/ {2,}/).map((cell) => cell.trim()));
  assert.deepEqual(rows, [
    ["WORK", "UNIT", "ENGINE", "MEDIAN", "BEST", "OURS MEDIAN", "BEST"],
    ["w", "tokens/s", "ours", "40.0", "50.0", "void of read"],
    ["", "a", "20.0", "30.0", "2.00×", "3.00×", "the faster llama.cpp: counts"],
    ["x", "ms", "ours", "40.0", "50.0"],
    ["", "a", "–", "–", "–", "–"],
  ]);
});

test("figures have three digits", () => {
  assert.deepEqual([0.01234, 1.5, 99.94, 123.4, 98765].map(formatFigure), [
    "0.0123",
    "1.50",
    "99.9",
    "123",
    "98765",
  ]);
});

test("a change counts where the middle halves of the rounds do not touch", () => {
  const figure = (name, rounds, better = "higher") => ({ name: [name], unit: "u", better, rounds });
  const before = [
    figure("faster", [10, 11, 12, 13]),
    figure("same", [10, 11, 12, 30]),
    figure("slower", [10, 11, 12], "lower"),
    figure("short", [10]),
    figure("gone", [1, 2, 3]),
  ];
  const after = [
    figure("faster", [20, 21, 22, 9]),
    figure("same", [11, 12, 13, 5]),
    figure("slower", [20, 21, 22], "lower"),
    figure("short", [20]),
    figure("new", [1, 2, 3]),
  ];
  const { changes, onlyBefore, onlyAfter } = compareFigures(before, after);
  assert.deepEqual(
    changes.map(({ verdict }) => verdict),
    ["better", "noise", "worse", "unknown"],
  );
  assert.equal(changes[2].ratio, 21 / 11);
  assert.deepEqual([onlyBefore, onlyAfter], [[["gone"]], [["new"]]]);
});

test("compare prints what changed between two files", () => {
  const a = resultFile(
    "a.json",
    peersResult({ ours: { rounds: [10, 10, 11] }, peer: { rounds: [5, 5, 5] } }),
  );
  const b = resultFile("b.json", peersResult({ ours: { rounds: [20, 20, 21] } }));
  const { status, stdout } = runBench("compare", a, b);
  assert.equal(status, 0);
  assert.match(stdout, /^m +w +ours +tokens\/s +10\.0 +20\.0 +2\.00 +5 % +better$/m);
  assert.match(stdout, /^1 only in A: m w peer$/m);
});

test("compare refuses files of different kinds, and files that are no results, with exit code 2", () => {
  const peers = resultFile("peers.json", peersResult({ ours: { rounds: [1] } }));
  const kernels = resultFile("kernels.json", { kind: "kernels", kernels: [] });
  const other = resultFile("other.json", { kind: "peers", formatVersion: 99 });
  const cases = [
    [kernels, /A is a result of 'peers' and B of 'kernels'/],
    [other, /format version 99/],
    [join(folder, "absent.json"), /cannot be read as a result/],
    [resultFile("list.json", { kind: "letters" }), /is not a result of this benchmark/],
  ];
  for (const [path, message] of cases) {
    const { status, stderr } = runBench("compare", peers, path);
    assert.equal(status, 2);
    assert.match(stderr, message);
  }
});

test("a wrong command line ends with exit code 2 before anything is built", () => {
  for (const parameters of [["peers", "--engines", "vllm"], ["peers", "--rounds", "0"], ["nonsense"], []]) {
    const { status, stderr } = runBench(...parameters);
    assert.equal(status, 2, parameters.join(" "));
    assert.notEqual(stderr, "");
  }
  const unknown = runBench("peers", "--works", "prefill-77");
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /Unknown work 'prefill-77'; known are prefill-512, /);
});
