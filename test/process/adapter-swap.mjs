// Run by adapter-swap.test.mjs: adapters come and go while streams with and without another one run. Prints what it
// saw.
import assert from "node:assert/strict";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { loadModel } from "../../dist/index.mjs";

const { modelPath, kept, folders, loads, streams } = JSON.parse(process.argv[2]);
const model = await loadModel(modelPath, { contextLength: 256 });
const adapter = await model.loadAdapter(kept, { name: "kept" });

/** Between two parts of one reply. */
let gapMs = 0;

/** A reply that a stream's number determines, every other one with the adapter that stays. */
async function ask(i) {
  const reply = model.generate(`Stream ${i}`, {
    ...{ maxTokens: 24, temperature: 1, seed: i, logprobs: 1, ignoreEos: true },
    ...(i % 2 ? { adapter } : {}),
  });
  let last;
  for await (const _ of reply) {
    const now = performance.now();
    if (last !== undefined) gapMs = Math.max(gapMs, now - last);
    last = now;
  }
  const { tokens, logprobs } = await reply;
  return { tokens, logprobs };
}

const resident = async () => {
  for (let i = 0; i < 5; i += 1) {
    globalThis.gc();
    await sleep(10);
  }
  return process.memoryUsage().rss;
};

const expected = [];
for (let i = 0; i < streams; i += 1) expected.push(await ask(i));
gapMs = 0;
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
let going = true;
let replies = 0;
const speaking = expected.map(async (reply, i) => {
  while (going) {
    assert.deepEqual(await ask(i), reply);
    replies += 1;
  }
});
const times = [];
let early;
for (let i = 0; i < loads; i += 1) {
  const begun = performance.now();
  const passing = await model.loadAdapter(folders[i % folders.length], { name: "passing" });
  times.push(performance.now() - begun);
  if (i % 50 === 0) await model.generate("x", { adapter: passing, maxTokens: 2 });
  await passing.unload();
  // Until then the heap of the thread that reads headers has settled.
  if (i === Math.floor(loads / 3)) early = await resident();
}
const growth = ((await resident()) - early) / 2 ** 20;
going = false;
await Promise.all(speaking);
delay.disable();
const { adapters } = model.stats();
const result = {
  replies,
  growth,
  adapters,
  bytes: adapter.bytes,
  delayMs: [delay.percentile(99), delay.max].map((ns) => ns / 1e6),
  gapMs,
  times,
};
await model.dispose();
console.log(JSON.stringify(result));
