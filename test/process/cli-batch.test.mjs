// `tokenmill batch`: what it writes, what it goes on with, what it refuses.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { root, tinyModel, until } from "../support/models.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-cli-batch-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const source = tinyModel();
const command = join(root, "dist", "cli", "main.js");
const [input, output] = ["in.jsonl", "out.jsonl"].map((name) => join(folder, name));

const items = [
  "a plain prompt",
  { id: "chat", messages: [{ role: "user", content: "Hello" }] },
  { id: "long", prompt: "x".repeat(100_000) },
  ...Array.from({ length: 20 }, (_, i) => ({ prompt: `prompt ${i}`, options: { maxTokens: 1 + (i % 7) } })),
];
writeFileSync(input, `${items.map((item) => JSON.stringify(item)).join("\n\n")}\n`);

function run(parameters, stdin = "") {
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, "batch", ...parameters], {
    encoding: "utf8",
    input: stdin,
  });
  return { status, stdout, stderr };
}

const rows = (path) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

/** The rows that the library's own results make. */
async function expectedRows() {
  const model = await loadModel(source);
  const expected = [];
  for await (const { id, index, completion, error } of model.generateMany(items, { maxTokens: 9 })) {
    const row = error ? { error: { code: error.code, message: error.message } } : { text: completion.text };
    expected.push({ id, index, ...row });
  }
  await model.dispose();
  return expected;
}

const essential = ({ id, index, text, error }) => ({ id, index, ...(error ? { error } : { text }) });

test("each line gives a line with what the library gives, in order; failed items make the exit code 1", async () => {
  const { status, stdout, stderr } = run([source, input, output, "--max-tokens", "9", "--json"]);
  assert.equal(status, 1);
  assert.match(stderr, /^tokenmill: 1 of 23 items failed; .*--resume tries them again\n$/);
  const { completed, failed, skipped } = JSON.parse(stdout);
  assert.deepEqual([completed, failed, skipped], [22, 1, 0]);
  assert.deepEqual(rows(output).map(essential), await expectedRows());
  const [{ finishReason, usage, seed }] = rows(output);
  assert.ok(["stop", "length"].includes(finishReason));
  assert.ok(usage.promptTokens > 0 && Number.isInteger(seed));
});

test("an output that is there is kept, unless --resume or --force say otherwise", () => {
  const before = readFileSync(output, "utf8");
  const refused = run([source, input, output]);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /exists already; --resume goes on with it, --force replaces it/);
  assert.equal(readFileSync(output, "utf8"), before);
  assert.equal(run([source, input, output, "--resume", "--force"]).status, 2);
});

test("--resume generates what is missing, failed or was written in part, and nothing else", async () => {
  const whole = rows(output);
  const lines = readFileSync(output, "utf8").split("\n");
  // Twelve lines whole, one of them failed, and one cut through.
  const kept = `${lines.slice(0, 12).join("\n")}\n`;
  truncateSync(output, Buffer.byteLength(kept));
  appendFileSync(output, lines[12].slice(0, 9));
  const { status, stdout } = run([source, input, output, "--max-tokens", "9", "--resume", "--json"]);
  assert.equal(status, 1);
  const { completed, failed, skipped } = JSON.parse(stdout);
  assert.deepEqual([completed, failed, skipped], [11, 1, 11]);
  assert.ok(readFileSync(output, "utf8").startsWith(kept));
  const last = new Map(rows(output).map((row) => [row.id, essential(row)]));
  assert.deepEqual(
    [...last.values()].sort((a, b) => a.index - b.index),
    whole.map(essential),
  );
  assert.equal(rows(output).length, 24, "the failed one has two lines");
});

test("items come from stdin too; --force replaces", () => {
  const { status, stderr } = run([source, "-", output, "--force", "--max-tokens", "2"], '"one"\n"two"\n');
  assert.deepEqual([status, stderr], [0, ""]);
  assert.deepEqual(
    rows(output).map(({ id }) => id),
    ["0", "1"],
  );
});

test("what is not JSON is named by its line, after what was before it", () => {
  const { status, stderr } = run(
    [source, "-", output, "--force", "--max-tokens", "2"],
    '"one"\n\n{"prompt": \n',
  );
  assert.equal(status, 2);
  assert.match(stderr, /^tokenmill: -:3 is not JSON: /);
  assert.equal(rows(output).length, 1);
  writeFileSync(output, '{"no": "output"}\n');
  const foreign = run([source, input, output, "--resume"]);
  assert.equal(foreign.status, 2);
  assert.match(foreign.stderr, /out\.jsonl:1 is not a line of a batch's output/);
});

test("wrong command lines are refused before anything is loaded", () => {
  for (const [parameters, expected] of [
    [["none", join(folder, "absent"), output, "--force"], /^tokenmill: There is no file '.*absent'/],
    [["none", input, input, "--force"], /^tokenmill: The output is the input itself/],
    [["none", input, join(folder, "new"), "--concurrency", "0"], /whole number: 1 to 4096/],
    [["none", input, join(folder, "new"), "--temperature", "101"], /temperature is 101/],
    [["none", input, join(folder, "new"), "--order", "random"], /input, completion/],
  ]) {
    const { status, stderr } = run(parameters);
    assert.equal(status, 2, stderr);
    assert.match(stderr, expected);
  }
  assert.ok(!existsSync(join(folder, "new")));
});

test("Ctrl-C ends it also while stdin is open", async () => {
  rmSync(output);
  const child = spawn(process.execPath, [command, "batch", source, "-", output, "--max-tokens", "2"]);
  const closed = once(child, "close");
  child.stdin.write('"one"\n');
  await until(() => existsSync(output) && readFileSync(output).length > 0, "the first line");
  child.kill("SIGINT");
  assert.deepEqual(await closed, [130, null]);
  assert.equal(rows(output).length, 1);
});

test("Ctrl-C keeps what is done and ends with 130; --resume does the rest", async () => {
  const many = join(folder, "many.jsonl");
  const prompts = Array.from({ length: 3000 }, (_, i) => JSON.stringify(`prompt ${i}`));
  writeFileSync(many, prompts.join("\n"));
  rmSync(output);
  const child = spawn(process.execPath, [command, "batch", source, many, output, "--max-tokens", "40"], {
    stdio: "ignore",
  });
  const closed = once(child, "close");
  await until(() => existsSync(output) && readFileSync(output).length > 2000, "the first lines");
  child.kill("SIGINT");
  assert.deepEqual(await closed, [130, null]);
  const done = rows(output).length;
  assert.ok(done > 0 && done < 3000, `${done} were done`);
  const { stdout } = run([source, many, output, "--resume", "--max-tokens", "1", "--json"]);
  assert.deepEqual(JSON.parse(stdout).skipped, done);
  const ids = rows(output).map(({ id }) => Number(id));
  assert.deepEqual(
    ids.sort((a, b) => a - b),
    prompts.map((_, i) => i),
  );
});
