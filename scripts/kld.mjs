// npm run test:kld: the models' divergence from the f32 oracle (PyTorch + transformers) over a text, for every
// instruction set that this machine has. Options: --windows N (default 8, the whole text), --isa NAME, --model NAME,
// --kv-cache int8, and --adapter FOLDER: then also with a PEFT adapter on both sides ("random": with some of random
// factors, which are made first), and at most 1.1 times as far. An instruction set that this machine lacks is
// emulated: avx512, avx512bf16 and avxvnni with AVX2 (SIMDe), neon and neon-i8mm under QEMU (scripts/arm64.mjs), where
// a window of SmolLM2 takes minutes. The oracle's packages are installed into .venv when they are not there.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { configureArm64, onArm64 } from "./arm64.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { native } = createRequire(import.meta.url)("../dist/native.js");
const python = join(root, ".venv", process.platform === "win32" ? "Scripts" : "bin", "python");

const { values } = parseArgs({
  options: {
    windows: { type: "string", default: "8" },
    isa: { type: "string" },
    model: { type: "string" },
    "kv-cache": { type: "string", default: "f16" },
    adapter: { type: "string" },
  },
});

// Mean divergence at most 1.1 times llama.cpp's on the same text and windows (0.00295 and 0.00463), and the
// reference path's own bound.
const limits = {
  "smollm2-135m-instruct": { packed: 0.00324, reference: 1e-5 },
  "gemma-3-270m": { packed: 0.00509, reference: 1e-5 },
};

function run(command, arguments_, options = {}) {
  const result = spawnSync(command, arguments_, { cwd: root, stdio: "inherit", ...options });
  if (result.status !== 0 && !options.mayFail) process.exit(result.status ?? 1);
  return result;
}

/** Where the program is built for an instruction set, how, and how it is called. */
function target(isa) {
  const tests = ["-DTOKENMILL_TESTS=ON"];
  if (isa?.startsWith("neon") && process.arch !== "arm64") {
    return ["build-arm64", configureArm64("build-arm64"), onArm64("build-arm64", "logits_cli")];
  }
  const emulated = isa?.startsWith("avx") && !native().availableIsas().includes(isa);
  const build = emulated ? "build-emulated" : "build";
  if (emulated) tests.push("-DTOKENMILL_ADDON=OFF", "-DTOKENMILL_EMULATE_AVX512=ON");
  return [build, ["-S", ".", "-B", build, ...tests], [join(root, build, "native-tests", "logits_cli")]];
}

const [build, configure, program] = target(values.isa);
run("cmake", configure, { stdio: "ignore" });
run("cmake", ["--build", build, "--target", "logits_cli"], { stdio: ["ignore", "ignore", "inherit"] });
if (!existsSync(python)) {
  run("python3", ["-m", "venv", ".venv"]);
  run(python, ["-m", "pip", "install", "--quiet", "-r", "test/oracle/requirements.txt"]);
}
const folder = run(process.execPath, ["scripts/fetch-test-models.mjs"], {
  stdio: ["ignore", "pipe", "inherit"],
  encoding: "utf8",
}).stdout.trim();

/** Folders of the adapters to compare with. */
function adaptersFor(name, model) {
  if (values.adapter !== "random") return [values.adapter];
  const script = readFileSync(join(root, "test/oracle/make_adapters.py"));
  const version = createHash("sha256").update(script).digest("hex").slice(0, 16); // what another one made is no use
  const made = join(root, build, "adapters", version, name);
  run(python, ["test/oracle/make_adapters.py", "--model", model, made]);
  return readdirSync(made).map((adapter) => join(made, adapter));
}

/** What logits_cli takes for an adapter. */
function specFile(adapter) {
  const { stdout } = run(process.execPath, ["scripts/adapter-spec.mjs", adapter], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const path = join(root, build, "adapter.spec");
  writeFileSync(path, stdout);
  return path;
}

let failed = false;

/** Prints the divergence, holds it to the bound, and gives its mean. */
function compare(model, isa, bound, adapter) {
  console.log(`\n${[basename(model, ".gguf"), isa, ...(adapter ? [basename(adapter)] : [])].join(", ")}`);
  const result = join(root, build, "kld.json");
  const options = ["--model", model, "--windows", values.windows, "--mean-kld-limit", String(bound)];
  const ours = ["--ours", ...program, model, "64", values["kv-cache"]];
  if (adapter !== undefined) {
    options.push("--adapter", adapter);
    ours.push("none", specFile(adapter));
  }
  rmSync(result, { force: true });
  const { status } = run(python, ["test/oracle/kld.py", ...options, "--json", result, ...ours], {
    env: { ...process.env, TOKENMILL_ISA: isa },
    mayFail: true,
  });
  failed ||= status !== 0;
  return existsSync(result) ? JSON.parse(readFileSync(result, "utf8")).meanKld : bound;
}

for (const [name, limit] of Object.entries(limits)) {
  if (values.model && values.model !== name) continue;
  const model = join(folder, `${name}.gguf`);
  const adapters = values.adapter ? adaptersFor(name, model) : [];
  for (const isa of values.isa ? [values.isa] : native().availableIsas()) {
    const isReference = isa === "reference";
    const plain = compare(model, isa, isReference ? limit.reference : limit.packed);
    for (const adapter of adapters) compare(model, isa, isReference ? limit.reference : 1.1 * plain, adapter);
  }
}
process.exitCode = failed ? 1 : 0;
