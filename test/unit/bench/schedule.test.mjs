import assert from "node:assert/strict";
import { test } from "node:test";
import { promptsOf } from "../../../bench/peers/prompts.mjs";
import { schedule } from "../../../bench/peers/schedule.mjs";
import { allWorks, contextTokensOf } from "../../../bench/peers/works.mjs";

test("peer, ours, peer, ours, work by work and round by round", () => {
  const works = [{ id: "w" }, { id: "once", roundsMaximum: 1 }];
  const order = [...schedule({ rounds: 2, works, peers: ["p", "q"], ours: "o" })];
  assert.deepEqual(
    order.map(({ round, work, engine, against }) => `${round}${work.id} ${engine}${against ?? ""}`),
    ["0w p", "0w op", "0w q", "0w oq", "0once p", "0once op", "0once q", "0once oq"].concat([
      "1w p",
      "1w op",
      "1w q",
      "1w oq",
    ]),
  );
});

test("prompts are the same for every engine and others for each round and work", () => {
  const request = { streams: 3, promptTokens: 100 };
  const prompts = promptsOf(request, { vocabularySize: 5000, round: 0, work: 0 });
  assert.deepEqual(
    prompts.map((prompt) => prompt.length),
    [100, 100, 100],
  );
  assert.ok(prompts.flat().every((token) => Number.isInteger(token) && token >= 500 && token < 4500));
  assert.deepEqual(promptsOf(request, { vocabularySize: 5000, round: 0, work: 0 }), prompts);
  const others = [
    promptsOf(request, { vocabularySize: 5000, round: 1, work: 0 }),
    promptsOf(request, { vocabularySize: 5000, round: 0, work: 1 }),
    promptsOf(request, { vocabularySize: 5000, round: -1, work: 0 }),
  ];
  for (const other of others) assert.notDeepEqual(other[0].slice(0, 16), prompts[0].slice(0, 16));
  assert.notDeepEqual(prompts[0], prompts[1]);
});

test("every work has an id of its own, and its figure", () => {
  for (const quick of [false, true]) {
    const works = allWorks({ quick });
    assert.equal(new Set(works.map(({ id }) => id)).size, works.length);
    assert.equal(works.length, 12);
  }
  const works = new Map(allWorks().map((work) => [work.id, work]));
  const answer = { firstMs: 1000, decodeMs: 2000, totalMs: 3000, loadMs: 7, peakBytes: 5e6 };
  assert.equal(works.get("prefill-4096").value(answer), 4096);
  assert.equal(works.get("decode-4096").value(answer), 64);
  assert.equal(works.get("decode-0").request.tokens, 129);
  assert.equal(works.get("streams-8").value(answer), (8 * 64) / 3);
  assert.equal(works.get("load-cold").value(answer), 7);
  assert.equal(works.get("peak-rss").value(answer), 5);
  assert.equal(contextTokensOf([...works.values()]), 4096 + 129);
});
