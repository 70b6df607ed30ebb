import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { FileLock, replaceLock } from "../../../dist/sources/file-lock.js";
import { resolveSource } from "../../../dist/sources/resolve-source.js";
import { LoopbackServer, pseudoRandomBytes } from "./loopback.mjs";
import { childEnvironment, filesBelow, useSandbox } from "./sandbox.mjs";

const body = pseudoRandomBytes(3 << 20);
const path = "/owner/repo/resolve/main/model.gguf";
const source = "hf:owner/repo/model.gguf";
const cached = "hf/owner/repo/main/model.gguf";
const program = fileURLToPath(new URL("resolve-child.mjs", import.meta.url));

async function useSlowHub(t, bytesPerSecond = 6 << 20) {
  const hub = await LoopbackServer.start(t);
  hub.files.set(path, { body, etag: '"v1"', bytesPerSecond });
  const cache = useSandbox(t, { HF_ENDPOINT: hub.url });
  return { hub, cache };
}

/** Starts a process that resolves `source`; `loaded` resolves once so many bytes have come. */
function startChild(t, { hub, cache }) {
  const env = childEnvironment(cache, { HF_ENDPOINT: hub.url });
  const child = spawn(process.execPath, [program, source], { env });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  let loadedBytes = 0;
  child.stdout.on("data", (chunk) => {
    printed += chunk;
  });
  child.stderr.on("data", (chunk) => {
    loadedBytes = Math.max(loadedBytes, ...String(chunk).trim().split("\n").map(Number));
  });
  const closed = once(child, "close");
  return {
    kill: (signal) => child.kill(signal),
    closed,
    result: closed.then(() => (printed === "" ? undefined : JSON.parse(printed))),
    async loaded(bytes) {
      while (loadedBytes < bytes && child.exitCode === null) await sleep(5);
    },
  };
}

test("two processes at once: one downloads, the other waits and sees its progress", async (t) => {
  for (let round = 0; round < 5; round++) {
    await t.test(`round ${round + 1}`, async (t) => {
      const world = await useSlowHub(t);
      const children = [startChild(t, world), startChild(t, world)];
      const results = await Promise.all(children.map(({ result }) => result));
      for (const result of results) {
        assert.deepEqual(readFileSync(result.path), body);
        assert.ok(result.progress.length > 0);
      }
      assert.equal(world.hub.sentBytes, body.length);
      assert.deepEqual(filesBelow(world.cache), [cached]);
    });
  }
});

test("when the one that downloads is killed, the other goes on where it stopped", async (t) => {
  const world = await useSlowHub(t, 3 << 20);
  const first = startChild(t, world);
  await first.loaded(1);
  const second = startChild(t, world);
  await first.loaded(1 << 20);
  first.kill("SIGKILL");
  await first.closed;
  const { path: found } = await second.result;
  assert.deepEqual(readFileSync(found), body);
  assert.equal(world.hub.requests.length, 2);
  assert.match(world.hub.requests[1].headers.range, /^bytes=\d+-$/);
  assert.ok(world.hub.requests[1].sent <= body.length - (1 << 20));
  assert.deepEqual(filesBelow(world.cache), [cached]);
});

test("after a kill the next run takes over what is left", async (t) => {
  const world = await useSlowHub(t);
  const first = startChild(t, world);
  await first.loaded(1 << 20);
  first.kill("SIGKILL");
  await first.closed;
  assert.ok(filesBelow(world.cache).includes(`${cached}.lock`));
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), body);
  assert.deepEqual(filesBelow(world.cache), [cached]);
});

test("several loads in one process share one download", async (t) => {
  const { hub } = await useSlowHub(t);
  const all = await Promise.all([1, 2, 3].map(() => resolveSource(source)));
  assert.equal(new Set(all.map((found) => found.path)).size, 1);
  assert.equal(hub.sentBytes, body.length);
});

test("when the one that downloads fails, the one that waits tries for itself", async (t) => {
  const { hub } = await useSlowHub(t);
  let isFirst = true;
  hub.handlers.push((_, response) => {
    if (!isFirst) return false;
    isFirst = false;
    setTimeout(() => response.writeHead(403).end(), 300);
    return true;
  });
  const [first, second] = await Promise.allSettled([resolveSource(source), resolveSource(source)]);
  const failed = [first, second].filter(({ status }) => status === "rejected");
  assert.equal(failed.length, 1);
  assert.equal(failed[0].reason.code, "Download");
});

test("a wait is ended by the signal and leaves the other's download alone", async (t) => {
  const { hub, cache } = await useSlowHub(t, 2 << 20);
  const first = resolveSource(source);
  await sleep(200);
  const signal = AbortSignal.timeout(200);
  await assert.rejects(resolveSource(source, { signal }), { code: "Aborted" });
  await first;
  assert.equal(hub.requests.length, 1);
  assert.deepEqual(filesBelow(cache), [cached]);
});

test("a holder that sleeps loses the lock, notices, and harms nothing", {
  skip: process.platform === "win32",
}, async (t) => {
  const world = await useSlowHub(t, 2 << 20);
  const first = startChild(t, world);
  await first.loaded(1 << 19);
  first.kill("SIGSTOP");
  const second = startChild(t, world);
  // The sleeper's process still exists: it loses the lock by silence alone, after fifteen seconds.
  await second.loaded(1 << 20);
  first.kill("SIGCONT");
  const results = await Promise.all([first.result, second.result]);
  for (const result of results) assert.deepEqual(readFileSync(result.path), body);
  assert.deepEqual(filesBelow(world.cache), [cached]);
});

test("a lock is held by one at a time, whatever the interleaving", async (t) => {
  const folder = useSandbox(t);
  const lockPath = join(folder, "x.lock");
  let holders = 0;
  let turns = 0;
  const take = async () => {
    const lock = await FileLock.acquire(lockPath, { isDone: async () => false, onWait: () => {} });
    holders++;
    assert.equal(holders, 1);
    await sleep(5);
    lock.assertHeld();
    turns++;
    holders--;
    await lock.release();
  };
  await Promise.all(Array.from({ length: 6 }, take));
  assert.equal(turns, 6);
  assert.deepEqual(filesBelow(folder), []);
});

test("of many that find a dead holder's lock, one takes it over", async (t) => {
  const folder = useSandbox(t);
  const lockPath = join(folder, "x.lock");
  const gone = spawn(process.execPath, ["-e", ""]);
  await once(gone, "exit");
  writeFileSync(
    lockPath,
    JSON.stringify({ id: "gone", pid: gone.pid, host: hostname(), loaded: 5, total: 9 }),
  );
  const reports = [];
  const onWait = (loaded, total) => reports.push({ loaded, total });
  let holders = 0;
  const take = async () => {
    const lock = await FileLock.acquire(lockPath, { isDone: async () => false, onWait });
    holders++;
    assert.equal(holders, 1);
    await sleep(5);
    lock.assertHeld();
    holders--;
    await lock.release();
  };
  await Promise.all(Array.from({ length: 8 }, take));
  assert.deepEqual(reports[0], { loaded: 5, total: 9 });
  assert.deepEqual(filesBelow(folder), []);
});

test("a lock that changed hands since it was found stale is not replaced", async (t) => {
  const folder = useSandbox(t);
  const lockPath = join(folder, "x.lock");
  const record = (id) => ({ id, pid: process.pid, host: hostname(), loaded: 0, total: 0 });
  writeFileSync(lockPath, JSON.stringify(record("new")));
  assert.equal(await replaceLock(lockPath, record("old"), record("mine")), undefined);
  assert.equal(JSON.parse(readFileSync(lockPath, "utf8")).id, "new");
  const handle = await replaceLock(lockPath, record("new"), record("mine"));
  await handle.close();
  assert.equal(JSON.parse(readFileSync(lockPath, "utf8")).id, "mine");
  assert.deepEqual(filesBelow(folder), ["x.lock"]);
});

test("a full disk is told as such, and the beginning is kept", {
  skip: process.platform === "win32",
}, async (t) => {
  const world = await useSlowHub(t, undefined);
  const env = childEnvironment(world.cache, { HF_ENDPOINT: world.hub.url });
  // A limit on file sizes stands in for a full disk: the same write fails, with EFBIG for ENOSPC.
  const child = spawn("sh", ["-c", `ulimit -f 2048; exec "$0" "$@"`, process.execPath, program, source], {
    env,
  });
  let printed = "";
  for await (const chunk of child.stdout) printed += chunk;
  const { code, message } = JSON.parse(printed);
  assert.equal(code, "Download");
  assert.match(message, /^No space left to write .*model\.gguf.*TOKENMILL_CACHE/);
  assert.deepEqual(filesBelow(world.cache), [`${cached}.partial`, `${cached}.partial.json`]);
});

test("a cache that cannot be written is told as such", async (t) => {
  const { cache } = await useSlowHub(t);
  writeFileSync(join(cache, "hf"), "a file where a folder is needed");
  await assert.rejects(resolveSource(source), {
    code: "Download",
    message: /Cannot write .*TOKENMILL_CACHE/,
  });
});
