import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { EngineError, EngineProcess } from "../../../bench/engines/engine-process.mjs";

const fake = fileURLToPath(new URL("fake-engine.mjs", import.meta.url));

function start(behaviour) {
  return new EngineProcess("fake", { command: process.execPath, parameters: [fake, behaviour] });
}

const run = { prompts: [[1, 2]], tokens: 3 };

/** What the second run of an engine fails with. */
async function secondRunOf(behaviour, timeoutMs = 20_000) {
  const engine = start(behaviour);
  try {
    await engine.request("run", run, 20_000);
    let failure;
    await assert.rejects(engine.request("run", run, timeoutMs), (error) => {
      failure = error;
      return error instanceof EngineError;
    });
    return { engine, message: failure.message };
  } finally {
    await engine.close();
  }
}

test("requests are answered in turn, and closing ends the process", async () => {
  const engine = start("works");
  const { loadMs } = await engine.request("load", { model: "m" }, 20_000);
  assert.equal(loadMs, 10);
  const answer = await engine.request("run", run, 20_000);
  assert.deepEqual(answer, { firstMs: 10, decodeMs: 10, totalMs: 20, tokens: 3 });
  await engine.close();
  assert.throws(() => process.kill(engine.pid, 0), { code: "ESRCH" });
  assert.equal(engine.failure, undefined);
});

test("an error of the engine's own leaves it running", async () => {
  const engine = start("refuses");
  await assert.rejects(engine.request("load", {}, 20_000), { message: "fake: no such type" });
  await assert.rejects(engine.request("load", {}, 20_000), { message: "fake: no such type" });
  await engine.close();
});

test("an engine that dies is named with its exit code and its last words", async () => {
  const { engine, message } = await secondRunOf("dies");
  assert.equal(message, "fake ended early (exit code 3); it last said: out of luck");
  await assert.rejects(engine.request("run", run, 1000), { message });
});

test("an engine that writes rubbish is not asked again", async () => {
  const { message } = await secondRunOf("rubbish");
  assert.equal(message, "fake wrote something that is not JSON: loading layer 3…");
});

test("an answer to another request, or without a result, is an error", async () => {
  assert.match((await secondRunOf("stale")).message, /answers no request/);
  assert.match((await secondRunOf("empty")).message, /neither a result nor an error/);
});

test("an engine that hangs is ended in time", async () => {
  const { engine, message } = await secondRunOf("hangs", 200);
  assert.equal(message, "fake gave no answer to 'run' within 0.2 s");
  assert.throws(() => process.kill(engine.pid, 0), { code: "ESRCH" });
});

test("a program that cannot be started is an error of the engine", async () => {
  const engine = new EngineProcess("absent", { command: "tokenmill-no-such-program", parameters: [] });
  await assert.rejects(engine.request("load", {}, 20_000), /^EngineError|Error: absent cannot be started: /);
  await engine.close();
});
