// node scripts/ci-checks.mjs GROUP: what continuous integration checks besides the tests, which needs more than a
// user's machine has. Expects the build that `npm test` makes. Measures no time, so it runs at the lowest priority.
import { readdirSync } from "node:fs";
import { availableParallelism, setPriority } from "node:os";
import { join } from "node:path";
import { configureArm64, hasArm64Tools, onArm64 } from "./arm64.mjs";
import {
  command,
  nativeTests,
  report,
  root,
  runCheck,
  runNative,
  runNativeTest,
  runSkip,
} from "./checks.mjs";

const cpuTests = [
  "cpu_matmul_test",
  "cpu_vector_test",
  "cpu_attention_test",
  "cpu_executor_test",
  "cpu_adapter_test",
];
const precompile = "-DTOKENMILL_PRECOMPILE=ON";
/** The groups run side by side. */
const jobs = Math.ceil(availableParallelism() / 2);

function buildOf(folder, targets) {
  return ["--build", folder, "--parallel", String(jobs), "--target", ...targets];
}

function checkSources() {
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
}

/** The AVX-512 and AVX-VNNI kernels, on any machine: compiled against an emulation. */
function checkEmulated() {
  const flags = [
    "-DTOKENMILL_ADDON=OFF",
    "-DTOKENMILL_TESTS=ON",
    "-DTOKENMILL_EMULATE_AVX512=ON",
    precompile,
  ];
  runCheck("emulated AVX-512: configure", "cmake", ["-S", ".", "-B", "build-emulated", ...flags]);
  runCheck(
    "emulated AVX-512: build",
    "cmake",
    buildOf("build-emulated", [...cpuTests, "cpu_bf16_test", "logits_cli"]),
  );
  const emulated = join(root, "build-emulated", "native-tests");
  runNative(emulated, { label: "emulated" });
  runCheck(
    "emulated AVX-512: SmolLM2's divergence from the oracle",
    process.execPath,
    ["--test", "--test-name-pattern=smollm2.*avx512", "test/model/oracle.test.mjs"],
    { environment: { TOKENMILL_EMULATED_TESTS: emulated }, expected: /avx512: mean KLD/ },
  );
}

/** The NEON kernels under QEMU: the CPU backend's tests, and the same bits as on this machine. */
function checkArm64() {
  if (!hasArm64Tools()) {
    runSkip("arm64: there is no g++-aarch64-linux-gnu or no qemu-user");
    return;
  }
  const folder = "build-arm64-tests";
  const flags = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", precompile];
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

/** Of programs that take minutes on the emulator, the tests that are run here. */
const shortened = { gpu_executor_test: ["ProgramsAgree", "HeadGives", "NanStays"] };

/** The kernels for GPUs on the emulator, with one schedule each, and the engine on top. */
function checkGpu() {
  const folder = "build-gpu";
  const flags = ["-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_GPU_TESTS=ON", precompile];
  runCheck("gpu: configure", "cmake", ["-S", ".", "-B", folder, ...flags]);
  runCheck("gpu: build", "cmake", ["--build", folder, "--parallel", String(jobs)]);
  const programs = join(root, folder, "gpu-tests");
  for (const name of readdirSync(programs)
    .filter((file) => file.endsWith("_test"))
    .sort()) {
    for (const filter of shortened[name] ?? [""])
      runNativeTest(`${name} ${filter}`.trim(), [join(programs, name), filter], { GPU_SEEDS: "1" });
  }
  runCheck("gpu: the engine on emulated devices", process.execPath, ["--test", "test/gpu/engine.test.mjs"], {
    environment: { TOKENMILL_EMULATED_LIBRARY: join(programs, "libemulated_device.so") },
    expected: /^# pass [1-9]\d*$[\s\S]*^# skipped 0$|^ℹ pass [1-9]\d*$[\s\S]*^ℹ skipped 0$/m,
  });
}

function checkX64() {
  checkSources();
  checkEmulated();
}

const groups = { x64: checkX64, arm64: checkArm64, gpu: checkGpu };
setPriority(19);
process.chdir(root);
groups[process.argv[2]]();
report();
