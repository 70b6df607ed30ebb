// Laws of the fixture reader and of kldTop; needs no weights.

import assert from "node:assert/strict";
import { test } from "node:test";
import { kldTop, readWindowFixture } from "./window-fixture.mjs";

const fixtures = {
  "smollm2-135m-instruct": { vocab: 49152, tokenCount: 512 },
  "gemma-3-270m": { vocab: 262144, tokenCount: 513 },
};

/** Logits that have exactly the oracle's distribution, the remaining mass spread evenly. */
function logitsOf(row, vocab) {
  const logits = new Float32Array(vocab).fill(Math.log(row.rest / (vocab - row.ids.length)));
  row.ids.forEach((id, i) => {
    logits[id] = row.logprobs[i];
  });
  return logits;
}

for (const [name, { vocab, tokenCount }] of Object.entries(fixtures)) {
  const fixture = readWindowFixture(name);

  test(`${name}: the window has the documented shape`, () => {
    assert.equal(fixture.vocab, vocab);
    assert.equal(fixture.tokens.length, tokenCount);
    assert.equal(fixture.positions.length, 64);
    assert.equal(fixture.positions.at(-1), tokenCount - 1);
    assert.ok(fixture.tokens.every((token) => token < vocab));
  });

  test(`${name}: each row is a probability distribution, most likely first, without repeats`, () => {
    for (const row of fixture.top) {
      const total = row.logprobs.reduce((sum, logprob) => sum + Math.exp(logprob), row.rest);
      assert.ok(Math.abs(total - 1) < 1e-5, `sums to ${total}`);
      assert.ok(row.logprobs.every((logprob, i) => i === 0 || logprob <= row.logprobs[i - 1]));
      assert.equal(new Set(row.ids).size, row.ids.length);
    }
  });

  test(`${name}: kldTop is zero for the oracle's own distribution, shifted or not`, () => {
    for (const row of fixture.top) {
      const logits = logitsOf(row, vocab);
      assert.ok(Math.abs(kldTop(row, logits)) < 1e-5);
      assert.ok(
        Math.abs(
          kldTop(
            row,
            logits.map((logit) => logit + 8),
          ),
        ) < 1e-5,
      );
    }
  });

  test(`${name}: kldTop follows the closed form for one raised logit, in the top or outside`, () => {
    const row = fixture.top[20];
    const outside = Array.from({ length: vocab }, (_, id) => id).find((id) => !row.ids.includes(id));
    for (const id of [row.ids[0], outside]) {
      const logits = logitsOf(row, vocab);
      const raise = id === outside ? 15 : 0.7;
      const p = Math.exp(logits[id]);
      logits[id] += raise;
      const z = 1 + p * Math.expm1(raise);
      const others = row.rest + p * Math.expm1(raise);
      const expected =
        id === outside ? Math.log(z) + row.rest * Math.log(row.rest / others) : Math.log(z) - p * raise;
      assert.ok(expected > 1e-3, `${expected} tells nothing`);
      assert.ok(Math.abs(kldTop(row, logits) - expected) < 1e-5);
    }
  });

  test(`${name}: kldTop does not hide NaN`, () => {
    const logits = logitsOf(fixture.top[0], vocab);
    logits[5] = NaN;
    assert.ok(Number.isNaN(kldTop(fixture.top[0], logits)));
  });
}
