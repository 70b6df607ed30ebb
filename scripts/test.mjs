// npm test: builds the native tests, fetches the models they use, runs everything, and ends with the line
// "N passed, N failed". `npm test -- NAME` runs the test files whose paths contain NAME.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { configureArm64, hasArm64Tools, onArm64 } from "./arm64.mjs";
import { runNodeTests } from "./run-node-tests.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nativeTests = join(root, "build", "native-tests");
const filter = process.argv[2] ?? "";
const count = { passed: 0, failed: 0, skipped: 0 };

function command(name, arguments_, options = {}) {
  return spawnSync(name, arguments_, { cwd: root, stdio: "inherit", ...options });
}

function build() {
  const configured = command("cmake", ["-S", ".", "-B", "build", "-DTOKENMILL_TESTS=ON"], {
    stdio: "ignore",
  });
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

/** Runs one native test program and returns what it printed. */
function runNativeTest(name, [program, ...arguments_], environment = {}) {
  const { status, stdout } = command(program, arguments_, {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(stdout) ?? [];
  count.passed += Number(passed ?? 0);
  count.failed += Number(failed ?? 0);
  const ok = status === 0 && passed !== undefined;
  if (!ok && Number(failed ?? 0) === 0) count.failed += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${ok ? ` (${passed})` : `\n${stdout}`}`);
}

function runNative(folder, label = "native") {
  const tests = readdirSync(folder)
    .filter((name) => name.replace(/\.exe$/, "").endsWith("_test") && name.includes(filter))
    .sort();
  for (const name of tests) runNativeTest(`${label}/${name}`, [join(folder, name)]);
}

/** One more test: whether a command succeeds, and says what it should. */
function runCheck(name, program, arguments_, { environment = {}, expected = /(?:)/ } = {}) {
  const { status, stdout, stderr } = command(program, arguments_, {
    stdio: "pipe",
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
  const ok = status === 0 && expected.test(stdout);
  count[ok ? "passed" : "failed"] += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${ok ? "" : `\n${stdout}${stderr}`}`);
}

/** What continuous integration checks besides: it needs more than a user's machine has. */
function runCiChecks() {
  runCheck("lint", process.execPath, [
    "node_modules/@biomejs/biome/bin/biome",
    "ci",
    "--reporter=summary",
    ".",
  ]);
  runCheck("fuzz: 50,000 mutated GGUF headers, as many snapshots, under ASan and UBSan", "bash", [
    "test/fuzz/run.sh",
    "50000",
  ]);
  runEmulatedChecks();
  runArm64Checks();
}

const cpuTests = [
  "cpu_matmul_test",
  "cpu_vector_test",
  "cpu_attention_test",
  "cpu_executor_test",
  "cpu_adapter_test",
];

function buildOf(folder, targets) {
  return ["--build", folder, "--parallel", String(availableParallelism()), "--target", ...targets];
}

/** The AVX-512 and AVX-VNNI kernels, on any machine: compiled against an emulation. */
function runEmulatedChecks() {
  const flags = ["-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_TESTS=ON", "-DTOKENMILL_EMULATE_AVX512=ON"];
  runCheck("emulated AVX-512: configure", "cmake", ["-S", ".", "-B", "build-emulated", ...flags]);
  runCheck(
    "emulated AVX-512: build",
    "cmake",
    buildOf("build-emulated", [...cpuTests, "cpu_bf16_test", "logits_cli"]),
  );
  const emulated = join(root, "build-emulated", "native-tests");
  runNative(emulated, "emulated");
  runCheck(
    "emulated AVX-512: SmolLM2's divergence from the oracle",
    process.execPath,
    ["--test", "--test-name-pattern=smollm2.*avx512", "test/model/oracle.test.mjs"],
    { environment: { TOKENMILL_EMULATED_TESTS: emulated }, expected: /avx512: mean KLD/ },
  );
}

/** The NEON kernels under QEMU: the CPU backend's tests, and the same bits as on this machine. */
function runArm64Checks() {
  if (!hasArm64Tools()) {
    console.log("SKIP arm64: there is no g++-aarch64-linux-gnu or no qemu-user");
    count.skipped += 1;
    return;
  }
  const folder = "build-arm64-tests";
  const flags = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"];
  runCheck("arm64: configure", "cmake", configureArm64(folder, flags));
  runCheck("arm64: build", "cmake", buildOf(folder, [...cpuTests, "device_test", "digest_cli"]));
  for (const [cpu, isa] of [
    ["max", "neon-i8mm"],
    ["neoverse-n1", "neon"],
    ["cortex-a72", "reference"],
  ]) {
    const [program, ...arguments_] = onArm64(folder, "device_test", cpu);
    runCheck(`arm64: ${cpu} uses ${isa}`, program, arguments_, { expected: new RegExp(`${isa}: .*dotprod`) });
  }
  // The two tables have the same attention kernels: a CPU with one of them runs those once.
  for (const name of cpuTests) {
    const cpu = name === "cpu_attention_test" ? "neoverse-n1" : "max";
    runNativeTest(`arm64/${name}`, onArm64(folder, name, cpu), { TOKENMILL_SHORT_TESTS: "1" });
  }
  const { stdout: digests } = command(join(nativeTests, "digest_cli"), [], {
    stdio: "pipe",
    encoding: "utf8",
  });
  const same = { test: (stdout) => stdout === digests && digests.length > 0 };
  for (const isa of ["neon", "neon-i8mm"]) {
    const [program, ...arguments_] = onArm64(folder, "digest_cli");
    const environment = { TOKENMILL_ISA: isa };
    runCheck(`arm64: ${isa} gives this machine's bits`, program, arguments_, { environment, expected: same });
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
runNative(nativeTests);
await runNodeTests(nodeTestFiles("unit"), availableParallelism(), count);
// These measure time or kill processes: one file at a time.
for (const folder of ["model", "process", "types"]) await runNodeTests(nodeTestFiles(folder), 1, count);

if (process.env.TOKENMILL_CI_CHECKS) runCiChecks();

const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : "";
console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
