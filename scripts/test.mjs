// npm test: builds the native tests, fetches the models they use, runs everything, and ends with the line
// "N passed, N failed". `npm test -- NAME` runs the test files whose paths contain NAME.
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { command, count, nativeTests, report, root, runNative, startBeside } from "./checks.mjs";
import { runNodeTests } from "./run-node-tests.mjs";

const filter = process.argv[2] ?? "";

function build() {
  const precompile = `-DTOKENMILL_PRECOMPILE=${process.env.TOKENMILL_CI_CHECKS ? "ON" : "OFF"}`;
  const flags = ["-DTOKENMILL_TESTS=ON", precompile];
  const configured = command("cmake", ["-S", ".", "-B", "build", ...flags], { stdio: "ignore" });
  const built = command("cmake", ["--build", "build", "--parallel", String(availableParallelism())], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (built.status !== 0) console.error(built.stdout); // Ninja prints the compiler's errors there
  const compiled = command(process.execPath, ["scripts/build-ts.mjs"]);
  if (configured.status === 0 && built.status === 0 && compiled.status === 0) return;
  console.error("tokenmill: the build failed; run `npm install` first");
  process.exit(1);
}

/** The folder with the real models; without them the tests that need them are skipped, except in CI. */
function fetchModels() {
  const { status, stdout } = command(process.execPath, ["scripts/fetch-test-models.mjs"], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (status === 0) {
    process.env.TOKENMILL_TEST_MODELS = stdout.trim();
  } else if (process.env.CI) {
    count.failed += 1;
    console.error("FAIL the models for the tests could not be fetched");
  } else {
    console.error("SKIP the models could not be fetched: tests on real models are skipped");
  }
}

function nodeTestFiles(folder) {
  return readdirSync(join(root, "test", folder), { recursive: true })
    .filter((name) => name.endsWith(".test.mjs"))
    .map((name) => join(root, "test", folder, name))
    .filter((path) => relative(root, path).includes(filter))
    .sort();
}

process.chdir(root);
build();
process.env.TOKENMILL_NATIVE_TESTS = nativeTests;
process.env.TOKENMILL_PACKED_CACHE = "0"; // tests leave nothing in the user's cache folder
fetchModels();
// The tests wait for a good half of their time, which is enough for what continuous integration checks besides.
const ciChecks = (process.env.TOKENMILL_CI_CHECKS ? ["x64", "arm64", "gpu"] : []).map((group) =>
  startBeside(["scripts/ci-checks.mjs", group]),
);
runNative(nativeTests, { filter });
await runNodeTests(nodeTestFiles("unit"), availableParallelism(), count);
// These measure time or kill processes: one file at a time.
for (const folder of ["model", "process", "types"]) await runNodeTests(nodeTestFiles(folder), 1, count);

for (const ended of ciChecks) await ended();
report();
