// What must not go wrong in the life of a process: exits, terminated workers, memory, a blocked event loop.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { loadModel } from "../../dist/index.mjs";
import { modelTest, root, smollm2, temporaryFile, tinyModel, until } from "../support/models.mjs";
import { tinyLlama, uint32 } from "../unit/gguf/gguf-writer.mjs";

const entry = join(root, "dist/index.js");
const endless = { ignoreEos: true };

/** Runs a script in a process of its own: { code, signal, output, ms }. */
async function runScript(script, { timeoutMs = 30_000, flags = [], env = process.env } = {}) {
  const started = performance.now();
  const child = spawn(process.execPath, [...flags, "-e", script], {
    stdio: ["ignore", "pipe", "pipe"],
    env,
  });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  child.stderr.on("data", (data) => {
    output += data;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const [code, signal] = await once(child, "close");
  clearTimeout(timer);
  return { code, signal, output, ms: performance.now() - started };
}

const load = (path, options = {}) => `const { loadModel } = require(${JSON.stringify(entry)});
const load = () => loadModel(${JSON.stringify(path)}, ${JSON.stringify(options)});`;

test("50 times process.exit in the middle of a reply: no crash, no hang", async () => {
  const path = tinyModel({ context: 4096 });
  const script = `${load(path)}
    (async () => {
      const model = await load();
      const reply = model.generate("a", { ignoreEos: true });
      model.generate("b", { ignoreEos: true }).then(() => {});
      for await (const _ of reply) if (Math.random() < 0.2) process.exit(7);
    })();`;
  for (let i = 0; i < 50; i++) {
    const { code, signal, output } = await runScript(script);
    assert.deepEqual({ code, signal, output }, { code: 7, signal: null, output: "" });
  }
});

test("50 times a worker terminated in the middle of a reply: no crash, no hang", async () => {
  const path = tinyModel({ context: 4096 });
  const model = await loadModel(path);
  const script = `${load(path)}
    const { parentPort } = require("node:worker_threads");
    (async () => {
      const model = await load();
      for await (const _ of model.generate("a", { ignoreEos: true })) parentPort.postMessage("part");
    })();`;
  for (let i = 0; i < 50; i++) {
    const worker = new Worker(script, { eval: true });
    await once(worker, "message");
    await sleep(Math.random() * 3);
    await worker.terminate();
  }
  await until(() => model.stats().running + model.stats().paused === 0, "the workers' replies to end");
  assert.equal(model.stats().pages.used, 0);
  assert.equal((await model.generate("still", { maxTokens: 5, ...endless })).tokens.length, 5);
  await model.dispose();
});

test("a worker terminated while it loads", async () => {
  const path = tinyModel({ layers: 12, dim: 256, feedForward: 1024 });
  for (let i = 0; i < 10; i++) {
    const worker = new Worker(`${load(path)}; load();`, { eval: true });
    await once(worker, "online");
    await sleep(i * 4);
    await worker.terminate();
  }
  const model = await loadModel(path);
  assert.equal((await model.generate("a", { maxTokens: 3, ...endless })).tokens.length, 3);
  await model.dispose();
});

/** A model whose load takes a while: feed-forward matrices of zeros, 160 MB together. */
function largeModel() {
  const [dim, feedForward] = [256, 200_000];
  const zeros = Buffer.alloc((dim * feedForward * 34) / 32);
  const matrix = (shape) => ({ type: "Q8_0", shape, data: zeros });
  const tensors = {
    "blk.0.ffn_gate.weight": matrix([dim, feedForward]),
    "blk.0.ffn_up.weight": matrix([dim, feedForward]),
    "blk.0.ffn_down.weight": matrix([feedForward, dim]),
  };
  const metadata = { "llama.feed_forward_length": uint32(feedForward) };
  return temporaryFile(tinyLlama({ layers: 1, dim, tensors, metadata }));
}

// A load that comes to its end leaves packed weights behind.
test("neither a worker's end nor the process's waits for a load", async (t) => {
  const cache = mkdtempSync(join(tmpdir(), "tokenmill-lifecycle-"));
  t.after(() => rmSync(cache, { recursive: true, force: true }));
  const path = largeModel();
  const env = { ...process.env, TOKENMILL_CACHE: cache };
  const packed = () => readdirSync(join(cache, "packed"));
  const loading = (then) => `${load(path)}
    loadModel(${JSON.stringify(path)}, { packedCache: true, onProgress() { ${then} } });`;
  const notify = 'require("node:worker_threads").parentPort.postMessage(0);';
  const worker = new Worker(loading(notify), { eval: true, env });
  await once(worker, "message");
  await worker.terminate();
  assert.deepEqual(packed(), []);
  const { code, output } = await runScript(loading("process.exit(7);"), { env });
  assert.deepEqual({ code, output }, { code: 7, output: "" });
  assert.deepEqual(packed(), []);
  const whole = await runScript(loading(""), { env });
  assert.deepEqual(whole, { ...whole, code: 0, output: "" });
  assert.equal(packed().length, 1);
});

test("a model only a worker loaded leaves with it", async () => {
  const script = `const { Worker } = require("node:worker_threads");
    const worker = new Worker(${JSON.stringify(
      `${load(tinyModel())} (async () => { const m = await load(); await m.generate("a", { maxTokens: 3 }); })();`,
    )}, { eval: true });
    worker.on("exit", (code) => setTimeout(() => console.log("left", code), 50));`;
  const { code, output } = await runScript(script);
  assert.deepEqual({ code, output }, { code: 0, output: "left 0\n" });
});

test("a process with nothing left to do ends, disposed or not", async () => {
  const path = tinyModel();
  const script = `${load(path)}
    (async () => {
      const model = await load();
      const { tokens } = await model.generate("a", { maxTokens: 5, ignoreEos: true });
      console.log(tokens.length);
    })();`;
  const { code, output } = await runScript(script);
  assert.deepEqual({ code, output }, { code: 0, output: "5\n" });
});

test("a running reply keeps the process alive, one that waits for its reader does not", async () => {
  const path = tinyModel({ context: 2048 });
  const running = await runScript(`${load(path)}
    load().then((model) => model.generate("a", { ignoreEos: true }).then((c) => console.log(c.tokens.length)));`);
  assert.equal(running.code, 0);
  assert.ok(Number(running.output) > 1000, running.output);
  const waiting = await runScript(`${load(path)}
    load().then((model) => { globalThis.kept = model.generate("a", { ignoreEos: true }); });
    process.on("exit", () => console.log("end"));`);
  assert.deepEqual([waiting.code, waiting.output], [0, "end\n"]);
});

test("a paused reply that is stopped keeps the process alive until it has ended", async () => {
  const path = tinyModel({ context: 2048 });
  const paused = `const model = await load();
    const controller = new AbortController();
    const reply = model.generate("a", { ignoreEos: true, signal: controller.signal });
    while (model.stats().paused === 0) await new Promise((resolve) => setTimeout(resolve, 1));`;
  const disposed = await runScript(`${load(path)}
    (async () => { ${paused} await model.dispose(); console.log("disposed"); })();`);
  assert.deepEqual([disposed.code, disposed.output], [0, "disposed\n"]);
  const aborted = await runScript(`${load(path)}
    (async () => { ${paused} controller.abort();
      try { for await (const _ of reply); } catch (error) { console.log(error.code); } })();`);
  assert.deepEqual([aborted.code, aborted.output], [0, "Aborted\n"]);
});

test("an error thrown by onProgress ends the load, and nothing else", async () => {
  const path = tinyModel({ layers: 8, dim: 256, feedForward: 512 });
  const mine = new Error("mine");
  const onProgress = () => {
    throw mine;
  };
  await assert.rejects(loadModel(path, { onProgress }), mine);
  const model = await loadModel(path);
  assert.equal((await model.generate("a", { maxTokens: 4, ...endless })).tokens.length, 4);
  await model.dispose();
});

test("1,000 cycles of start and abort leave bytes and pages as before", async () => {
  // In a process of its own whose young generation cannot grow: V8 would add up to 32 MB that are not ours.
  const path = tinyModel({ context: 1024 });
  const script = `${load(path, { prefixCache: false })}
    const assert = require("node:assert/strict");
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    (async () => {
      const model = await load();
      const cycle = async (i) => {
        const controller = new AbortController();
        const reply = model.generate(("cycle " + i + " ").repeat(20), { ignoreEos: true, signal: controller.signal });
        if (i % 2) await reply[Symbol.asyncIterator]().next();
        controller.abort();
        await assert.rejects(Promise.resolve(reply), { code: "Aborted" });
      };
      const resident = async () => {
        for (let i = 0; i < 5; i++) { gc(); await sleep(10); }
        return process.memoryUsage().rss;
      };
      let before, early;
      for (let i = 1; i <= 1000; i++) {
        await cycle(i);
        if (i === 10) before = model.stats();
        if (i === 200) early = await resident();
      }
      const late = await resident();
      console.log(JSON.stringify({ before, after: model.stats(), growth: (late - early) / 2 ** 20 }));
    })();`;
  const { code, output } = await runScript(script, {
    timeoutMs: 120_000,
    flags: ["--expose-gc", "--max-semi-space-size=1"],
  });
  assert.equal(code, 0, output);
  const { before, after, growth } = JSON.parse(output);
  console.log(`# resident memory grew by ${growth.toFixed(2)} MB between cycles 200 and 1,000`);
  assert.deepEqual(after.bytes, before.bytes);
  assert.equal(after.pages.used, 0);
  assert.equal(after.pages.free, before.pages.free + before.pages.used);
  assert.ok(growth <= 4, `resident memory grew by ${growth} MB`);
});

modelTest("eight chats stream interleaved and the event loop stays free", smollm2, async (path) => {
  const model = await loadModel(path, { contextLength: 2048 });
  const delay = async (work) => {
    const histogram = monitorEventLoopDelay({ resolution: 1 });
    histogram.enable();
    await work();
    histogram.disable();
    return histogram.percentile(99) / 1e6;
  };
  const idle = await delay(() => sleep(2000));
  const order = [];
  const busy = await delay(() =>
    Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const messages = [{ role: "user", content: `Tell me story number ${i}.` }];
        for await (const _part of model.chat(messages, { maxTokens: 48, ...endless })) order.push(i);
      }),
    ),
  );
  console.log(`# event loop delay p99: idle ${idle.toFixed(2)} ms, with 8 chats ${busy.toFixed(2)} ms`);
  assert.equal(order.length, 8 * 48);
  const switches = order.filter((id, k) => k > 0 && id !== order[k - 1]).length;
  assert.ok(switches > 200, `the replies took turns only ${switches} times`);
  assert.ok(busy <= idle + 10, `event loop delay p99 ${busy} ms, idle ${idle} ms`);
  await model.dispose();
});
