// npm run test:mutants: breaks the GPU kernels in hundreds of small ways (test/mutants/rules.mjs), one at a time, and
// demands that the kernels' tests or the emulator's checks notice. Results are kept in build/mutants, so that a run
// repeats only what changed.
//
//   node scripts/mutants.mjs                       all
//   node scripts/mutants.mjs --sample 12 --seed 3  so many, chosen at random by the seed
//   node scripts/mutants.mjs --only norm.cu        of files whose names contain it
//   node scripts/mutants.mjs --list                what they would be
//   JOBS=n: how many at once (2)
//
// Fails when a mutant survives that test/mutants/survivors.json does not list with a reason, or when less than 95 % are
// killed. Mutants that do not compile do not count.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { applied, mutantsOf } from "../test/mutants/rules.mjs";
import * as build from "./gpu-build.mjs";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
const kernels = "native/kernels/cuda";
const folder = "build/mutants";
const resultsPath = join(folder, "results.json");
const demandedRate = 0.95;
/** What is no kernel's: the primitives themselves and the host's side. */
const excluded = /^(gpu|gpu_ptx|driver\w*|cuda_\w+|images|views|row_launch)\.h$/;
/** Tests of the emulator, not of kernels. */
const otherTests = /\/(emulator|gpu_primitives|ptx_semantics|cuda_driver|launches)_test\.cc$/;

const { values: options } = parseArgs({
  options: {
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    only: { type: "string", default: "" },
    list: { type: "boolean", default: false },
  },
});

const hash = (text) => createHash("sha256").update(text).digest("hex").slice(0, 16);
const readJson = (path, otherwise) => (existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : otherwise);
const contents = new Map();
function contentOf(path) {
  if (!contents.has(path)) contents.set(path, readFileSync(path, "utf8"));
  return contents.get(path);
}

function kernelFiles() {
  return build
    .below(kernels, "")
    .filter((path) => /\.(cu|h)$/.test(path) && !excluded.test(basename(path)))
    .sort();
}

function chosenMutants() {
  const all = kernelFiles()
    .filter((path) => basename(path).includes(options.only))
    .flatMap((path) => mutantsOf(basename(path), contentOf(path)));
  if (!options.sample) return all;
  const order = new Map(all.map(({ id }) => [id, hash(`${options.seed} ${id}`)]));
  return [...all]
    .sort((a, b) => order.get(a.id).localeCompare(order.get(b.id)))
    .slice(0, Number(options.sample));
}

/** Every test of kernels with its sources. */
function testPrograms() {
  return build
    .below(build.tests, "_test.cc")
    .filter((test) => !otherTests.test(test))
    .map((test) => ({ test, sources: [...build.sourcesOf(test), ...build.emulatorSources()] }));
}

const closures = new Map();
/** The project's files that a source is made from, itself among them. */
function filesOf(source) {
  if (closures.has(source)) return closures.get(source);
  const files = new Set([source]);
  for (const file of files) {
    for (const [, name] of contentOf(file).matchAll(/^#include "(.*)"$/gm)) {
      const found = ["native", "test/native", build.tests]
        .map((folder) => join(folder, name))
        .find(existsSync);
      if (found) files.add(found);
    }
  }
  closures.set(source, files);
  return files;
}

/** [{ program, source }]: .cu files that include the mutant's file, in tests; those of the same name first. */
function affected(mutant, programs) {
  const path = join(kernels, mutant.file);
  const stem = (name) => basename(name).split(/[_.]/)[0];
  const pairs = programs.flatMap((program) =>
    program.sources
      .filter(
        (source) => source.endsWith(".cu") && build.dependenciesOf(build.objectOf(source)).includes(path),
      )
      .map((source) => ({ program, source })),
  );
  const rank = ({ program, source }) =>
    (stem(program.test) === stem(mutant.file) ? 0 : 2) + (stem(program.test) === stem(source) ? 0 : 1);
  return pairs.sort((a, b) => rank(a) - rank(b));
}

/** Runs a test program until it fails, ends or takes too long. */
function runProgram(program, secondsMax) {
  return new Promise((done) => {
    const child = spawn("stdbuf", ["-oL", program], { stdio: ["ignore", "pipe", "ignore"] });
    let outcome = "";
    const stop = (why) => {
      outcome ||= why;
      child.kill("SIGKILL");
    };
    const timer = setTimeout(() => stop("time"), secondsMax * 1000);
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text) => {
      if (/^FAIL/m.test(text)) stop("failed");
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      done(outcome || (code === 0 ? "passed" : `ended by ${signal ?? code}`));
    });
  });
}

const baselines = new Map();
/** How long a test takes with the kernels as they are; it has to pass. */
function baselineSeconds(program) {
  if (!baselines.has(program)) {
    const measure = async () => {
      const path = join(folder, basename(program.test, ".cc"));
      const startMs = performance.now();
      const linked = build.link(path, program.sources.map(build.objectOf));
      const outcome = linked ? await runProgram(path, 600) : "not linked";
      if (outcome !== "passed") throw new Error(`${program.test} does not pass without mutants: ${outcome}`);
      return (performance.now() - startMs) / 1000;
    };
    baselines.set(program, measure());
  }
  return baselines.get(program);
}

/** Compiles `source` with the mutant's file in place of the original. */
async function compileMutant(mutant, source, place) {
  const path = join(kernels, mutant.file);
  const changed = join(place, "kernels/cuda", mutant.file);
  mkdirSync(dirname(changed), { recursive: true });
  writeFileSync(changed, applied(contentOf(path), mutant));
  const object = join(place, "mutant.o");
  const from = source === path ? changed : source;
  const compiled = await build.runCompiler(build.compileArguments(from, object, [place]), "ignore");
  return compiled ? object : null;
}

/** "killed", "survived" or "invalid", and how. */
async function judge(mutant, programs, worker) {
  const place = join(folder, `worker-${worker}`, mutant.id);
  let outcome = "no test";
  for (const { program, source } of affected(mutant, programs)) {
    const seconds = await baselineSeconds(program);
    const object = await compileMutant(mutant, source, place);
    if (!object) return { outcome: "invalid", how: "does not compile" };
    const path = join(place, "test");
    const objects = program.sources.map((each) => (each === source ? object : build.objectOf(each)));
    if (!build.link(path, objects)) return { outcome: "invalid", how: "does not link" };
    outcome = await runProgram(path, 30 + 5 * seconds);
    if (outcome !== "passed")
      return { outcome: "killed", how: `${basename(program.test, ".cc")}: ${outcome}` };
  }
  return { outcome: "survived", how: outcome };
}

/** Changes when anything does that the mutant's verdict depends on. */
function keyOf(mutant, programs) {
  const used = new Set(affected(mutant, programs).flatMap(({ program }) => program.sources));
  const paths = new Set([...used].flatMap((source) => [...filesOf(source)]));
  return hash(JSON.stringify([mutant, [...paths].sort().map((path) => hash(contentOf(path)))]));
}

const describe = ({ id, file, line, rule, before, after }) =>
  `${id} ${file}:${line} ${rule}: ${before} -> ${after.trim()}`;

/** Compiles the tests of these mutants. */
async function buildTests(mutants, programs) {
  const used = new Set(mutants.flatMap((mutant) => affected(mutant, programs).map(({ program }) => program)));
  mkdirSync(build.out, { recursive: true });
  if (!(await build.compileAll([...new Set([...used].flatMap(({ sources }) => sources))]))) process.exit(1);
}

async function judgeAll(mutants) {
  const programs = testPrograms();
  const results = readJson(resultsPath, {});
  const waiting = mutants.map((mutant) => ({ mutant, key: keyOf(mutant, programs) }));
  const stale = waiting.filter(({ mutant, key }) => results[mutant.id]?.key !== key);
  await buildTests(
    stale.map(({ mutant }) => mutant),
    programs,
  );
  const work = async (worker) => {
    while (waiting.length > 0) {
      const { mutant, key } = waiting.shift();
      if (results[mutant.id]?.key !== key) {
        results[mutant.id] = { key, ...(await judge(mutant, programs, worker)) };
        writeFileSync(resultsPath, JSON.stringify(results, null, 1));
      }
      const { outcome, how } = results[mutant.id];
      console.log(`${outcome.padEnd(8)} ${describe(mutant)} (${how})`);
    }
  };
  await Promise.all(Array.from({ length: Number(process.env.JOBS ?? 2) }, (_, worker) => work(worker)));
  return mutants.map((mutant) => ({ mutant, ...results[mutant.id] }));
}

/** survivors.json: [{ id, mutant, reason }] */
function report(judged) {
  const known = new Set(readJson("test/mutants/survivors.json", []).map(({ id }) => id));
  const valid = judged.filter(({ outcome }) => outcome !== "invalid");
  const killed = valid.filter(({ outcome }) => outcome === "killed");
  const unknown = valid.filter(({ mutant, outcome }) => outcome === "survived" && !known.has(mutant.id));
  const rate = valid.length === 0 ? 0 : killed.length / valid.length;
  for (const { mutant } of unknown) console.log(`SURVIVED without a reason: ${describe(mutant)}`);
  const percent = (100 * rate).toFixed(1);
  console.log(
    `${killed.length} of ${valid.length} mutants killed (${percent} %), ${judged.length - valid.length} invalid`,
  );
  // A few of a sample prove no rate.
  const enough = options.sample || rate >= demandedRate;
  process.exit(enough && unknown.length === 0 && valid.length > 0 ? 0 : 1);
}

mkdirSync(folder, { recursive: true });
const mutants = chosenMutants();
if (options.list) {
  for (const mutant of mutants) console.log(describe(mutant));
  console.log(`${mutants.length} mutants`);
} else {
  report(await judgeAll(mutants));
}
