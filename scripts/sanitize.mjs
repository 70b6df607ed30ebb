// npm run test:sanitize [-- address|thread [NAME]]: builds the native tests under AddressSanitizer with
// UndefinedBehaviorSanitizer, and under ThreadSanitizer, in build folders of their own, and runs those whose
// names contain NAME. Asserts are active, also the C++ library's. Ends with "N passed, N failed".
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const builds = {
  address: { folder: "build-asan", sanitizers: "address,undefined" },
  thread: { folder: "build-tsan", sanitizers: "thread" },
};

// A finding ends the test: none is left in the middle of an output that says "passed".
const environment = {
  ...process.env,
  ASAN_OPTIONS: "detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1",
  UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1",
  TSAN_OPTIONS: "halt_on_error=1:second_deadlock_stack=1",
};

function command(name, arguments_, options = {}) {
  const result = spawnSync(name, arguments_, { cwd: root, stdio: "inherit", ...options });
  if (result.error) console.error(`tokenmill: ${name} cannot run: ${result.error.message}`);
  return result;
}

function build({ folder, sanitizers }) {
  const flags = `${process.env.CXXFLAGS ?? ""} -D_GLIBCXX_ASSERTIONS -fno-sanitize-recover=all`.trim();
  const options = [
    "-DTOKENMILL_ADDON=OFF",
    "-DTOKENMILL_TESTS=ON",
    `-DTOKENMILL_SANITIZE=${sanitizers}`,
    "-DCMAKE_BUILD_TYPE=Debug",
    `-DCMAKE_CXX_FLAGS=${flags}`,
  ];
  const parallel = process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableParallelism());
  const quiet = { stdio: "pipe", encoding: "utf8", maxBuffer: 2 ** 28 };
  for (const step of [
    ["-S", ".", "-B", folder, ...options],
    ["--build", folder, "--parallel", parallel],
  ]) {
    const { status, stdout, stderr } = command("cmake", step, quiet);
    if (status === 0) continue;
    console.error(`${stdout}${stderr}FAIL the build for ${sanitizers}`);
    return false;
  }
  return true;
}

/** Runs the tests of one build. */
function runTests({ folder, sanitizers }, filter) {
  const count = { passed: 0, failed: 0 };
  const tests = join(root, folder, "native-tests");
  const names = readdirSync(tests).filter((name) => name.endsWith("_test") && name.includes(filter));
  for (const name of names.sort()) {
    const started = Date.now();
    const { status, signal, stdout } = command(join(tests, name), [], {
      stdio: ["ignore", "pipe", "inherit"],
      encoding: "utf8",
      env: environment,
    });
    const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(stdout) ?? [];
    const ok = status === 0 && passed !== undefined;
    count.passed += Number(passed ?? 0);
    count.failed += ok ? 0 : Math.max(Number(failed ?? 0), 1);
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    const outcome = ok ? `${passed} passed` : `${signal ?? `exit status ${status}`}\n${stdout}`;
    console.log(`${ok ? "ok  " : "FAIL"} ${sanitizers} ${name} (${seconds} s): ${outcome}`);
  }
  return count;
}

const [selected, filter = ""] = process.argv.slice(2);
if (selected !== undefined && !Object.hasOwn(builds, selected)) {
  console.error(`tokenmill: no sanitizer '${selected}'; known are ${Object.keys(builds).join(", ")}`);
  process.exit(2);
}
const total = { passed: 0, failed: 0 };
for (const [name, settings] of Object.entries(builds)) {
  if (selected !== undefined && name !== selected) continue;
  const { passed, failed } = build(settings) ? runTests(settings, filter) : { passed: 0, failed: 1 };
  total.passed += passed;
  total.failed += failed;
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
