// Thousands of registered adapters take some kilobytes each beside what memory.adapters bounds.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

const script = fileURLToPath(new URL("adapter-names.mjs", import.meta.url));

test("a registered adapter takes a few kilobytes", async () => {
  const modelPath = tinyModel({ context: 128, layers: 24 });
  const folders = Array.from({ length: 4 }, (_, i) => randomAdapter(modelPath, { rank: 1, seed: 1 + i }));
  const order = JSON.stringify({ modelPath, folders, first: 300, more: 1200 });
  const flags = ["--expose-gc", "--max-semi-space-size=1"];
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, script, order]);
  const { rss, heap, registered, names } = JSON.parse(stdout);
  assert.deepEqual([registered, names], [4, 1500]);
  console.log(
    `# a name takes ${rss.toFixed(1)} KB of resident memory, ${heap.toFixed(1)} KB of JavaScript's heap`,
  );
  assert.ok(rss < 10, `${rss} KB of resident memory`);
  assert.ok(heap < 4, `${heap} KB of JavaScript's heap`);
});
