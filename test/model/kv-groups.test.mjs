// Models whose layers see differently far: every pattern of windowed layers runs, also one without a kind.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { tinyGemma3 } from "../support/tiny-gemma3.mjs";

async function score(options) {
  const model = await loadModel(tinyGemma3(options));
  const tokens = Array.from({ length: 60 }, (_, i) => (i * 37) % 256);
  const { logprobs } = await model.score(tokens);
  await model.dispose();
  return logprobs.slice(1);
}

test("layers that all see everything, all have a window, or are mixed", async () => {
  const everything = await score({ layers: 3, pattern: 1, window: 32 });
  assert.ok(everything.every(Number.isFinite));
  assert.deepEqual(await score({ layers: 3, pattern: 6, window: 256 }), everything);
  assert.deepEqual(await score({ layers: 3, pattern: 2, window: 256 }), everything);
  assert.notDeepEqual(await score({ layers: 3, pattern: 6, window: 32 }), everything);
});
