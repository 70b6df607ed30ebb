// Adapters on the command line: `tokenmill inspect`, `merge`, and `--adapter` of `run` and `batch`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { root } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

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

test("what files say of themselves does not reach the terminal as control characters", () => {
  const copy = join(folder, "red\u001b[31m");
  cpSync(join(adapters, "llama-all-f32"), copy, { recursive: true });
  const path = join(copy, "adapter_config.json");
  const config = JSON.parse(readFileSync(path, "utf8"));
  writeFileSync(path, JSON.stringify({ ...config, base_model_name_or_path: "\u001b]0;title\u0007\u009b2J" }));
  const { status, stdout } = run("inspect", copy);
  assert.equal(status, 0);
  assert.match(stdout, /PEFT adapter "red\ufffd\[31m" of \ufffd\]0;title\ufffd\ufffd2J, /);
  assert.match(stdout, /^[\P{Cc}\n]*$/u);
  writeFileSync(path, JSON.stringify({ ...config, bias: "\u001b[2J\u009b2J" }));
  assert.match(run("inspect", copy).stderr, /^[\P{Cc}]*\n$/u);
});

/** Two strong adapters that are both called "voice", in folders of their own. */
const voices = [1, 2].map((seed) => {
  const voice = join(folder, `${seed}`, "voice");
  cpSync(randomAdapter(model, { seed }), voice, { recursive: true });
  return voice;
});
const short = ["--max-tokens", "6"];

/** What the library says to a prompt with each choice of these adapters. */
async function textsOf(choices, options) {
  const loaded = await loadModel(model, options);
  for (const [i, voice] of voices.entries()) await loaded.loadAdapter(voice, { name: `${i}` });
  const texts = [];
  for (const adapter of choices)
    texts.push((await loaded.generate("The mill", { maxTokens: 6, adapter })).text);
  await loaded.dispose();
  assert.equal(new Set(texts).size, choices.length, "each choice says something else");
  return texts;
}

test("run answers with the adapters that it is given, and with their scale", async () => {
  const both = [{ adapter: "0" }, { adapter: "1" }];
  const negative = both.map((one) => ({ ...one, scale: -1 }));
  const texts = await textsOf([[], "0", both, negative], { precision: "high" });
  const two = voices.flatMap((voice) => ["--adapter", voice]);
  for (const [i, parameters] of [[], two.slice(0, 2), two, [...two, "--adapter-scale", "-1"]].entries()) {
    const answer = run("run", model, "The mill", "--raw", ...short, ...parameters);
    assert.deepEqual(answer, { status: 0, stdout: `${texts[i]}\n`, stderr: "" });
  }
});

test("a line of a batch chooses among its adapters by name; a second of one name is numbered", async () => {
  const texts = await textsOf([[{ adapter: "0" }, { adapter: "1" }], "0", "1", []]);
  const choices = [undefined, "voice", "voice-2", [], "voice-3"];
  const input = join(folder, "in.jsonl");
  const lines = choices.map((adapter) => JSON.stringify({ prompt: "The mill", options: { adapter } }));
  writeFileSync(input, lines.join("\n"));
  const out = join(folder, "out.jsonl");
  const two = voices.flatMap((voice) => ["--adapter", voice]);
  const { status } = run("batch", model, input, out, ...short, ...two);
  assert.equal(status, 1, "one line failed");
  const rows = readFileSync(out, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    rows.map(({ text }) => text),
    [...texts, undefined],
  );
  assert.match(rows[4].error.message, /'voice-3', which is not loaded; loaded are 'voice', 'voice-2'/);
});

test("a scale without an adapter is a usage error", () => {
  const input = join(folder, "empty.jsonl");
  writeFileSync(input, "");
  for (const parameters of [
    ["run", model, "x"],
    ["batch", model, input, join(folder, "none.jsonl")],
  ]) {
    const { status, stderr } = run(...parameters, "--adapter-scale", "2");
    assert.equal(status, 2);
    assert.match(stderr, /--adapter-scale needs an --adapter/);
  }
});
