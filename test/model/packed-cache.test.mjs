// Packed weights between loads: written once, mapped afterwards, never trusted blindly, bounded.
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { modelTest, smollm2, temporaryFile, tinyModel } from "../support/models.mjs";

const { trimPackedCache } = createRequire(import.meta.url)("../../dist/packed-cache.js");

const cache = mkdtempSync(join(tmpdir(), "tokenmill-packed-"));
const folder = join(cache, "packed");
const path = tinyModel({ layers: 4, dim: 256, feedForward: 512, heads: 4 });
process.env.TOKENMILL_CACHE = cache;
delete process.env.TOKENMILL_PACKED_CACHE;

after(() => rmSync(cache, { recursive: true, force: true }));
beforeEach(() => rmSync(folder, { recursive: true, force: true }));

const files = () => (existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []);

/** Loads, generates, and tells what the log says of the packed weights. */
async function use(source, options = {}) {
  let outcome;
  const onLog = ({ message }) => {
    outcome = /^packed weights: (.*)/s.exec(message)?.[1] ?? outcome;
  };
  const progress = [];
  const onProgress = ({ loaded, total }) => progress.push([loaded, total]);
  const model = await loadModel(source, { ...options, onLog, onProgress });
  const { tokens, logprobs } = await model.generate("The mill", {
    maxTokens: 12,
    ignoreEos: true,
    logprobs: 2,
  });
  await model.dispose();
  return { outcome, reply: { tokens, logprobs }, progress };
}

async function expectSameAsPacking(source, kept) {
  const packed = await use(source, { packedCache: false });
  assert.equal(packed.outcome, "not kept");
  assert.deepEqual(kept.reply, packed.reply);
}

test("the first load keeps the packed weights, the second maps them, and both compute the same", async () => {
  const first = await use(path);
  assert.equal(first.outcome, "kept in the cache folder");
  assert.equal(files().length, 1);
  const second = await use(path);
  assert.equal(second.outcome, "mapped from the cache folder");
  assert.deepEqual(second.reply, first.reply);
  await expectSameAsPacking(path, second);
  const [loaded, total] = second.progress.at(-1);
  assert.ok(total > 0 && loaded === total, "a load that maps reports its progress to the end");
});

modelTest("a real model computes the same from mapped weights", smollm2, async (source) => {
  await use(source);
  const mapped = await use(source);
  assert.equal(mapped.outcome, "mapped from the cache folder");
  await expectSameAsPacking(source, mapped);
});

test("loads with other options share the file; another precision too", async () => {
  await use(path);
  for (const options of [{ threads: 1 }, { contextLength: 64 }, { precision: "high" }]) {
    assert.equal((await use(path, options)).outcome, "mapped from the cache folder");
  }
  assert.equal(files().length, 1);
});

test("nothing is kept when the option or the environment says so", async () => {
  assert.equal((await use(path, { packedCache: false })).outcome, "not kept");
  process.env.TOKENMILL_PACKED_CACHE = "0";
  try {
    assert.equal((await use(path)).outcome, "not kept");
    assert.deepEqual(files(), []);
    assert.equal((await use(path, { packedCache: true })).outcome, "kept in the cache folder");
  } finally {
    delete process.env.TOKENMILL_PACKED_CACHE;
  }
  await assert.rejects(loadModel(path, { packedCache: "yes" }), { code: "InvalidArgument" });
});

test("a model file that was written again is packed again", async () => {
  const bytes = readFileSync(path);
  const copy = temporaryFile(bytes);
  await use(copy);
  // Other weights of the same shapes: the last tensor's bytes are those of the end.
  bytes.subarray(-4096).fill(0);
  writeFileSync(copy, bytes);
  utimesSync(copy, new Date(), new Date(Date.now() + 5000));
  const changed = await use(copy);
  assert.equal(changed.outcome, "kept in the cache folder");
  assert.equal(files().length, 2);
  await expectSameAsPacking(copy, changed);
});

// The middle lies in the weights, the first bytes in the header and the checksums.
for (const [what, place] of [
  ["a weight", (size) => size - 5000],
  ["a checksum", () => 64],
  ["the header", () => 20],
]) {
  test(`a file with one flipped bit in ${what} is packed again`, async () => {
    await use(path);
    const [kept] = files();
    const bytes = readFileSync(kept);
    bytes[place(bytes.length)] ^= 4;
    writeFileSync(kept, bytes);
    const again = await use(path);
    assert.equal(again.outcome, "kept in the cache folder");
    await expectSameAsPacking(path, again);
    assert.equal((await use(path)).outcome, "mapped from the cache folder");
  });
}

test("a file that was cut short, or is empty, is packed again", async () => {
  for (const bytes of [10_000, 0]) {
    await use(path);
    truncateSync(files()[0], bytes);
    const again = await use(path);
    assert.notEqual(again.outcome, "mapped from the cache folder");
    await expectSameAsPacking(path, again);
    assert.equal((await use(path)).outcome, "mapped from the cache folder");
  }
});

test("a folder that cannot be written to leaves the load as it is, and the log says why", async () => {
  writeFileSync(folder, "a file where the folder should be");
  const { outcome, reply } = await use(path);
  assert.match(outcome, /failed|packed/);
  assert.equal(reply.tokens.length, 12);
  rmSync(folder);
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  assert.equal((await use(path)).reply.tokens.length, 12);
  chmodSync(folder, 0o700);
});

test("loads at the same time in several models leave one whole file", async () => {
  const copies = await Promise.all(
    [1, 2].map((threads) => use(path, { threads, contextLength: 100 + threads })),
  );
  assert.deepEqual(copies[0].reply, copies[1].reply);
  assert.equal(files().length, 1);
  assert.equal((await use(path)).outcome, "mapped from the cache folder");
});

test("what was used longest ago is removed when the files outgrow their bound", async () => {
  const models = [1, 2, 3].map((layers) => tinyModel({ layers, dim: 256, feedForward: 512, heads: 4 }));
  const kept = [];
  for (const [i, source] of models.entries()) {
    await use(source);
    const made = files().find((file) => !kept.includes(file));
    utimesSync(made, new Date(), new Date(Date.now() - 60_000 * (3 - i)));
    kept.push(made);
  }
  await use(models[0]); // now the one used last
  await trimPackedCache(statSync(kept[0]).size + statSync(kept[2]).size);
  assert.deepEqual(files().sort(), [kept[0], kept[2]].sort());
  writeFileSync(`${kept[0]}.abc123`, "");
  utimesSync(`${kept[0]}.abc123`, new Date(), new Date(Date.now() - 48 * 3_600_000));
  await trimPackedCache();
  assert.deepEqual(files().sort(), [kept[0], kept[2]].sort());
});
