// 64 streams at once that are read at all paces and left in all ways: whoever stays has what it has alone, whoever
// leaves the beginning of it, and all pages come back. TOKENMILL_SOAK=1 makes it two minutes and judges the memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { loadModel, TokenmillError } from "../../dist/index.mjs";
import { collectGarbage, tinyModel, until } from "../support/models.mjs";
import { loadWithPages } from "../support/small-pool.mjs";
import { tinyGemma3 } from "../support/tiny-gemma3.mjs";
import { Random } from "../unit/chat/random.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const soak = Boolean(process.env.TOKENMILL_SOAK);
const durationMs = soak ? 120_000 : 2500;
const streams = 64;
/** Of each stream, however long they take. */
const runsAtLeast = 4;
const contextLength = 256;
/** A reply of so many parts is paused when only the first is read. */
const pausing = 90;
const ways = ["cancel", "break", "signal", "deadline"];

/** Few enough requests that each can run alone first; many begin alike. */
function drawKinds(random) {
  const prefixes = Array.from({ length: 5 }, () => random.join(["grain ", "mill ", "stone ", "wheel "], 20));
  return Array.from({ length: 80 }, (_, i) => ({
    prompt: `${random.pick(prefixes)}${i}: ${random.join(["a b c ", "x y ", "flour "], 10)}`,
    options: {
      ignoreEos: true,
      maxTokens: 8 + random.below(112),
      ...(i % 2 ? { temperature: 0.5 + random.next(), seed: i } : {}),
      ...(i % 3 ? {} : { logprobs: 1 }),
    },
  }));
}

/** How one stream runs: what does not change its reply, how it is read, and where it is left, if it is. */
function drawRun(random, kinds) {
  const kind = random.below(kinds.length);
  const run = {
    kind,
    options: {
      priority: random.below(3) - 1,
      tenant: random.pick(["a", "b", "c"]),
      ...(random.below(3) ? {} : { draft: "promptLookup" }),
    },
    reading: random.pick(["await", "read", "read", "slow", "stall"]),
  };
  if (random.next() >= 0.2) return run;
  const way = random.pick(ways);
  return { ...run, way, after: random.below(kinds[kind].options.maxTokens), withinMs: random.below(60) };
}

/** Whether a reply is so long that it is paused while nobody reads it. */
const canPause = ({ kind, options }, kinds) => !options.draft && kinds[kind].options.maxTokens > pausing;

/** Reads parts as the run says, and leaves there. */
async function readParts(model, reply, run, { random, controller, pauses }) {
  const parts = [];
  for await (const part of reply) {
    parts.push(part);
    if (run.reading === "slow" && random.below(16) === 0) await sleep(random.below(20));
    if (run.reading === "stall" && parts.length === 1 && pauses)
      await until(() => model.stats().paused > 0, "a reply that waits for its reader", 60_000);
    if (run.way === undefined || parts.length <= run.after) continue;
    if (run.way === "cancel") reply.cancel();
    if (run.way === "signal") controller.abort();
    if (run.way === "break") break;
  }
  return parts;
}

/** Runs one stream; gives its completion or what it had when it ended, and the parts that were read. */
async function runStream(model, run, kinds, random) {
  const { prompt, options } = kinds[run.kind];
  const controller = new AbortController();
  const reply = model.generate(prompt, {
    ...options,
    ...run.options,
    signal: controller.signal,
    ...(run.way === "deadline" ? { deadline: run.withinMs } : {}),
  });
  const awaits = run.reading === "await" && run.way !== "break";
  const leave = { cancel: () => reply.cancel(), signal: () => controller.abort() }[run.way];
  const timer = awaits && leave ? setTimeout(leave, run.withinMs) : undefined;
  const pauses = canPause(run, kinds) && run.way !== "deadline";
  const context = { random, controller, pauses };
  let parts;
  try {
    if (!awaits) parts = await readParts(model, reply, run, context);
    return { completion: await reply, parts };
  } catch (error) {
    assert.ok(TokenmillError.isInstance(error), String(error));
    assert.equal(error.code, { signal: "Aborted", deadline: "DeadlineExceeded" }[run.way]);
    return { completion: error.partial, parts, failed: true };
  } finally {
    clearTimeout(timer);
  }
}

/** A stream that stayed has all of what it has alone, one that was left the beginning. */
function check(run, { completion, parts, failed }, alone) {
  const { tokens, text, logprobs, finishReason } = completion;
  const ended = failed || finishReason === "aborted";
  if (!ended) assert.deepEqual([text, finishReason], [alone.text, alone.finishReason]);
  else assert.ok(run.way !== undefined, "only those are aborted that are left");
  assert.deepEqual(tokens, ended ? alone.tokens.slice(0, tokens.length) : alone.tokens);
  // What is left of a character that is cut off is a replacement character.
  assert.ok(alone.text.startsWith(text) || alone.text.startsWith(text.replace(/\uFFFD+$/, "")));
  assert.deepEqual(logprobs, alone.logprobs?.slice(0, tokens.length));
  const read = parts?.flatMap((part) => part.tokens) ?? tokens;
  assert.deepEqual(read, tokens.slice(0, read.length));
  if (run.way === undefined) assert.equal(read.length, tokens.length);
  return ended;
}

/** Resident memory over time, once garbage is collected: the middle one of each third after a warm-up. */
class MemoryWatch {
  #samples = [];
  #timer = setInterval(() => this.#sample(), 1000);

  #sample() {
    collectGarbage();
    this.#samples.push(process.memoryUsage.rss());
  }

  /** The samples' medians in the second and in the last quarter, in bytes. */
  stop() {
    clearInterval(this.#timer);
    const quarter = Math.floor(this.#samples.length / 4);
    const middle = (samples) => samples.sort((a, b) => a - b)[samples.length >> 1];
    return {
      before: middle(this.#samples.slice(quarter, 2 * quarter)),
      after: middle(this.#samples.slice(-quarter)),
    };
  }
}

/** The same requests, each alone, on a model that keeps nothing between them. */
async function runAlone(path, kinds) {
  const plain = await loadModel(path, { contextLength, prefixCache: false });
  const alone = [];
  for (const { prompt, options } of kinds) alone.push(await plain.generate(prompt, options));
  await plain.dispose();
  return alone;
}

async function exercise(path, pages, seed) {
  const random = new Random(seed);
  const kinds = drawKinds(random);
  const alone = await runAlone(path, kinds);
  const model = await loadWithPages(path, pages, { contextLength });
  const total = { runs: 0, left: 0, ended: 0, tokens: 0 };
  const deadline = Date.now() + durationMs;
  const memory = soak ? new MemoryWatch() : undefined;
  const stream = async (own) => {
    for (let i = 0; i < runsAtLeast || Date.now() < deadline; i++) {
      const run = drawRun(own, kinds);
      const result = await runStream(model, run, kinds, own);
      const ended = check(run, result, alone[run.kind]);
      total.runs += 1;
      total.left += run.way === undefined ? 0 : 1;
      total.ended += ended ? 1 : 0;
      total.tokens += result.completion.tokens.length;
    }
  };
  await Promise.all(Array.from({ length: streams }, (_, i) => stream(new Random(seed * 1000 + i))));
  await until(() => model.stats().running + model.stats().queued + model.stats().paused === 0, "the end");
  const rss = memory?.stop();
  const stats = model.stats();
  await model.dispose();
  return { total, stats, rss };
}

const models = [
  ["one kind of layers", () => tinyModel({ context: contextLength }), 200],
  [
    "full attention beside a window",
    () => tinyGemma3({ layers: 3, pattern: 2, window: 32, context: contextLength }),
    400,
  ],
];

for (const [i, [name, path, pages]] of models.entries()) {
  test(`${streams} streams, one in five left early, ${name}`, async () => {
    const { total, stats, rss } = await exercise(path(), pages, 7 + i);
    console.log(
      `# ${total.runs} streams, ${total.ended} of ${total.left} ended early, ${total.tokens} tokens, ` +
        `${stats.preempted} preempted, ${stats.prefix.evictedPages} pages evicted` +
        (rss
          ? `, resident ${(rss.before / 2 ** 20).toFixed(1)} → ${(rss.after / 2 ** 20).toFixed(1)} MiB`
          : ""),
    );
    assert.ok(total.runs >= runsAtLeast * streams);
    assert.ok(total.left > total.runs / 8 && total.left < total.runs / 3.5, `${total.left} of ${total.runs}`);
    assert.ok(total.ended > total.left / 3, `${total.ended} of ${total.left} ended early`);
    const { finished, aborted, failed, preempted, prefix, draft } = stats;
    assert.equal(finished + aborted + failed, total.runs);
    assert.ok(preempted > 0 && prefix.hits > 0);
    // A short run may never have few enough replies to guess for.
    if (soak) assert.ok(prefix.evictedPages > 0 && draft.guessedTokens > 0);
    const { used, cached, free, maximum } = stats.pages;
    assert.equal(used, 0);
    assert.ok(cached + free <= maximum);
    assert.equal((cached + free) % 16, 0, "every page of every slab is cached or free");
    if (rss) assert.ok(rss.after - rss.before < 8 * 2 ** 20, `${rss.before} grew to ${rss.after}`);
  });
}
