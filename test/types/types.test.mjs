// The public types, as consumers of both module systems see them through the package's own `exports`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");

function compile(project, ...flags) {
  const parameters = [
    compiler,
    "--project",
    join(root, "test/types", project),
    "--pretty",
    "false",
    ...flags,
  ];
  return spawnSync(process.execPath, parameters, { cwd: root, encoding: "utf8" });
}

for (const [name, project] of [
  ["exactOptionalPropertyTypes", "tsconfig.json"],
  ["optional properties that may be undefined", "tsconfig.loose.json"],
]) {
  test(`ESM and CommonJS consumers have the same exact types, with ${name}`, () => {
    const { status, stdout } = compile(project);
    assert.equal(stdout, "");
    assert.equal(status, 0);
  });
}

const require = createRequire(import.meta.url);
const peers = [
  "prom-client",
  "@opentelemetry/api",
  "@opentelemetry/sdk-trace-base",
  "@opentelemetry/sdk-metrics",
];
const missing = peers.filter((name) => {
  try {
    return !require.resolve(name);
  } catch {
    return !process.env.CI;
  }
});

test("the optional peers' types fit", {
  skip: missing.length > 0 && `not installed: ${missing.join(", ")}`,
}, () => {
  const { status, stdout } = compile("tsconfig.peers.json");
  assert.equal(stdout, "");
  assert.equal(status, 0);
});

test("each consumer reads the declarations of its own entry", () => {
  const { stdout } = compile("tsconfig.json", "--explainFiles", "--listFilesOnly");
  const reasons = (file) => stdout.split(/^(?=\S)/m).find((block) => block.startsWith(file)) ?? "";
  assert.match(
    reasons("dist/index.d.mts"),
    /Imported via "tokenmill" from file 'test\/types\/esm-consumer\.mts'/,
  );
  assert.match(
    reasons("dist/index.d.ts"),
    /Imported via "tokenmill" from file 'test\/types\/cjs-consumer\.cts'/,
  );
});
