import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { LoopbackServer, pseudoRandomBytes } from "../unit/sources/loopback.mjs";
import { childEnvironment } from "../unit/sources/sandbox.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const command = join(root, "dist", "cli", "main.js");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

function useCache(t) {
  const cache = mkdtempSync(join(tmpdir(), "tokenmill-cli-"));
  t.after(() => rmSync(cache, { recursive: true, force: true }));
  return cache;
}

/** Runs the command to its end; a loopback server of the test can answer meanwhile. */
async function run(parameters, { cache = tmpdir(), input = "", ...settings } = {}) {
  const env = childEnvironment(cache, settings);
  const child = spawn(process.execPath, [command, ...parameters], { env });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const collected = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) {
    child[name].on("data", (chunk) => {
      collected[name] += chunk;
    });
  }
  const [exitCode, signal] = await once(child, "close");
  return { exitCode, signal, ...collected };
}

test("a wrong command line exits with 2 and says what is wrong", async () => {
  const cases = [
    [["runn"], /^tokenmill: unknown command 'runn'\n\(Did you mean run\?\)/],
    [["run"], /^tokenmill: missing required argument 'model'/],
    [["run", "m", "p", "q"], /^tokenmill: too many arguments/],
    [["run", "m", "p", "--colour"], /^tokenmill: unknown option '--colour'/],
    [["run", "m", "p", "--max-tokens", "0"], /whole number: at least 1/],
    [["run", "m", "p", "--max-tokens", "1e3"], /whole number: at least 1/],
    [["run", "m", "p", "--top-p", "1.5"], /Expected a number: 0 to 1/],
    [["run", "m", "p", "--temperature", "-1"], /Expected a number: at least 0/],
    [["run", "m", "p", "--temperature", "Infinity"], /Expected a number: at least 0/],
    [["run", "m", "p", "--raw", "--system", "s"], /^tokenmill: --raw and --system exclude each other\n$/],
    [["run", "m", "p", "--temperature", "101"], /^tokenmill: temperature is 101; .* from 0 to 100\n$/],
    [["run", "m", "p", "--max-tokens", "3000000000"], /^tokenmill: maxTokens is 3000000000/],
    [["run", "m", "p", "--top-k", "3000000000"], /^tokenmill: topK is 3000000000/],
    [["run", "m", "p", "--context-length", "3000000000"], /^tokenmill: contextLength is 3000000000/],
    [["run", "m", "p", "--stop", ""], /^tokenmill: stop is ""; expected a string that is not empty\n$/],
    [["bench", "m", "--tokens", "1"], /whole number: at least 2/],
  ];
  for (const [parameters, expected] of cases) {
    const { exitCode, stderr, stdout } = await run(parameters);
    assert.equal(exitCode, 2, parameters.join(" "));
    assert.match(stderr, expected);
    assert.equal(stdout, "");
  }
});

test("an empty prompt on stdin is a usage error", async () => {
  const { exitCode, stderr } = await run(["run", "./no-model.gguf"], { input: "\n" });
  assert.equal(exitCode, 2);
  assert.equal(stderr, "tokenmill: The prompt is empty\n");
});

test("help and version exit with 0, and a bare command with its help", async () => {
  const help = await run(["--help"]);
  assert.equal(help.exitCode, 0);
  for (const name of ["run", "pull", "list", "inspect", "bench"])
    assert.match(help.stdout, new RegExp(`^  ${name} `, "m"));
  assert.deepEqual(await run(["--version"]), {
    exitCode: 0,
    signal: null,
    stdout: `${version}\n`,
    stderr: "",
  });
  const bare = await run([]);
  assert.equal(bare.exitCode, 2);
  assert.match(bare.stderr, /^Usage: tokenmill/);
});

test("help loads nothing that a command needs", () => {
  const program = `
    process.argv.push("tokenmill", "--help");
    process.on("exit", () => {
      const expected = /node_modules.commander|dist.(cli|errors|printable)/;
      const loaded = Object.keys(require.cache).filter((path) => !expected.test(path));
      process.stderr.write(loaded.join());
    });
    require(${JSON.stringify(command)});`;
  const { stderr } = spawnSync(process.execPath, ["-e", program], { encoding: "utf8" });
  assert.equal(stderr, "");
});

test("an unknown model exits with 1, one line and no stack", async (t) => {
  const cache = useCache(t);
  for (const name of ["run", "pull", "bench", "inspect"]) {
    const parameters = name === "run" ? [name, "gema-3-270m", "hello"] : [name, "gema-3-270m"];
    const { exitCode, stdout, stderr } = await run(parameters, { cache });
    assert.equal(exitCode, 1, name);
    assert.match(stderr, /^tokenmill: "gema-3-270m" is neither.*Did you mean "gemma-3-270m"\?.*\n$/);
    assert.equal(stdout, "");
  }
});

test("TOKENMILL_DEBUG=1 shows the stack and the causes", async (t) => {
  const settings = { cache: useCache(t), TOKENMILL_DEBUG: "1" };
  const { exitCode, stderr } = await run(["pull", "./nothing.gguf"], settings);
  assert.equal(exitCode, 1);
  assert.match(stderr, /\n {4}at .*resolve-source\.js/);
  assert.match(stderr, /\[cause\]: .*ENOENT/s);
});

test("pull downloads, list names what is there, both also as JSON", async (t) => {
  const cache = useCache(t);
  const hub = await LoopbackServer.start(t);
  const body = pseudoRandomBytes(1 << 20);
  hub.files.set("/owner/repo/resolve/v1/a/model.gguf", { body });
  const settings = { cache, HF_ENDPOINT: hub.url };
  const source = "hf:owner/repo/a/model.gguf@v1";

  const first = await run(["pull", source], settings);
  assert.equal(first.exitCode, 0);
  const path = first.stdout.trimEnd();
  assert.deepEqual(readFileSync(path), body);
  assert.equal(first.stderr, "Downloading model.gguf (1.0 MB)\nDownloaded model.gguf (1.0 MB)\n");

  const again = await run(["pull", source, "--json"], { ...settings, TOKENMILL_OFFLINE: "1" });
  assert.deepEqual(JSON.parse(again.stdout), { path, name: "model.gguf", bytes: body.length });
  assert.equal(again.stderr, "");
  assert.equal(hub.requests.length, 1);

  const modified = statSync(path).mtime.toISOString();
  const json = await run(["list", "--json"], { cache });
  assert.deepEqual(JSON.parse(json.stdout), [{ path, bytes: body.length, modified, source }]);
  const text = await run(["list"], { cache });
  assert.equal(text.stdout.split("\n")[1], `${source}  1.0 MB  ${modified.slice(0, 10)}`);
});

test("what list names can be pulled under that name", async (t) => {
  const cache = useCache(t);
  const files = [
    "hf/o/r/main/x.gguf",
    "hf/o/r/refs%2Fpr%2F1/d/y%20z.gguf",
    "pypi/p/newest/m/x.bin",
    "pypi/p/1.0/x.bin",
  ];
  const unfinished = [
    "hf/o/r/main/u.gguf.partial",
    "hf/o/r/main/u.gguf.partial.json",
    "hf/o/r/main/u.gguf.lock",
  ];
  for (const name of [...files, ...unfinished]) {
    mkdirSync(join(cache, dirname(name)), { recursive: true });
    writeFileSync(join(cache, name), "bytes");
  }
  const listed = JSON.parse((await run(["list", "--json"], { cache })).stdout);
  const expected = ["hf:o/r/x.gguf", "hf:o/r/d/y z.gguf@refs/pr/1", "pypi:p==1.0/x.bin", "pypi:p/m/x.bin"];
  assert.deepEqual(listed.map(({ source }) => source).sort(), expected.sort());
  for (const { source, path } of listed) {
    const { stdout } = await run(["pull", source], { cache, TOKENMILL_OFFLINE: "1" });
    assert.equal(stdout, `${path}\n`);
  }
});

test("an empty cache is told as such", async (t) => {
  const cache = useCache(t);
  assert.equal((await run(["list"], { cache })).stdout, `No models in ${cache}\n`);
  assert.equal((await run(["list", "--json"], { cache })).stdout, "[]\n");
});

test("Ctrl-C ends a download, which goes on the next time", {
  skip: process.platform === "win32",
}, async (t) => {
  const cache = useCache(t);
  const hub = await LoopbackServer.start(t);
  const body = pseudoRandomBytes(2 << 20);
  const file = { body, etag: '"v1"', bytesPerSecond: 1 << 20 };
  hub.files.set("/o/r/resolve/main/m.gguf", file);
  const env = childEnvironment(cache, { HF_ENDPOINT: hub.url });
  const child = spawn(process.execPath, [command, "pull", "hf:o/r/m.gguf"], { env });
  await once(child.stderr, "data");
  while (hub.sentBytes < body.length / 4) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill("SIGINT");
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const [exitCode] = await once(child, "close");
  assert.equal(exitCode, 130);
  assert.match(stderr, /^tokenmill: .*aborted\n$/);
  file.bytesPerSecond = undefined;
  const { exitCode: secondExitCode } = await run(["pull", "hf:o/r/m.gguf"], { cache, HF_ENDPOINT: hub.url });
  assert.equal(secondExitCode, 0);
  assert.match(hub.requests[1].headers.range, /^bytes=\d+-$/);
});

test("a reader that leaves early is no error", { skip: process.platform === "win32" }, async (t) => {
  const cache = useCache(t);
  mkdirSync(join(cache, "hf/o/r/main"), { recursive: true });
  for (let index = 0; index < 3000; index++) writeFileSync(join(cache, `hf/o/r/main/${index}.gguf`), "");
  const env = childEnvironment(cache);
  const script = `{ "$0" "$1" list; echo "exit $?" >&2; } | head -n 1`;
  const { stdout, stderr } = spawnSync("sh", ["-c", script, process.execPath, command], {
    env,
    encoding: "utf8",
  });
  assert.match(stdout, /^MODEL/);
  assert.equal(stderr, "exit 0\n");
});
