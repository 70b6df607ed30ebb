// `tokenmill inspect` of adapters, and `tokenmill merge`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { root } from "../support/models.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-cli-adapter-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const adapters = join(root, "test/fixtures/adapter/tiny");
const model = join(root, "test/fixtures/model/tiny/llama-tied.gguf");
const output = join(folder, "merged.gguf");

function run(...parameters) {
  const command = join(root, "dist", "cli", "main.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...parameters], {
    encoding: "utf8",
    input: "",
  });
  return { status, stdout, stderr };
}

test("inspect shows a PEFT adapter's ranks, scales and targets", () => {
  const { status, stdout, stderr } = run("inspect", join(adapters, "llama-patterns-f16"));
  assert.deepEqual([status, stderr], [0, ""]);
  assert.match(stdout, /PEFT adapter "llama-patterns-f16", \S+ KB in F16, \d+ parameters\n/);
  assert.match(stdout, /\nRank 1, 3, 4, 16, alpha 6, scale 1, 1\.5, 2\.887, 3, 3\.464, 6\n/);
  assert.match(stdout, /\nself_attn\.q_proj +2\n/);
  assert.match(stdout, /\nmodel\.layers\.1\.self_attn\.q_proj +F16 +3 +2\.887 +64 × 64\n/);
});

test("inspect shows a GGUF adapter, and JSON for both kinds", () => {
  const { stdout } = run("inspect", join(adapters, "gemma3-all-f16.gguf"));
  assert.match(stdout, /GGUF adapter "gemma3-all-f16" of gemma3, \S+ KB in F16/);
  const read = (name) => JSON.parse(run("inspect", join(adapters, name), "--json").stdout);
  const [peft, gguf] = [read("gemma3-all-f16"), read("gemma3-all-f16.gguf")];
  for (const key of ["ranks", "scales", "types", "bytes", "parameters"])
    assert.deepEqual(peft[key], gguf[key]);
  assert.equal(peft.entries.length, gguf.entries.length);
  assert.deepEqual([peft.format, gguf.format], ["peft", "gguf"]);
});

test("merge writes a model that can be inspected, and refuses to overwrite without --force", () => {
  const adapter = join(adapters, "llama-all-f32");
  const { status, stdout, stderr } = run("merge", model, adapter, output, "--type", "Q8_0");
  assert.deepEqual([status, stderr], [0, ""]);
  assert.match(stdout, /merged\.gguf: \S+ KB from \S+ KB\nTYPE +TENSORS +SIZE\n/);
  const before = readFileSync(output);
  assert.match(run("merge", model, adapter, output).stderr, /exists already/);
  assert.deepEqual(readFileSync(output), before);
  const forced = run("merge", model, adapter, output, "--scale", "0.5", "--force", "--json");
  assert.deepEqual(
    JSON.parse(forced.stdout).types.map(({ type }) => type),
    ["F32"],
  );
  assert.match(run("inspect", output).stdout, /\noutput\.weight +F32 +64 × 320 /);
});

test("what cannot be merged is said in a line, and leaves nothing", () => {
  const foreign = join(adapters, "gemma3-all-f16.gguf");
  const absent = join(folder, "absent.gguf");
  for (const [adapter, message] of [
    [foreign, /^tokenmill: \S+ is an adapter of an architecture 'gemma3'; the model has 'llama'\n$/],
    [
      join(adapters, "mistral-attention-f16"),
      /^tokenmill: tensor '.*' of the adapter is \[\d+, \d+\]; for 'blk\./,
    ],
    [model, /^tokenmill: \S+ is no LoRA adapter: 'general\.type' is ""; expected "adapter"\n$/],
    [folder, /^tokenmill: \S+ has no adapter_config\.json/],
  ]) {
    const { status, stderr } = run("merge", model, adapter, absent);
    assert.equal(status, 1, stderr);
    assert.match(stderr, message);
    assert.ok(!existsSync(absent));
  }
  assert.equal(run("merge", model, foreign, absent, "--type", "Q3").status, 2);
});
