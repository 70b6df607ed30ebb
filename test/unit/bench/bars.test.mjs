// Whether figures meet what is demanded, and by how much they do not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeBars } from "../../../bench/adapters/command.mjs";
import { measureMixes } from "../../../bench/adapters/measure.mjs";
import { describeBar, holds } from "../../../bench/report/bars.mjs";

test("a bar holds or is missed by a part of it", () => {
  assert.equal(describeBar(0.9, { atLeast: 0.75 }), "HOLDS, by 20 %: at least 0.75");
  assert.equal(describeBar(0.6, { atLeast: 0.75 }), "MISSED, by 20 %: at least 0.75");
  assert.equal(
    describeBar(15, { below: 20 }, (ms) => `${ms} ms`),
    "HOLDS, by 25 %: below 20 ms",
  );
  assert.equal(describeBar(20, { below: 20 }), "MISSED, by 0 %: below 20");
  assert.ok(holds(0.75, { atLeast: 0.75 }));
});

test("streams without an adapter are timed by themselves", async () => {
  // Streams with an adapter take five times as long, the others as long as ever.
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const model = {
    info: { vocabularySize: 100 },
    generate: (_, { adapter }) => sleep(adapter ? 100 : 20),
  };
  const mixes = await measureMixes(model, ["a", "b", "c", "d"], { rounds: 3, tokens: 8 });
  const text = describeBars(mixes, [30]);
  assert.match(text, /^each stream has its own adapter: \d+ % kept; MISSED, by \d+ %: at least 75 %$/m);
  assert.match(text, /^all streams have one adapter: \d+ % kept; MISSED, by \d+ %: at least 85 %$/m);
  assert.equal(text.match(/the streams without one: /g).length, 2);
  assert.match(text, /^loading one: 30\.0 ms; MISSED, by 50 %: below 20 ms$/m);
  const { plain, adapted, beside } = mixes.find(({ id }) => id === "half");
  assert.ok(adapted[0] < 0.5 * plain[0], "all together wait for the slowest");
  assert.ok(beside.adapted[0] > 0.5 * beside.plain[0], "those without do not");
});
