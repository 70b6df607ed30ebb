import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { readAdapter, toAdapterName } from "../../../dist/adapters/read-adapter.js";
import { resolveAdapterSource } from "../../../dist/sources/resolve-adapter-source.js";
import { failure } from "../../support/failure.mjs";
import { root } from "../../support/models.mjs";
import { LoopbackServer, sha256 } from "./loopback.mjs";
import { filesBelow, useSandbox } from "./sandbox.mjs";
import { zip } from "./zip.mjs";

const fixtures = join(root, "test/fixtures/adapter/tiny");
const files = ["adapter_config.json", "adapter_model.safetensors"];
const bodyOf = (file) => readFileSync(join(fixtures, "llama-all-f32", file));

/** A hub with an adapter below this path. */
async function useHub(t, path) {
  const hub = await LoopbackServer.start(t);
  for (const file of files) hub.files.set(`${path}/${file}`, { body: bodyOf(file) });
  return { hub, cache: useSandbox(t, { HF_ENDPOINT: hub.url }) };
}

test("a hub's repository gives a folder with both files, without the network the second time", async (t) => {
  const { hub, cache } = await useHub(t, "/owner/repo/resolve/main");
  const seen = [];
  const onProgress = ({ file }) => seen.push(file);
  const { path, name } = await resolveAdapterSource("hf:owner/repo", { onProgress });
  assert.equal(name, "repo");
  assert.deepEqual(new Set(seen), new Set(files));
  assert.deepEqual(
    filesBelow(cache),
    files.map((file) => `hf/owner/repo/main/${file}`),
  );
  const { spec, format, name: called } = await readAdapter(path, name);
  assert.equal(called, "repo");
  assert.deepEqual([format, spec.entries.length], ["peft", 15]);
  process.env.TOKENMILL_OFFLINE = "1";
  assert.equal((await resolveAdapterSource("hf:owner/repo")).path, path);
  assert.equal(hub.requests.length, 2);
});

test("a folder of a repository, at a revision", async (t) => {
  const { cache } = await useHub(t, "/owner/repo/resolve/v1.2/checkpoints/last");
  const { path, name } = await resolveAdapterSource("hf:owner/repo/checkpoints/last/@v1.2");
  assert.equal(name, "last");
  assert.equal(basename(path), "last");
  assert.deepEqual(
    filesBelow(cache),
    files.map((file) => `hf/owner/repo/v1.2/checkpoints/last/${file}`),
  );
});

test("a GGUF file of a repository is that file alone", async (t) => {
  const { hub } = await useHub(t, "/owner/repo/resolve/main");
  const body = readFileSync(join(fixtures, "llama-all-f32.gguf"));
  hub.files.set("/owner/repo/resolve/main/adapter.gguf", { body });
  const { path } = await resolveAdapterSource("hf:owner/repo/adapter.gguf");
  assert.equal((await readAdapter(path)).format, "gguf");
  assert.equal(hub.requests.length, 1);
});

test("a folder of a wheel", async (t) => {
  const index = await LoopbackServer.start(t);
  const cache = useSandbox(t, { PIP_INDEX_URL: `${index.url}/simple` });
  const wheel = "tiny_adapter-1.0-py3-none-any.whl";
  const members = files.map((file) => [`tiny_adapter/data/${file}`, { body: bodyOf(file) }]);
  const body = zip(Object.fromEntries(members));
  index.files.set(`/packages/${wheel}`, { body });
  const file = { filename: wheel, url: `../../packages/${wheel}`, hashes: { sha256: sha256(body) } };
  const listing = JSON.stringify({ meta: { "api-version": "1.1" }, name: "tiny-adapter", files: [file] });
  const type = "application/vnd.pypi.simple.v1+json";
  index.files.set("/simple/tiny-adapter/", { body: Buffer.from(listing), type });
  const { path } = await resolveAdapterSource("pypi:tiny-adapter==1.0/tiny_adapter/data");
  assert.equal((await readAdapter(path)).spec.entries.length, 15);
  assert.equal(filesBelow(cache).length, 2);
});

test("a repository without safetensors says what it takes; one without an adapter is not found", async (t) => {
  const { hub } = await useHub(t, "/owner/repo/resolve/main");
  hub.files.delete("/owner/repo/resolve/main/adapter_model.safetensors");
  const without = await failure(resolveAdapterSource("hf:owner/repo"));
  assert.equal(without.code, "ModelNotFound");
  assert.match(without.message, /adapter_model\.safetensors alone/);
  assert.equal((await failure(resolveAdapterSource("hf:owner/other"))).code, "ModelNotFound");
});

test("an adapter is called by its repository, folder or file, in printable text that is not too long", async (t) => {
  await useHub(t, "/owner/repo/resolve/main");
  const nameOf = async (source) => {
    const { path, folderName } = await resolveAdapterSource(source);
    return (await readAdapter(path, folderName)).name;
  };
  assert.equal(await nameOf("hf:owner/repo"), "repo");
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-adapter-source-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, expected] of [
    ["formal", "formal"],
    ["v1.2", "v1.2"],
    ["\u001b[2Jred\u202e", "\ufffd[2Jred\ufffd"],
    [" ", "adapter"],
  ]) {
    const copy = join(folder, name);
    cpSync(join(fixtures, "llama-all-f32"), copy, { recursive: true });
    assert.equal(await nameOf(copy), expected);
    assert.equal(await nameOf(join(copy, files[1])), expected);
    cpSync(join(fixtures, "llama-all-f32.gguf"), `${copy}.gguf`);
    assert.equal(await nameOf(`${copy}.gguf`), expected);
  }
  assert.equal(toAdapterName(`${"x".repeat(255)}🌾`), "x".repeat(255));
});

test("paths are taken as they are, and what is no source is refused", async (t) => {
  useSandbox(t);
  const folder = join(fixtures, "llama-all-f32");
  assert.equal((await resolveAdapterSource(folder)).path, folder);
  assert.equal((await readAdapter(join(folder, files[1]))).spec.names, "modules");
  assert.equal((await failure(resolveAdapterSource(""))).code, "InvalidArgument");
  assert.equal((await failure(resolveAdapterSource("hf:owner"))).code, "InvalidArgument");
  assert.equal((await failure(resolveAdapterSource("hf:owner/repo/../x"))).code, "InvalidArgument");
  assert.equal((await failure(resolveAdapterSource(join(folder, "absent")))).code, "ModelNotFound");
});
