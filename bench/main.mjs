// npm run bench -- peers | kernels | reuse | adapters | serve | compare: what this library does on this machine,
// against others and against the machine's own limits.
import { createRequire } from "node:module";
import { Command, InvalidArgumentError } from "commander";
import { engines, oursName } from "./engines/catalog.mjs";
import { modelNames } from "./models/catalog.mjs";

const require = createRequire(import.meta.url);
const { reportError } = require("../dist/cli/exit.js");
const { collect, wholeNumber } = require("../dist/cli/option-parsers.js");

const listOf = (text) => text.split(",").filter((item) => item !== "");

function engineList(text) {
  const names = listOf(text);
  const unknown = names.find((name) => !Object.hasOwn(engines, name));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(
    `There is no engine '${unknown}'; known are ${Object.keys(engines).join(", ")}.`,
  );
}

function addPeers(program) {
  program
    .command("peers")
    .summary("measure against other engines and the machine's limits")
    .description(
      "Measures each model on each engine, interleaved round by round, and prints a table and a JSON file.",
    )
    .option(
      "--model <name>",
      `path, or one of ${modelNames.join(", ")}; repeatable (default: these)`,
      collect,
    )
    .option("--engines <a,b>", `peers of ${oursName}, of ${Object.keys(engines).join(", ")}`, engineList)
    .option("--works <a,b>", "works such as prefill-512, decode-0, streams-8, load-cold, peak-rss", listOf)
    .option("--rounds <number>", "rounds to measure (default: 7, or 3 with --quick)", wholeNumber(1))
    .option("--quick", "shorter works and fewer rounds", false)
    .option(
      "--threads <number>",
      "threads of every engine (default: the physical cores)",
      wholeNumber(1, 255),
    )
    .option("--python <path>", "the Python to use for the peers whose packages it has")
    .option("--no-install", "leave out engines that are not installed")
    .option("--timeout <seconds>", "time for one answer of an engine", wholeNumber(1), 1800)
    .option("--out <file>", "the JSON file (default: one in bench/results)")
    .action(async (options) => {
      const ok = await (await import("./peers/command.mjs")).peers(options);
      if (!ok) process.exitCode = 1;
    });
}

function addKernels(program) {
  program
    .command("kernels")
    .summary("measure the operations one by one")
    .description(
      "Measures each operation of the CPU backend on shapes of real models: its time, the part of the machine's " +
        "peak that it reaches, and how much faster than the reference backend it is.",
    )
    .option("--op <name>", "matmul, attention, head or norm")
    .option("--format <name>", "a format such as Q4_0")
    .option("--shape <text>", "shapes whose names contain this, such as 'llama-1b' or 'gate'")
    .option("--rows <number>", "one number of rows", wholeNumber(1))
    .option("--rounds <number>", "rounds to measure (default: 7, or 3 with --quick)", wholeNumber(1))
    .option("--quick", "fewer rounds", false)
    .option("--threads <number>", "threads (default: the physical cores)", wholeNumber(1, 255))
    .option("--no-reference", "leave the reference backend out")
    .option("--out <file>", "the JSON file (default: one in bench/results)")
    .action(async (options) => (await import("./kernels/command.mjs")).kernels(options));
}

function addReuse(program) {
  program
    .command("reuse")
    .summary("measure shared prefixes, guessed tokens and forks")
    .description(
      "Measures what is gained where work need not be done again: decoding with guesses from the prompt or of a " +
        "draft model over decoding without, requests whose prompts begin alike, and forks of a long conversation.",
    )
    .option(
      "--model <name>",
      "an instruct model: a path or a name of the peers' list",
      "smollm2-135m-instruct",
    )
    .option("--rounds <number>", "rounds to measure", wholeNumber(1), 7)
    .option("--threads <number>", "threads (default: the physical cores)", wholeNumber(1, 255))
    .option("--out <file>", "the JSON file (default: one in bench/results)")
    .action(async (options) => {
      if (!(await (await import("./reuse/command.mjs")).reuse(options))) process.exitCode = 1;
    });
}

function addAdapters(program) {
  program
    .command("adapters")
    .summary("measure what adapters cost")
    .description(
      "Measures streams with adapters (LoRA) over the same streams without, and loading adapters. The adapters have " +
        "random factors on all linear layers.",
    )
    .option("--model <name>", `path, or one of ${modelNames.join(", ")}`, "smollm2-135m-instruct")
    .option("--streams <number>", "streams at once", wholeNumber(1, 1024), 16)
    .option("--rank <number>", "rank of each adapter", wholeNumber(1, 256), 16)
    .option("--rounds <number>", "rounds to measure", wholeNumber(1), 7)
    .option("--threads <number>", "threads (default: the physical cores)", wholeNumber(1, 255))
    .option("--out <file>", "the JSON file (default: one in bench/results)")
    .action(async (options) => (await import("./adapters/command.mjs")).adapters(options));
}

function percentList(text) {
  const percents = listOf(text).map(Number);
  if (percents.length > 0 && percents.every((percent) => percent > 0 && percent <= 100)) return percents;
  throw new InvalidArgumentError("Loads are numbers of percent above 0 and up to 100, with commas between.");
}

function addServe(program) {
  program
    .command("serve")
    .summary("measure under the load of a service")
    .description(
      "Answers requests of random lengths, first as fast as it can, then as they arrive at parts of that rate, and a " +
        "long prompt among running replies; prints a table and writes a JSON file and a plot (SVG).",
    )
    .option("--model <name>", `path, or one of ${modelNames.join(", ")}`, "smollm2-135m-instruct")
    .option(
      "--seconds <number>",
      "seconds measured at each load (default: 120, or 20 with --quick)",
      wholeNumber(1),
    )
    .option(
      "--loads <a,b>",
      "percents of the saturated rate (default: 20,40,60,80, or 60 with --quick)",
      percentList,
    )
    .option("--seed <number>", "of lengths, prompts and arrivals", wholeNumber(0, 1_000_000), 1)
    .option("--target-tpot <milliseconds>", "the model's targetTpot (default: none)", wholeNumber(1))
    .option("--quick", "fewer seconds, loads and rounds", false)
    .option("--threads <number>", "threads (default: the physical cores)", wholeNumber(1, 255))
    .option("--timeout <seconds>", "time for one phase", wholeNumber(1), 1800)
    .option("--out <file>", "the JSON file (default: one in bench/results); the plot lies beside it")
    .action(async (options) => (await import("./serve/command.mjs")).serve(options));
}

function addCompare(program) {
  program
    .command("compare")
    .summary("compare two results")
    .description(
      "Compares two JSON files of the same kind and marks the changes beyond the noise of their rounds.",
    )
    .argument("<A>", "the earlier result")
    .argument("<B>", "the later result")
    .action(async (a, b) => (await import("./compare/command.mjs")).compare(a, b));
}

const program = new Command("bench")
  .description("Measures tokenmill on this machine.")
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, "bench:")) });
addPeers(program);
addKernels(program);
addReuse(program);
addAdapters(program);
addServe(program);
addCompare(program);

try {
  await program.parseAsync(process.argv.slice(2), { from: "user" });
} catch (error) {
  process.exitCode = reportError(error);
}
