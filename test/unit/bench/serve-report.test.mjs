import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { lineCharts, ticksOf } from "../../../bench/report/line-chart.mjs";
import { plotPathOf } from "../../../bench/report/plot-file.mjs";
import { readResult, writeResult } from "../../../bench/report/result-file.mjs";
import { describeServe } from "../../../bench/report/serve-table.mjs";
import { planOf } from "../../../bench/serve/plan.mjs";
import { plotServe } from "../../../bench/serve/plots.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-bench-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const main = fileURLToPath(new URL("../../../bench/main.mjs", import.meta.url));

/** Names of elements in their order, after checking that tags nest, attributes are quoted and text is escaped. */
function elementsOf(xml) {
  const open = [];
  const names = [];
  const tag = /<(\/?)([a-z]+)((?: [a-zA-Z0-9-]+="[^"<&]*")*)(\/?)>|([^<>]+)/gy;
  let at = 0;
  for (let match = tag.exec(xml); match !== null; match = tag.exec(xml)) {
    at = tag.lastIndex;
    const [, closes, name, , empty, text] = match;
    if (text !== undefined) assert.doesNotMatch(text, /&(?!(?:amp|lt|gt|quot);)/);
    else if (closes) assert.equal(open.pop(), name);
    else {
      names.push(name);
      if (!empty) open.push(name);
    }
  }
  assert.equal(at, xml.length, xml.slice(at, at + 80));
  assert.deepEqual(open, []);
  return names;
}

const latencies = (scale) => {
  const of = { p50: scale, p90: 2 * scale, p99: 3 * scale };
  return { ttft: of, tpot: of };
};

const content = {
  model: { name: "m", device: { isa: "avx2", threads: 2 } },
  settings: { seed: 1 },
  saturated: {
    meanDepth: 286.4,
    offline: { answer: 700 },
    engine: { steps: 10, rowsPerStep: 40, sequencesPerStep: 30, preempted: 0 },
  },
  loads: [0.2, 0.6].map((load) => ({
    load,
    arrivalsPerSecond: 1,
    requests: 5,
    latencies: latencies(100 * load),
    engine: { steps: 10, rowsPerStep: 4, sequencesPerStep: 3, preempted: 0 },
  })),
  long: {
    timeline: {
      arrivalMs: 1000,
      firstTokenMs: 3000,
      bins: Array.from({ length: 40 }, (_, i) => ({ atMs: 100 * i, median: 20, maximum: 20 + i })),
    },
  },
  figures: [
    {
      phase: "offline",
      figure: "answers",
      unit: "tokens/s",
      better: "higher",
      value: 900,
      rounds: [890, 900, 910],
    },
    {
      phase: "load 60 %",
      figure: "TTFT p99 at 60 %",
      unit: "ms",
      better: "lower",
      value: 600,
      rounds: [600],
      bar: { below: 500, holds: false },
    },
  ],
};

test("ticks are round, even and reach over all values", () => {
  for (const values of [[3], [0, 0.07], [1, 499, 500], [-3, 8], [0], [123456]]) {
    const ticks = ticksOf(values);
    assert.ok(
      ticks[0] <= Math.min(0, ...values) && ticks[ticks.length - 1] >= Math.max(...values),
      `${ticks}`,
    );
    assert.ok(ticks.length >= 2 && ticks.length <= 9, `${ticks}`);
    const steps = ticks.slice(1).map((tick, i) => tick - ticks[i]);
    assert.ok(steps.every((step) => Math.abs(step / steps[0] - 1) < 1e-9));
  }
  assert.deepEqual(ticksOf([500]), [0, 100, 200, 300, 400, 500]);
});

test("the plot is well-formed, stays within its frame, and has every point in its place", () => {
  const svg = plotServe(content);
  const names = elementsOf(svg);
  assert.equal(names[0], "svg");
  assert.equal(names.filter((name) => name === "polyline").length, 3 + 3 + 2);
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg).map(Number);
  assert.equal(height % 3, 0);
  const lines = [...svg.matchAll(/points="([^"]+)"/g)].map(([, points]) =>
    points.split(" ").map((point) => point.split(",").map(Number)),
  );
  for (const [x, y] of lines.flat())
    assert.ok(x >= 0 && x <= width && y >= 0 && y <= height / 3, `${x},${y}`);
  assert.ok(lines[0][0][0] < lines[0][1][0], "a higher load is further right");
  assert.ok(lines[0][0][1] > lines[0][1][1], "a longer time is further up");
  assert.ok(Math.abs(lines[0][0][1] + lines[2][0][1] - 2 * lines[1][0][1]) < 0.2, "p90 is midway here");
});

test("names that XML would read as its own are escaped", () => {
  const series = [{ name: 'a < b & "c"', points: [[1, 1]] }];
  const svg = lineCharts([{ title: "<x>", x: { label: "x" }, y: { label: "y" }, series }]);
  elementsOf(svg);
  assert.match(svg, /a &lt; b &amp; &quot;c&quot;/);
});

test("a result is read as it was written, compared by its figures, and has its plot beside it", () => {
  const paths = ["a.json", "b.json"].map((name) => join(folder, name));
  for (const path of paths) assert.equal(writeResult("serve", content, path), path);
  assert.deepEqual(readResult(paths[0]).figures, content.figures);
  assert.equal(plotPathOf(paths[0]), join(folder, "a.svg"));
  const { status, stdout } = spawnSync(process.execPath, [main, "compare", ...paths], { encoding: "utf8" });
  assert.equal(status, 0);
  assert.match(stdout, /^m +offline +answers +tokens\/s +900 +900 +1\.00 +1 %/m);
  assert.match(stdout, /^m +load 60 % +TTFT p99 at 60 % .*too few rounds$/m);
});

test("the table says which bars are missed", () => {
  const text = describeServe(content);
  assert.match(text, /^load 60 % +TTFT p99 at 60 % +600 +ms +MISSED, by 20 %: below 500$/m);
  assert.match(text, /^offline +answers +900 +tokens\/s *$/m);
  assert.match(text, /load 20 %: 5 requests measured/);
});

test("loads are percents, and wrong ones end with exit code 2", () => {
  assert.deepEqual(planOf({ quick: false, loads: [50] }).loads, [0.5]);
  assert.deepEqual(planOf({ quick: true }).loads, [0.6]);
  for (const loads of ["0", "101", "x", "20,,x"]) {
    const { status, stderr } = spawnSync(process.execPath, [main, "serve", "--loads", loads], {
      encoding: "utf8",
    });
    assert.equal(status, 2, loads);
    assert.match(stderr, /Loads are/);
  }
});
