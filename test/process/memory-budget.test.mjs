// A budget that is halved under load gives the memory back to the system.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { collectGarbage, modelTest, smollm2, until } from "../support/models.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { estimateMemory, loadModel } = await import("../../dist/index.mjs");

const streams = 16;
const contextLength = 700;
const promptTokens = 560;
const maxTokens = 120;

const prompt = (seed) =>
  Array.from({ length: promptTokens }, (_, i) => 100 + ((seed * 7919 + i * i * 31) % 40_000));
const start = (model) =>
  Array.from({ length: streams }, (_, i) => model.generate(prompt(i), { maxTokens, ignoreEos: true }));

/** The lowest resident size in the next two seconds, once it is below a bound or at their end. */
async function lowestRss(bound) {
  let lowest = Number.POSITIVE_INFINITY;
  for (const deadline = Date.now() + 2000; Date.now() < deadline && lowest > bound; ) {
    lowest = Math.min(lowest, process.memoryUsage.rss());
    await sleep(20);
  }
  return lowest;
}

modelTest("half the budget during 16 streams: resident memory falls, replies stay", smollm2, async (path) => {
  // Steps may take as long as they like: prompts are read before anyone has replied to the end.
  const options = { contextLength, packedCache: false, targetTpot: 60_000 };
  const { weights, scratch, kv } = await estimateMemory(path, options);
  const pageBytes = kv / (Math.ceil(contextLength / 256) * 16);
  const pages = streams * Math.ceil((promptTokens + maxTokens) / 16);
  const budget = weights + scratch + Math.max(pages * pageBytes, weights + scratch + 2 * kv);
  assert.ok(budget / 2 > weights + scratch + kv);
  const model = await loadModel(path, { ...options, memory: { budget } });
  const replies = Promise.all(start(model));
  const promptPages = (streams * promptTokens) / 16;
  await until(() => model.stats().pages.used > promptPages, "all streams to run", 60_000);
  assert.equal(model.stats().running, streams);
  collectGarbage();
  const before = { rss: process.memoryUsage.rss(), kv: model.stats().bytes.kv };
  const started = performance.now();
  const reached = await model.setMemoryBudget(budget / 2);
  const released = before.kv - reached.kv;
  const wanted = before.rss - 0.9 * released;
  const rss = await lowestRss(wanted);
  const milliseconds = performance.now() - started;
  console.log(
    `# ${released >> 20} MiB of slabs released, resident memory fell by ${(before.rss - rss) >> 20} MiB ` +
      `in ${milliseconds.toFixed(0)} ms`,
  );
  assert.ok(reached.weights + reached.scratch + reached.kv <= budget / 2);
  assert.ok(released > 100 * 2 ** 20, `${released} bytes released`);
  assert.ok(rss <= wanted, `${before.rss} fell to ${rss}, ${released} were released`);
  const completions = await replies;
  assert.ok(model.stats().preempted > 0);
  assert.equal(model.stats().failed, 0);
  await model.setMemoryBudget(budget);
  await model.dispose();

  const wide = await loadModel(path, { contextLength, prefixCache: false });
  const expected = await Promise.all(start(wide));
  await wide.dispose();
  assert.deepEqual(
    completions.map(({ tokens }) => tokens),
    expected.map(({ tokens }) => tokens),
  );
});
