import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { badFiles } from "./bad-files.mjs";
import { smallestValid } from "./bad-headers.mjs";
import { validModels } from "./bad-models.mjs";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const check = join(
  process.env.TOKENMILL_NATIVE_TESTS ?? join(root, "build-tests/native-tests"),
  "gguf_check",
);
let folder;

before(() => {
  assert.ok(existsSync(check), `${check} is absent: build the native tests, or set TOKENMILL_NATIVE_TESTS`);
  folder = mkdtempSync(join(tmpdir(), "tokenmill-gguf-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** What the GGUF reader makes of each file: { path, code, message }. */
function outcomes(files) {
  const paths = Array.from(files.keys(), (i) => join(folder, `${i}.gguf`));
  for (const [i, bytes] of files.entries()) writeFileSync(paths[i], bytes);
  const lines = execFileSync(check, paths, { encoding: "utf8" }).split("\n").slice(0, -1);
  assert.equal(lines.length, files.length, "one line for each file");
  return lines.map((line, i) => {
    const [, code, message] = /^(\w+) (.*)$/.exec(line);
    return { path: paths[i], code, message };
  });
}

test("the table has a row for every kind of damage, each under a name of its own", () => {
  assert.equal(new Set(badFiles.map((row) => row.name)).size, badFiles.length);
  assert.ok(badFiles.filter((row) => row.stage === "header").length >= 60);
  assert.ok(badFiles.filter((row) => row.stage === "model").length >= 20);
});

test("the files that the bad ones are made from are valid", () => {
  for (const { code, message } of outcomes([smallestValid, ...validModels].map((bytes) => bytes()))) {
    assert.equal(`${code} ${message}`, "Ok ");
  }
});

test("every bad header is refused with its code and reason", () => {
  const rows = badFiles.filter((row) => row.stage === "header");
  for (const [i, { path, code, message }] of outcomes(rows.map((row) => row.bytes())).entries()) {
    assert.equal(code, rows[i].code, `${rows[i].name}: ${message}`);
    assert.match(message, rows[i].message, rows[i].name);
    assert.ok(
      message.startsWith(`${path}: `),
      `${rows[i].name}: the message names the file first: ${message}`,
    );
    assert.match(message, /^[\P{Cc}]*$/u, `${rows[i].name}: the message is one line of printable text`);
  }
});

test("a bad model's header is sound: only its loader can refuse it", () => {
  const rows = badFiles.filter((row) => row.stage === "model");
  for (const [i, { code, message }] of outcomes(rows.map((row) => row.bytes())).entries()) {
    assert.equal(code, "Ok", `${rows[i].name}: ${message}`);
  }
});

test("the same options give the same model, other seeds another", () => {
  const [tinyLlama] = validModels;
  assert.ok(tinyLlama().equals(tinyLlama()));
  assert.ok(!tinyLlama().equals(tinyLlama({ seed: 1 })));
});
