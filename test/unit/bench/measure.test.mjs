import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { measureModel } from "../../../bench/peers/measure.mjs";
import { allWorks } from "../../../bench/peers/works.mjs";

const fake = fileURLToPath(new URL("fake-engine.mjs", import.meta.url));

function entrant(name, behaviour, ms) {
  const program = { command: process.execPath, parameters: [fake, behaviour, String(ms)] };
  return { name, status: "ran", program };
}

async function measure(entrants, ids, { timeoutMs = 20_000, rounds = 2 } = {}) {
  const seen = [];
  const plan = {
    path: fake,
    vocabularySize: 1000,
    works: allWorks().filter(({ id }) => ids.includes(id)),
    rounds,
    threads: 1,
    contextTokens: 1024,
    timeoutMs,
    ours: "ours",
  };
  const hooks = { note: () => {}, onOurs: (work, round) => seen.push(`${work.id}/${round}`) };
  return { measurements: await measureModel(entrants, plan, hooks), seen };
}

const inShort = ({ work, round, engine, against }) =>
  `${round} ${work} ${engine}${against ? `/${against}` : ""}`;

test("each peer is followed by ours, in every round, after one to warm up", async () => {
  const entrants = [entrant("ours", "works", 10), entrant("a", "works", 20), entrant("b", "works", 40)];
  const { measurements, seen } = await measure(entrants, ["prefill-512", "streams-2"], { rounds: 2 });
  const round = (r) =>
    ["prefill-512", "streams-2"].flatMap((work) =>
      ["a", "ours/a", "b", "ours/b"].map((engine) => `${r} ${work} ${engine}`),
    );
  assert.deepEqual(measurements.map(inShort), [...round(0), ...round(1)]);
  const [first, second] = measurements;
  assert.deepEqual([first.value, second.value], [512_000 / 20, 512_000 / 10]);
  assert.equal(seen.length, 8);
});

test("ours runs alone where there is no peer", async () => {
  const { measurements } = await measure([entrant("ours", "works", 10)], ["decode-0"]);
  assert.deepEqual(measurements.map(inShort), ["0 decode-0 ours", "1 decode-0 ours"]);
});

for (const [behaviour, reason] of [
  ["dies", /^bad ended early \(exit code 3\)/],
  ["rubbish", /^bad wrote something that is not JSON/],
  ["hangs", /^bad gave no answer to 'run'/],
  ["refuses", /^bad: no such type/],
  ["stops-early", /^bad: decoded 128 tokens instead of 129/],
]) {
  test(`a peer that fails (${behaviour}) is marked and the others go on`, async () => {
    const bad = entrant("bad", behaviour, 10);
    const entrants = [entrant("ours", "works", 10), bad, entrant("good", "works", 20)];
    const { measurements } = await measure(entrants, ["decode-0"], {
      timeoutMs: behaviour === "hangs" ? 1500 : 20_000,
    });
    assert.equal(bad.status, "failed");
    assert.match(bad.reason, reason);
    const good = measurements.filter(({ engine, against }) => [engine, against].includes("good"));
    assert.deepEqual(good.map(inShort), [
      "0 decode-0 good",
      "0 decode-0 ours/good",
      "1 decode-0 good",
      "1 decode-0 ours/good",
    ]);
  });
}

test("loads are measured in fresh processes, and memory in three rounds at most", async (t) => {
  if (process.platform !== "linux") return t.skip("needs the peak that Linux tells");
  const entrants = [entrant("ours", "works", 10), entrant("a", "works", 20)];
  const works = ["load-warm", "load-unpacked", "peak-rss"];
  const { measurements } = await measure(entrants, works, { rounds: 4 });
  const of = (work, engine) => measurements.filter((one) => one.work === work && one.engine === engine);
  assert.deepEqual(
    of("load-warm", "a").map(({ value }) => value),
    [20, 20, 20, 20],
  );
  assert.ok(of("load-unpacked", "ours").every(({ value }) => value === 30));
  assert.equal(of("peak-rss", "ours").length, 3);
  for (const { value } of of("peak-rss", "ours")) assert.ok(value > 10 && value < 1000, `${value} MB`);
});
