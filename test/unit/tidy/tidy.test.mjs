// The rules of the house that no compiler or linter checks.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { cppCode, filesOf, linesMatching, readSource, root, typescriptCode } from "./sources.mjs";

const require = createRequire(import.meta.url);

const native = filesOf(["native"], /\.(cc|cu|h)$/);
/** Without the emulator of GPUs and the translator on top of it, which only tests run. */
const used = native.filter(({ path }) => !/^native\/kernels\/cuda\/(emu|ptxcheck)\//.test(path));
const library = filesOf(["lib"], /\.ts$/);
const scripts = filesOf(["scripts"], /\.mjs$/);
const tests = filesOf(["test", "bench"], /\.(cc|h|mjs|cjs|mts|cts|py)$/);
const documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/cuda.md"].filter((path) =>
  existsSync(join(root, path)),
);
const shipped = [...native, ...library, ...["CMakeLists.txt", "package.json"].map(readSource)];

/** What each native module may include besides itself. */
const dependencies = {
  core: [],
  io: ["core"],
  quant: ["core"],
  quantize: ["quant", "io", "core"],
  ops: ["quant", "core"],
  tokenizer: ["io", "core"],
  kv: ["ops", "core"],
  model: ["quantize", "ops", "tokenizer", "io", "core"],
  "kernels/reference": ["ops", "quant", "core"],
  "kernels/cpu": ["ops", "quant", "core"],
  "kernels/cuda": ["kernels/reference", "ops", "quant", "core"],
  adapter: ["model", "quantize", "quant", "ops", "io", "core"],
  engine: ["adapter", "model", "kv", "ops", "tokenizer", "io", "core"],
  binding: ["engine", "adapter", "quantize", "tokenizer", "io", "core"],
};

/** The module of a file or of an included path, relative to native/. */
function moduleOf(path) {
  const [first, second] = path.split("/");
  return first === "kernels" ? `${first}/${second}` : first;
}

function includesOf({ path, lines }) {
  return lines.flatMap((line, i) => {
    const [, quote, name] = /^\s*#\s*include\s*(["<])([^">]+)[">]/.exec(line) ?? [];
    return name === undefined ? [] : [{ at: `${path}:${i + 1}`, path, name, isOwn: quote === '"' }];
  });
}

const includes = native.flatMap(includesOf);

/** The includes of a system header that stand in files whose paths do not match. */
const includedOutside = (header, where) =>
  includes
    .filter(({ name, path, isOwn }) => !isOwn && header.test(name) && !where.test(path))
    .map(({ at }) => at);

test("native modules include only what lies below them", () => {
  const modules = new Set(native.map(({ path }) => moduleOf(path.slice("native/".length))));
  assert.deepEqual([...modules].sort(), Object.keys(dependencies).sort());
  const wrong = includes.filter(({ path, name, isOwn }) => {
    if (!isOwn) return false;
    const [from, to] = [moduleOf(path.slice("native/".length)), moduleOf(name)];
    return from !== to && !dependencies[from].includes(to);
  });
  assert.deepEqual(
    wrong.map(({ at, name }) => `${at}: ${name}`),
    [],
  );
});

test("the modules have an order: none depends on itself through others", () => {
  const reached = (module, seen = new Set()) => {
    for (const next of dependencies[module]) if (!seen.has(next)) reached(next, seen.add(next));
    return seen;
  };
  for (const module of Object.keys(dependencies)) assert.ok(!reached(module).has(module), module);
});

test("headers include each other without circles, by paths from native/", () => {
  const graph = new Map(native.map(({ path }) => [path, []]));
  for (const { at, path, name, isOwn } of includes) {
    if (!isOwn) continue;
    const target = name.endsWith(".def") || name.endsWith(".inc") ? undefined : `native/${name}`;
    assert.ok(target === undefined || graph.has(target), `${at} includes "${name}"`);
    if (target !== undefined) graph.get(path).push(target);
  }
  const done = new Set();
  const visit = (path, trail) => {
    assert.ok(!trail.includes(path), `a circle: ${[...trail, path].join(" → ")}`);
    if (done.has(path)) return;
    for (const next of graph.get(path)) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
});

test("only the binding knows Node, only platform files know the system, only ISA files know intrinsics", () => {
  assert.deepEqual(includedOutside(/^(napi|node_api|node|v8|uv)\b/, /^native\/binding\//), []);
  const system = /^(sys\/|linux\/|mach\/)|^(unistd|fcntl|sched|pthread|dlfcn|windows|poll|signal)\.h$/;
  assert.deepEqual(
    includedOutside(
      system,
      /^native\/((core|io)\/[a-z_]+_(posix|linux|macos|windows)\.cc$|kernels\/cuda\/emu\/)/,
    ),
    [],
  );
  const isa =
    /^native\/(core\/cpu_[a-z]+\.(h|cc)|kernels\/cpu\/[a-z_]+_(avx(2|vnni|512|512bf16)|neon(_i8mm)?)\.(h|cc))$/;
  assert.deepEqual(includedOutside(/intrin\.h$|^arm_(neon|sve)\.h$|^simde\/|^cpuid\.h$/, isa), []);
});

test("headers are guarded and files are named in snake_case", () => {
  // *_impl.h are bodies, compiled once for each ISA.
  const headers = native.filter(({ path }) => path.endsWith(".h") && !path.endsWith("_impl.h"));
  assert.deepEqual(
    headers.filter(({ lines }) => lines[0] !== "#pragma once").map(({ path }) => path),
    [],
  );
  const names = filesOf(["native"], /\.[a-z]+$/).map(({ path }) => path);
  assert.deepEqual(
    names.filter((path) => !/^native\/([a-z0-9]+\/)+[a-z0-9_]+\.(cc|h|cu|def|inc|mjs|py)$/.test(path)),
    [],
  );
});

test("native code neither ends the process nor writes to its streams, and does not throw", () => {
  const banned = [
    [/\b(abort|exit|_exit|_Exit|quick_exit|terminate|raise)\s*\(/, /^$/],
    [/\b(printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror)\s*\(|\bstd::(cout|cerr|clog)\b/, /^$/],
    [/\b(sprintf|strcpy|strcat|gets|strtok|rand|srand|atoi|atol|atof)\s*\(/, /^$/],
    [/\bthrow\b|\bstd::sto(i|l|ll|ul|ull|f|d|ld)\s*\(/, /^native\/binding\//],
  ];
  for (const [pattern, allowed] of banned) {
    const found = used
      .filter(({ path }) => !allowed.test(path))
      .flatMap((file) => linesMatching(file, pattern, cppCode(file.text)));
    assert.deepEqual(found, []);
  }
});

test("nothing that the engine's threads use is destroyed at exit, while they may run", () => {
  // What lives as long as the process is trivially destructible, or is behind a pointer and never deleted.
  const trivial = ["CpuFeatures", "CpuKernels"];
  const variable = String.raw`\s+\w+\s*[=;{]`;
  const local = new RegExp(
    String.raw`^\s+static\s+(?!constexpr\b|constinit\b|inline\b)(?:const\s+)?[\w:]+(?:<[^()]*>)?${variable}`,
  );
  const owning = String.raw`(?:vector|deque|list|string|map|set|unordered_\w+|function|\w+_ptr|thread)`;
  const global = new RegExp(String.raw`^(?:static |const |inline )*std::${owning}\b[^()]*${variable}`);
  const found = used.flatMap((file) => {
    const code = cppCode(file.text);
    return [...linesMatching(file, local, code), ...linesMatching(file, global, code)];
  });
  assert.deepEqual(
    found.filter((line) => !trivial.some((type) => line.includes(`static const ${type} `))),
    [],
  );
});

test("asserts are for debug builds: release builds leave them out", () => {
  const { text } = readSource("CMakeLists.txt");
  assert.match(text, /set\(CMAKE_BUILD_TYPE Release\)/);
  assert.match(text, /CMAKE_CXX_FLAGS_RELEASE "[^"]*-DNDEBUG\b[^"]*"/);
  const undefining = native.flatMap((file) => linesMatching(file, /#\s*undef\s+NDEBUG/, cppCode(file.text)));
  assert.deepEqual(undefining, []);
});

test("the library prints nothing and does not end the process; the command does", () => {
  const pattern = /\bconsole\s*\.|\bprocess\.(stdout|stderr|exit|abort|exitCode)\b/;
  const quiet = library.filter(({ path }) => !path.startsWith("lib/cli/"));
  assert.deepEqual(
    quiet.flatMap((file) => linesMatching(file, pattern, typescriptCode(file.text))),
    [],
  );
});

test("the library does not import the command, and one file loads the addon", () => {
  const importing = (pattern, allowed) =>
    library
      .filter(({ path }) => !allowed.test(path))
      .flatMap((file) => linesMatching(file, pattern, typescriptCode(file.text)));
  assert.deepEqual(importing(/\b(from|import|require)\b.*["']\.{1,2}\/(.*\/)?cli\//, /^lib\/cli\//), []);
  assert.deepEqual(importing(/node-gyp-build|\.node["'`]/, /^lib\/native\.ts$/), []);
});

test("files have one subject and lines fit", () => {
  const code = [...native, ...library, ...scripts, ...tests];
  const long = code
    .filter(({ lines }) => lines.length > 601)
    .map(({ path, lines }) => `${path}: ${lines.length - 1}`);
  assert.deepEqual(long, []);
  // A test's data may be a string that cannot be broken.
  const withoutData = (path, line) =>
    path.startsWith("test/") ? line.replace(/(["'`/]).{60,}\1/u, "") : line;
  const wide = code.flatMap(({ path, lines }) =>
    lines.flatMap((line, i) => ([...withoutData(path, line)].length > 120 ? [`${path}:${i + 1}`] : [])),
  );
  assert.deepEqual(wide, []);
});

test("nothing is left for later, and no machine's own paths are named", () => {
  const everything = [...shipped, ...scripts, ...tests, ...documents.map(readSource)].filter(
    ({ path }) => path !== "test/unit/tidy/tidy.test.mjs",
  );
  const later = everything.flatMap((file) => linesMatching(file, /\b(TODO|FIXME|XXX|HACK)\b/, file.text));
  assert.deepEqual(later, []);
  const machine = /(?<![\w.~-])\/(work|root|home\/\w+|Users\/\w+)\//;
  assert.deepEqual(
    everything.flatMap((file) => linesMatching(file, machine, file.text)),
    [],
  );
  const temporary = /["'`(\s=]\/(tmp|var\/tmp)\b/;
  assert.deepEqual(
    [...shipped, ...scripts].flatMap((file) => linesMatching(file, temporary, file.text)),
    [],
  );
});

test("the code names no host but those it needs", () => {
  const needed = ["huggingface.co", "pypi.org", "git-lfs"];
  const named = [...shipped, ...scripts].flatMap(({ path, text }) =>
    [...text.matchAll(/\bhttps?:\/\/([A-Za-z0-9.-]+)/g)].map(([, host]) => ({ path, host })),
  );
  assert.ok(named.some(({ host }) => host === "huggingface.co"));
  assert.deepEqual(
    named.filter(({ host }) => !needed.includes(host)),
    [],
  );
  const { packages } = require("../../../package-lock.json");
  const locked = Object.values(packages).flatMap(({ resolved }) => resolved ?? []);
  assert.deepEqual(
    locked.filter((url) => !url.startsWith("https://registry.npmjs.org/")),
    [],
  );
});

test("TypeScript, the native list and the built addon have the same error codes", () => {
  const { text } = readSource("native/core/error_codes.def");
  const listed = [...text.matchAll(/^TM_ERROR_CODE\((\w+)\)/gm)].map(([, name]) => name);
  assert.ok(listed.length > 10);
  const { errorCodes } = require("../../../dist/errors.js");
  const { native: addon } = require("../../../dist/native.js");
  assert.deepEqual([...errorCodes], listed);
  assert.deepEqual(addon().errorCodes(), listed);
});

test("one version: package.json, its lock and the newest entry of the changelog", (t) => {
  const { version } = require("../../../package.json");
  const lock = require("../../../package-lock.json");
  assert.deepEqual([lock.version, lock.packages[""].version], [version, version]);
  if (!documents.includes("CHANGELOG.md")) return t.skip("there is no CHANGELOG.md");
  const [, newest] = /^## \[?v?(\d+\.\d+\.\d+[^\]\s]*)/m.exec(readSource("CHANGELOG.md").text) ?? [];
  assert.equal(newest, version);
});

test("relative links of the documents lead somewhere", () => {
  const broken = documents.map(readSource).flatMap(({ path, text }) =>
    [...text.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)/g)]
      .map(([, target]) => target)
      .filter((target) => !existsSync(join(root, dirname(path), target)))
      .map((target) => `${path}: ${target}`),
  );
  assert.deepEqual(broken, []);
});
