// The package as npm packs it and as an empty project gets it: what is in it, what loads, what is missing.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { builtinModules, createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { after, before, test } from "node:test";
import { publint } from "publint";
import { root, tinyModel } from "../support/models.mjs";

const require = createRequire(import.meta.url);
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const addon = join(root, "build/Release/tokenmill.node");
const folder = mkdtempSync(join(tmpdir(), "tokenmill-pack-"));
const project = join(folder, "project");
const installed = join(project, "node_modules/tokenmill");
const prebuilds = join(installed, "prebuilds");
/** What goes into a package of its own. */
const cudaSources = "native/kernels/cuda/";
const entries = ["index", "prometheus", "opentelemetry"];
const model = tinyModel();
let tarball;
let files;

after(() => rmSync(folder, { recursive: true, force: true }));

/** This process's environment without what npm or a developer set for the repository. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|tokenmill_|prebuilds_only)/i.test(name)),
);

function run(command, parameters, cwd = project) {
  const shell = process.platform === "win32";
  const { status, stdout, stderr } = spawnSync(command, parameters, {
    cwd,
    encoding: "utf8",
    env: environment,
    shell,
  });
  assert.equal(status, 0, `${command} ${parameters.join(" ")}: ${stderr}${stdout}`);
  return stdout;
}

const npm = (...parameters) =>
  run("npm", [...parameters, "--ignore-scripts", `--cache=${join(folder, "cache")}`]);

/** Names and folders of the packages that an installation without development packages has. */
function productionPackages() {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  return Object.entries(packages)
    .filter(([path, { dev, optional }]) => path !== "" && !dev && !optional)
    .map(([path]) => [path.split("node_modules/").at(-1), join(root, path)]);
}

before(() => {
  mkdirSync(project);
  const [packed] = JSON.parse(npm("pack", root, "--json", "--pack-destination", folder));
  tarball = join(folder, packed.filename);
  files = packed.files.map(({ path }) => path).sort();
  // The dependencies come from the repository's own node_modules: nothing is fetched.
  const dependencies = Object.fromEntries(productionPackages().map(([name, path]) => [name, `file:${path}`]));
  const contents = { private: true, dependencies: { ...dependencies, tokenmill: `file:${tarball}` } };
  writeFileSync(join(project, "package.json"), JSON.stringify(contents));
  npm("install", "--offline", "--install-links", "--no-audit", "--no-fund");
  rmSync(prebuilds, { recursive: true, force: true });
  for (const name of readdirSync(new URL("pack", import.meta.url))) {
    copyFileSync(new URL(`pack/${name}`, import.meta.url), join(project, name));
  }
});

test("the package holds the library, its native sources and its documents, and nothing else", () => {
  const expected = [
    /^dist\/([a-z0-9-]+\/)*[a-z0-9-]+\.(js|d\.ts)$/,
    /^dist\/(index|prometheus|opentelemetry)\.(mjs|d\.mts)$/,
    /^prebuilds\/[a-z0-9]+-[a-z0-9+]+\/tokenmill(\.[a-z0-9]+)*\.node$/,
    /^native\/([a-z0-9]+\/)+[a-z0-9_]+\.(cc|h|def|inc)$/,
    /^(CMakeLists\.txt|package\.json|README\.md|LICENSE|CHANGELOG\.md|ARCHITECTURE\.md)$/,
  ];
  assert.deepEqual(
    files.filter((path) => !expected.some((pattern) => pattern.test(path))),
    [],
  );
});

test("the package holds every source file and every document that there is", () => {
  const compiled = (path) => [
    path.replace(/^lib(.*)\.ts$/, "dist$1.js"),
    path.replace(/^lib(.*)\.ts$/, "dist$1.d.ts"),
  ];
  const below = (name) =>
    readdirSync(join(root, name), { recursive: true })
      .map((path) => posix.join(name, path.replaceAll("\\", "/")))
      .filter((path) => statSync(join(root, path)).isFile());
  const documents = ["README.md", "LICENSE", "CHANGELOG.md", "ARCHITECTURE.md", "CMakeLists.txt"];
  const wanted = [
    ...below("lib").flatMap(compiled),
    ...below("native").filter((path) => /\.(cc|h|def|inc)$/.test(path) && !path.startsWith(cudaSources)),
    ...documents.filter((path) => existsSync(join(root, path))),
    ...entries.flatMap((entry) => [`dist/${entry}.mjs`, `dist/${entry}.d.mts`]),
  ];
  assert.ok(wanted.length > 200);
  assert.deepEqual(
    wanted.filter((path) => !files.includes(path)),
    [],
  );
});

test("the package holds nothing of CUDA: neither sources nor compiled kernels nor what opens the driver", () => {
  assert.deepEqual(
    files.filter((path) => /cuda|\.(cu|cubin|ptx|so)$/.test(path)),
    [],
  );
  const contents = [...files.map((path) => join(installed, path)), addon].map((path) => readFileSync(path));
  const traces = ["libcuda.so", "cuLaunchKernel", ".nv.info", "ld.param"];
  for (const trace of traces) assert.ok(!contents.some((bytes) => bytes.includes(trace)), trace);
});

test("the package for GPUs is an optional peer of the same version", () => {
  const { peerDependencies, peerDependenciesMeta, version } = manifest;
  const name = "tokenmill-cuda-linux-x64";
  assert.deepEqual([peerDependencies[name], peerDependenciesMeta[name]], [version, { optional: true }]);
});

test("nothing runs when the package is installed", () => {
  const { scripts, gypfile } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  assert.deepEqual(
    Object.keys(scripts).filter((name) => /^(pre|post)?install$|^dependencies$/.test(name)),
    [],
  );
  assert.equal(gypfile, false, "npm would look for a binding.gyp");
  assert.deepEqual(
    files.filter((path) => /\.gypi?$/.test(path)),
    [],
  );
});

test("node-gyp is only sent to CMake", () => {
  // GYP files are Python's literals; this one is JSON but for its comments.
  const text = readFileSync(join(root, "binding.gyp"), "utf8").replace(/^#.*$/gm, "");
  const [{ type, sources, actions, copies }, ...others] = JSON.parse(text).targets;
  assert.deepEqual([type, sources, others], ["none", undefined, []]);
  const [{ action, outputs }] = actions;
  assert.ok(existsSync(join(root, action[1])), `${action[1]} is there`);
  assert.deepEqual(outputs, [`${action[action.indexOf("--out") + 1]}/Release/tokenmill.node`]);
  assert.deepEqual(copies, [{ destination: "<(PRODUCT_DIR)", files: outputs }]);
});

test("the code requires what package.json declares, and all of it", () => {
  const required = new Set();
  for (const path of files.filter((path) => /^dist\/.*\.js$/.test(path))) {
    const code = readFileSync(join(installed, path), "utf8");
    for (const [, name] of code.matchAll(/\b(?:require|require\.resolve|import)\("([^".][^"]*)"\)/g))
      required.add(name);
  }
  const packages = [...required]
    .filter((name) => !name.startsWith("node:") && !builtinModules.includes(name))
    .map((name) => name.split("/", name.startsWith("@") ? 2 : 1).join("/"));
  const { dependencies, peerDependencies, peerDependenciesMeta } = manifest;
  const declared = [...Object.keys(dependencies), ...Object.keys(peerDependencies)];
  assert.deepEqual([...new Set(packages)].sort(), declared.sort());
  assert.ok(Object.keys(peerDependencies).every((name) => peerDependenciesMeta[name].optional));
});

test("the native sources configure and find their headers outside the repository", () => {
  const output = join(folder, "build");
  run("cmake", ["-S", installed, "-B", output, "-DTOKENMILL_ADDON=OFF"]);
  const sources = files.filter((path) => /^native\/.*\.(cc|h)$/.test(path));
  const missing = sources.flatMap((path) =>
    [...readFileSync(join(installed, path), "utf8").matchAll(/^\s*#\s*include "([^"]+)"/gm)]
      .map(([, name]) => name)
      .filter((name) => !files.includes(`native/${name}`) && !files.includes(posix.join(dirname(path), name)))
      .map((name) => `${path}: ${name}`),
  );
  assert.deepEqual(missing, []);
});

test("publint has nothing to say", async () => {
  const { messages } = await publint({ pack: { tarball: new Uint8Array(readFileSync(tarball)).buffer } });
  assert.deepEqual(messages, []);
});

test("the types resolve as the code does, under every module resolution", () => {
  const attw = join(root, "node_modules/.bin/attw");
  const { analysis, problems } = JSON.parse(
    run(attw, [tarball, "--no-definitely-typed", "--format", "json"]),
  );
  assert.deepEqual(problems ?? {}, {});
  assert.deepEqual(analysis.problems, []);
  const subpaths = entries.map((entry) => (entry === "index" ? "." : `./${entry}`));
  assert.deepEqual(Object.keys(analysis.entrypoints), [...subpaths, "./package.json"]);
  for (const [i, entry] of entries.entries()) {
    const { resolutions } = analysis.entrypoints[subpaths[i]];
    const declarations = Object.entries(resolutions).map(([kind, { resolution }]) => [
      kind,
      resolution.fileName,
    ]);
    const [commonJs, esm] = ["d.ts", "d.mts"].map(
      (ending) => `/node_modules/tokenmill/dist/${entry}.${ending}`,
    );
    assert.deepEqual(Object.fromEntries(declarations), {
      node10: commonJs,
      "node16-cjs": commonJs,
      "node16-esm": esm,
      bundler: esm,
    });
  }
});

test("the entries for optional peers load without them, and one copy by import and require", () => {
  const code = `
    const names = ["tokenmill/prometheus", "tokenmill/opentelemetry"];
    Promise.all(names.map((name) => import(name))).then((imported) => {
      const told = imported.map((entry, i) => {
        const [[name, use]] = Object.entries(entry);
        try { use({ info: {} }); } catch ({ code }) { return [code, use === require(names[i])[name]]; }
      });
      console.log(JSON.stringify(told));
    });`;
  const told = JSON.parse(run(process.execPath, ["-e", code]));
  assert.deepEqual(told, [
    ["Incompatible", true],
    ["Incompatible", true],
  ]);
});

test("the command is installed", () => {
  const command = join(project, "node_modules/.bin/tokenmill");
  assert.equal(run(command, ["--version"]).trim(), manifest.version);
});

const consumers = ["consumer.mjs", "consumer.cjs"];
const consume = (name) => JSON.parse(run(process.execPath, [name, model]));

for (const name of consumers) {
  test(`without a native library ${name} imports the package and is told how to build it`, () => {
    const { names, sameCopy, error } = consume(name);
    assert.ok(names.includes("loadModel") && sameCopy);
    assert.equal(error.code, "Incompatible");
    assert.ok(error.isInstance);
    assert.match(
      error.message,
      new RegExp(`${process.platform}-${process.arch}.*Node ${process.versions.node}`),
    );
    assert.match(error.message, /&& npx cmake-js build -d ".*node_modules.tokenmill"$/);
  });
}

/** Puts the library where prebuildify puts it, under the name that prebuildify gives it. */
function placePrebuild() {
  const target = join(prebuilds, `${process.platform}-${process.arch}`);
  mkdirSync(target, { recursive: true });
  copyFileSync(addon, join(target, "tokenmill.node"));
  return join(target, "tokenmill.node");
}

test("a library that cannot be loaded is named", () => {
  writeFileSync(placePrebuild(), "no library");
  const { error } = consume("consumer.cjs");
  assert.equal(error.code, "Incompatible");
  assert.match(error.message, /tokenmill\.node/);
});

for (const name of consumers) {
  test(`with a prebuilt library both imports of ${name} share one copy and generate`, () => {
    const path = placePrebuild();
    const { sameCopy, addonsBefore, addonsAfter, areReplies, tokens, error } = consume(name);
    assert.equal(error, undefined);
    assert.ok(sameCopy && areReplies);
    assert.deepEqual(addonsBefore, [], "the library is loaded at first use");
    assert.deepEqual(addonsAfter, [path]);
    assert.equal(tokens[0].length, 8);
    assert.deepEqual(tokens[0], tokens[1]);
  });
}

test("a prebuilt library stays small", () => {
  assert.ok(statSync(addon).size < 5_000_000);
});

test("two copies of the package in one process both work and know each other's errors", async () => {
  placePrebuild();
  const copies = [require("../../dist/index.js"), createRequire(join(project, "x.js"))("tokenmill")];
  const [mine, other] = copies.map(({ TokenmillError }) => TokenmillError);
  assert.notEqual(mine, other);
  assert.ok(mine.isInstance(new other("Internal", "")) && other.isInstance(new mine("Internal", "")));
  const models = await Promise.all(copies.map(({ loadModel }) => loadModel(model)));
  const options = { maxTokens: 20, ignoreEos: true };
  const replies = await Promise.all(models.map((loaded) => loaded.generate("The mill", options)));
  assert.deepEqual(replies[0].tokens, replies[1].tokens);
  for (const loaded of models) await loaded.dispose();
});
