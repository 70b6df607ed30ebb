// Every bad adapter is refused with its code, naming what is wrong, and nothing is written.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { mergeAdapter } from "../../../dist/index.mjs";
import { adapterFolder } from "../../support/adapters.mjs";
import { failure } from "../../support/failure.mjs";
import { tinyModel } from "../../support/models.mjs";
import { badAdapters, goodAdapter } from "./bad-adapters.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-bad-adapters-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const model = tinyModel();
const output = join(folder, "merged.gguf");
const merge = (files) => mergeAdapter(model, adapterFolder(folder, files), output);

test("the table has a row for every kind of damage, each under a name of its own", () => {
  assert.equal(new Set(badAdapters.map(({ name }) => name)).size, badAdapters.length);
  assert.ok(badAdapters.length >= 60);
});

test("the adapter that the bad ones are made from is good", async () => {
  await merge(goodAdapter());
  rmSync(output);
});

for (const { name, files, code, message } of badAdapters) {
  test(`${name}: ${code}`, async () => {
    const error = await failure(merge(files()));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.message, /^[\P{Cc}]*$/u, "the message is one line of printable text");
    assert.ok(!existsSync(output), "nothing is written");
  });
}
