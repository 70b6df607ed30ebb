// Adapters come and go while others speak: their replies stay the same, and memory does. TOKENMILL_SOAK=1 makes it a
// thousand adapters of rank 16 on a real model.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { smollm2, tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

const script = fileURLToPath(new URL("adapter-swap.mjs", import.meta.url));
const soak = Boolean(process.env.TOKENMILL_SOAK);

async function swap(modelPath, loads) {
  const kept = randomAdapter(modelPath, { rank: 16, seed: 1 });
  const folders = Array.from({ length: 10 }, (_, i) => randomAdapter(modelPath, { rank: 16, seed: 2 + i }));
  const order = { modelPath, kept, folders, loads, streams: 8 };
  // Its young generation cannot grow: V8 would add up to 32 MB that are not ours.
  const flags = ["--expose-gc", "--max-semi-space-size=1"];
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, script, JSON.stringify(order)]);
  const { replies, growth, adapters, bytes, delayMs, gapMs, times } = JSON.parse(stdout);
  times.sort((a, b) => a - b);
  const [median, most] = [times[times.length >> 1], times.at(-1)].map((ms) => ms.toFixed(1));
  const [delay, delayMost] = delayMs.map((ms) => ms.toFixed(1));
  console.log(
    `# ${loads} adapters beside ${replies} replies: ${median} ms each, ${most} ms at most; event loop delay p99 ` +
      `${delay} ms, ${delayMost} ms at most; longest gap between tokens ${gapMs.toFixed(1)} ms; ` +
      `resident memory grew by ${growth.toFixed(2)} MB`,
  );
  assert.ok(replies >= 8, "the streams ran meanwhile");
  assert.deepEqual([adapters.registered, adapters.loaded, adapters.bytes], [1, 1, bytes]);
  assert.ok(growth <= 4, `resident memory grew by ${growth} MB`);
}

test("adapters come and go while others speak", () => swap(tinyModel({ context: 512 }), 900));

test(
  "a thousand adapters come and go beside a real model",
  {
    skip: soak && smollm2 ? false : "TOKENMILL_SOAK is not set, or no real model is here",
  },
  () => swap(smollm2, 1000),
);
