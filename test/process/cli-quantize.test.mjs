// `tokenmill quantize`, and `--quantize` of the commands that load.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { root, tinyModel, until } from "../support/models.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-cli-quantize-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const source = tinyModel({ dim: 256, feedForward: 512, heads: 8 });
const output = join(folder, "out.gguf");

function run(...parameters) {
  const command = join(root, "dist", "cli", "main.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...parameters], {
    encoding: "utf8",
    input: "",
  });
  return { status, stdout, stderr };
}

test("quantize writes the file and prints what is in it", () => {
  const { status, stdout, stderr } = run("quantize", source, output, "--type", "Q4_K_M");
  assert.deepEqual([status, stderr], [0, ""]);
  assert.match(stdout, /out\.gguf: \S+ [KM]B from \S+ MB\nTYPE +TENSORS +SIZE\nF32 .*\nQ4_K .*\nQ6_K /);
  assert.deepEqual(readdirSync(folder), ["out.gguf"]);
});

test("it refuses to overwrite without --force", () => {
  const before = statSync(output);
  const refused = run("quantize", source, output, "--type", "Q8_0");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^tokenmill: .*out\.gguf" exists already/);
  assert.equal(statSync(output).mtimeMs, before.mtimeMs);
  const { status, stdout } = run("quantize", source, output, "--type", "Q8_0", "--force", "--json");
  assert.equal(status, 0);
  const result = JSON.parse(stdout);
  assert.equal(result.path, output);
  assert.equal(result.outputBytes, readFileSync(output).length);
  assert.deepEqual(
    result.types.map(({ type }) => type),
    ["F32", "Q8_0"],
  );
});

test("it refuses the input as output, quantized inputs and unknown types", () => {
  assert.match(run("quantize", source, source, "--type", "Q8_0", "--force").stderr, /is the input itself/);
  const again = join(folder, "again.gguf");
  const refused = run("quantize", output, again, "--type", "Q4_0");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /is quantized already/);
  assert.equal(run("quantize", output, again, "--type", "Q4_0", "--allow-requantize").status, 0);
  const unknown = run("quantize", source, again, "--type", "Q3");
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /^tokenmill: --type is 'Q3'; known are F32, F16/);
  const without = run("quantize", source, again);
  assert.equal(without.status, 2);
  assert.match(without.stderr, /required option '--type <type>'/);
});

test("run and bench quantize while they load", () => {
  const { status, stderr } = run("run", source, "Hi", "--quantize", "int8", "--max-tokens", "2", "--json");
  assert.deepEqual([status, stderr], [0, ""]);
  const measure = ["--prompt-tokens", "8", "--tokens", "2", "--rounds", "1", "--json"];
  const { stdout } = run("bench", source, "--quantize", "int4", ...measure);
  assert.equal(JSON.parse(stdout).model.quantization, "Q4_K");
  const refused = run("run", output, "Hi", "--quantize", "int4");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /Load it without `quantize`/);
  assert.equal(run("run", source, "Hi", "--quantize", "int2").status, 2);
});

test("Ctrl-C ends it with 130 and leaves nothing", async () => {
  const large = tinyModel({ layers: 8, dim: 1024, feedForward: 4096, heads: 8 });
  const empty = join(folder, "empty");
  mkdirSync(empty);
  const command = [join(root, "dist", "cli", "main.js"), "quantize", large, join(empty, "out.gguf")];
  const child = spawn(process.execPath, [...command, "--type", "Q4_K_M", "--threads", "1"], {
    stdio: "ignore",
  });
  const closed = once(child, "close");
  await until(() => readdirSync(empty).some((name) => name.endsWith(".tmp")), "the temporary file");
  child.kill("SIGINT");
  const [exitCode] = await closed;
  assert.equal(exitCode, 130);
  assert.deepEqual(readdirSync(empty), []);
});
