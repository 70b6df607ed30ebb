import { loadModel } from "../load-model";
import type { Model, ModelInfo } from "../model";
import { resolveSource } from "../sources/resolve-source";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { type LoadChoices, loadOptions } from "./load-options";
import { write, writeJson } from "./output";
import { fetchSource } from "./pull";
import { formatBytes, formatTable } from "./text";

export interface BenchOptions extends LoadChoices {
  promptTokens: number;
  tokens: number;
  rounds: number;
  json?: boolean;
}

/** Tokens a second over the rounds. */
interface Speed {
  tokens: number;
  median: number;
  best: number;
  rounds: number[];
}

/** Decoding starts behind a prompt of so many tokens. */
const decodePromptTokens = 8;

/** Ids from the vocabulary's middle, other ones each round. */
function promptOf(length: number, vocabularySize: number, round: number): number[] {
  let state = round + 1;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((0.1 + 0.8 * (state / 2 ** 32)) * vocabularySize);
  });
}

function speedOf(tokens: number, rounds: number[]): Speed {
  const sorted = [...rounds].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
  return { tokens, median, best: sorted.at(-1) ?? 0, rounds };
}

async function measure(model: Model, options: BenchOptions, signal: AbortSignal) {
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let round = 0; round <= options.rounds; round++) {
    const long = promptOf(options.promptTokens, model.vocabularySize, 2 * round);
    const short = promptOf(decodePromptTokens, model.vocabularySize, 2 * round + 1);
    const filled = await model.generate(long, { maxTokens: 1, temperature: 0, ignoreEos: true, signal });
    const decoded = await model.generate(short, {
      maxTokens: options.tokens,
      temperature: 0,
      ignoreEos: true,
      signal,
    });
    if (round === 0) continue;
    prefill.push(filled.timings.prefillTokensPerSecond);
    decode.push(decoded.timings.decodeTokensPerSecond);
  }
  return { prefill: speedOf(options.promptTokens, prefill), decode: speedOf(options.tokens, decode) };
}

function checkRoom(info: ModelInfo, { promptTokens, tokens }: BenchOptions): void {
  const needed = Math.max(promptTokens + 1, decodePromptTokens + tokens);
  if (needed > info.contextLength) {
    throw new UsageError(
      `The measurement needs ${needed} tokens of context; the model has ${info.contextLength}`,
    );
  }
}

async function benchModel(source: string, options: BenchOptions, signal: AbortSignal) {
  const { path, name } = await fetchSource(source, signal, resolveSource);
  const startMs = performance.now();
  const model = await loadModel(path, { ...loadOptions(options), prefixCache: false, signal });
  const loadMs = performance.now() - startMs;
  try {
    checkRoom(model.info, options);
    const speeds = await measure(model, options, signal);
    const rssBytes = process.memoryUsage.rss();
    const rssBytesMaximum = process.resourceUsage().maxRSS * 1024;
    const { chatTemplate, ...info } = model.info;
    return { model: { source: name, ...info }, loadMs, ...speeds, rssBytes, rssBytesMaximum };
  } finally {
    await model.dispose();
  }
}

function describeSpeed(name: string, { tokens, median, best }: Speed): string[] {
  return [name, `${tokens} tokens`, median.toFixed(1), best.toFixed(1)];
}

function describeDevice(device: ModelInfo["device"]): string {
  if (device.type === "cuda") return `${device.name} (cuda:${device.index})`;
  return `${device.isa}, ${device.threads} ${device.threads === 1 ? "thread" : "threads"}`;
}

function describeResult(result: Awaited<ReturnType<typeof benchModel>>): string {
  const { model, loadMs, prefill, decode, rssBytes, rssBytesMaximum } = result;
  const rows = [describeSpeed("prefill", prefill), describeSpeed("decode", decode)];
  return [
    `${model.name}, ${model.architecture} ${model.quantization}, ${formatBytes(model.fileBytes)}; `,
    `${describeDevice(model.device)}\n`,
    formatTable([["", "", "MEDIAN tokens/s", "BEST tokens/s"], ...rows], [2, 3]),
    `load     ${Math.round(loadMs)} ms\n`,
    `memory   ${formatBytes(rssBytes)} resident, ${formatBytes(rssBytesMaximum)} at most\n`,
  ].join("");
}

/** `tokenmill bench`: how fast a model is here. */
export async function bench(source: string, options: BenchOptions): Promise<void> {
  const result = await withInterrupt((signal) => benchModel(source, options, signal));
  if (options.json) await writeJson(result);
  else await write(describeResult(result));
}
