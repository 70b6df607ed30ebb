import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const imported = await import("../../dist/index.mjs");
const required = createRequire(import.meta.url)("../../dist/index.js");

test("import and require give the same names and the same copy", () => {
  assert.ok("loadModel" in required && "TokenmillError" in required);
  assert.deepEqual({ ...imported }, { ...required });
  for (const [name, value] of Object.entries(required)) assert.ok(Object.is(imported[name], value), name);
});
