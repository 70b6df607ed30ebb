import { isDraftModel } from "./draft-model";
import { TokenmillError } from "./errors";
import type { NativeBudget } from "./native";
import {
  type ChatOptions,
  fileTypes,
  type GenerationOptions,
  type LoadOptions,
  type MemoryBudget,
  type MergeOptions,
  type QuantizeOptions,
  type SchedulingOptions,
  type ScoreOptions,
  type SourceOptions,
} from "./options";

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === "number" || typeof value === "boolean" || value === null || value === undefined) {
    return String(value);
  }
  return Array.isArray(value) ? "an array" : `a value of type ${typeof value}`;
}

/** The error for an argument that is not what it should be. */
export function invalid(name: string, found: unknown, expected: string): TokenmillError {
  return new TokenmillError("InvalidArgument", `${name} is ${describe(found)}; expected ${expected}`);
}

interface Range {
  minimum: number;
  maximum: number;
  integer?: boolean;
}

export function checkNumber(name: string, value: unknown, { minimum, maximum, integer }: Range): void {
  if (value === undefined) return;
  const fits = typeof value === "number" && value >= minimum && value <= maximum;
  if (fits && (!integer || Number.isInteger(value))) return;
  throw invalid(name, value, `${integer ? "an integer" : "a number"} from ${minimum} to ${maximum}`);
}

export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") throw invalid(name, value, "a function");
}

export function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value as string)) return;
  throw invalid(name, value, choices.map((choice) => JSON.stringify(choice)).join(" or "));
}

export function checkFlag(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean") throw invalid(name, value, "true or false");
}

function checkString(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "string") throw invalid(name, value, "a string");
}

function checkSignal(value: unknown): void {
  if (value !== undefined && !(value instanceof AbortSignal))
    throw invalid("signal", value, "an AbortSignal");
}

export function checkObject(name: string, value: unknown): asserts value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(name, value, "an object");
}

export function checkKeys(name: string, value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    throw new TokenmillError(
      "InvalidArgument",
      `${name} has no option '${key}'; known are ${known.join(", ")}`,
    );
  }
}

const tokensMaximum = 2 ** 31 - 1;
/** The longest time that a timer takes. */
const millisecondsMaximum = 2 ** 31 - 1;

const generationRanges: Record<string, Range> = {
  maxTokens: { minimum: 0, maximum: tokensMaximum, integer: true },
  temperature: { minimum: 0, maximum: 100 },
  topK: { minimum: 0, maximum: tokensMaximum, integer: true },
  topP: { minimum: 0, maximum: 1 },
  minP: { minimum: 0, maximum: 1 },
  repetitionPenalty: { minimum: 0.01, maximum: 100 },
  frequencyPenalty: { minimum: -100, maximum: 100 },
  presencePenalty: { minimum: -100, maximum: 100 },
  seed: { minimum: 0, maximum: Number.MAX_SAFE_INTEGER, integer: true },
  logprobs: { minimum: 0, maximum: 64, integer: true },
};

const tenantLengthMaximum = 256;
const schedulingKeys = ["priority", "tenant", "deadline", "signal"];

function checkScheduling(options: SchedulingOptions): void {
  checkNumber("priority", options.priority, { minimum: -1000, maximum: 1000, integer: true });
  checkNumber("deadline", options.deadline, { minimum: 0, maximum: millisecondsMaximum });
  const { tenant } = options;
  if (tenant !== undefined && (typeof tenant !== "string" || tenant.length > tenantLengthMaximum))
    throw invalid("tenant", tenant, `a string of at most ${tenantLengthMaximum} characters`);
  checkSignal(options.signal);
}

const generationKeys = [
  ...Object.keys(generationRanges),
  "adapter", // LoadedAdapters knows which there are
  "stop",
  "ignoreEos",
  "cacheSalt",
  "draft",
  "coalesce",
  ...schedulingKeys,
];

function checkDraft(draft: unknown): void {
  if (draft === undefined || draft === "promptLookup" || isDraftModel(draft)) return;
  throw invalid("draft", draft, '"promptLookup" or a model that was loaded in this thread');
}

/** Refuses options that are unknown or out of range. */
export function checkGenerationOptions(options: GenerationOptions): void {
  checkObject("options", options);
  if ("tools" in options) {
    throw new TokenmillError(
      "InvalidArgument",
      "'tools' is an option of chat() and session() alone: it belongs to a conversation's messages",
    );
  }
  checkKeys("generation", options, generationKeys);
  for (const [name, range] of Object.entries(generationRanges)) checkNumber(name, options[name], range);
  stopStrings(options.stop as GenerationOptions["stop"]);
  checkFlag("ignoreEos", options.ignoreEos);
  checkString("cacheSalt", options.cacheSalt);
  checkFlag("coalesce", options.coalesce);
  checkDraft(options.draft);
  checkScheduling(options);
}

/** What options say of a conversation, and how its answer is generated; neither is checked yet. */
export function splitChatOptions(options: ChatOptions): [Pick<ChatOptions, "tools">, GenerationOptions] {
  if (typeof options !== "object" || options === null) return [{}, options];
  const { tools, ...generation } = options;
  return [tools === undefined ? {} : { tools }, generation];
}

/** Refuses options of `score` that are unknown or wrong. */
export function checkScoreOptions(options: ScoreOptions): void {
  checkObject("options", options);
  checkKeys("score", options, ["adapter", "cacheSalt", ...schedulingKeys]);
  checkString("cacheSalt", options.cacheSalt);
  checkScheduling(options);
}

/** The stop strings as an array. */
export function stopStrings(stop: GenerationOptions["stop"]): string[] {
  const strings = stop === undefined ? [] : Array.isArray(stop) ? stop : [stop];
  for (const string of strings) {
    if (typeof string !== "string" || string === "")
      throw invalid("stop", string, "a string that is not empty");
  }
  if (strings.length > 256) throw invalid("stop", strings, "at most 256 strings");
  return strings;
}

const sourceKeys = ["signal", "onProgress", "onLog"];
const loadKeys = [
  ...sourceKeys,
  "device",
  "contextLength",
  "threads",
  "memory",
  "maxBatchTokens",
  "targetTpot",
  "maxQueue",
  "precision",
  "quantize",
  "kvCache",
  "packedCache",
  "prefixCache",
];

function checkSource(name: string, options: object, known: readonly string[]): void {
  checkObject("options", options);
  checkKeys(name, options, known);
  checkSignal(options.signal);
  checkFunction("onProgress", options.onProgress);
  checkFunction("onLog", options.onLog);
}

/** Refuses options of a call that takes a source which are unknown or wrong. */
export function checkSourceOptions(options: SourceOptions, name: string): void {
  checkSource(name, options, sourceKeys);
}

function checkPrefixCache(value: unknown): void {
  if (value === undefined || typeof value === "boolean") return;
  if (typeof value !== "object" || value === null)
    throw invalid("prefixCache", value, "true, false or an object with maxBytes");
  checkKeys("prefixCache", value, ["maxBytes"]);
  checkNumber("prefixCache.maxBytes", (value as { maxBytes?: unknown }).maxBytes, {
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    integer: true,
  });
}

function checkDevice(value: unknown): void {
  if (value === undefined || (typeof value === "string" && /^(auto|cpu|cuda(:\d{1,3})?)$/.test(value)))
    return;
  throw invalid(
    "device",
    value,
    '"auto", "cpu", "cuda", or "cuda:" and the number of a GPU such as "cuda:1"',
  );
}

/** Refuses options of `loadModel` or `estimateMemory` that are unknown or out of range. */
export function checkLoadOptions(options: LoadOptions, name = "loadModel"): void {
  checkSource(name, options, loadKeys);
  checkDevice(options.device);
  checkNumber("contextLength", options.contextLength, { minimum: 1, maximum: tokensMaximum, integer: true });
  checkNumber("threads", options.threads, { minimum: 1, maximum: 255, integer: true });
  checkNumber("maxBatchTokens", options.maxBatchTokens, { minimum: 1, maximum: 8192, integer: true });
  checkNumber("targetTpot", options.targetTpot, { minimum: 0.001, maximum: millisecondsMaximum });
  checkNumber("maxQueue", options.maxQueue, { minimum: 1, maximum: tokensMaximum, integer: true });
  checkChoice("precision", options.precision, ["fast", "high"]);
  if (options.kvCache !== undefined) {
    checkObject("kvCache", options.kvCache);
    checkKeys("kvCache", options.kvCache, ["type"]);
    checkChoice("kvCache.type", options.kvCache.type, ["f16", "int8"]);
  }
  checkFlag("packedCache", options.packedCache);
  checkPrefixCache(options.prefixCache);
  checkChoice("quantize", options.quantize, ["int8", "int4"]);
  if (options.memory === undefined) return;
  checkObject("memory", options.memory);
  checkKeys("memory", options.memory, ["budget", "adapters"]);
  checkNumber("memory.adapters", options.memory.adapters, {
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    integer: true,
  });
  if (options.memory.budget !== undefined) toNativeBudget("memory.budget", options.memory.budget);
}

/** A memory budget as native code takes it. */
export function toNativeBudget(name: string, budget: MemoryBudget): NativeBudget {
  if (typeof budget === "number" && budget >= 1 && budget <= Number.MAX_SAFE_INTEGER)
    return { bytes: Math.floor(budget) };
  const percent = typeof budget === "string" ? /^(\d+(?:\.\d+)?)%$/.exec(budget)?.[1] : undefined;
  const share = Number(percent) / 100;
  if (share > 0 && share <= 1) return { share };
  throw invalid(
    name,
    budget,
    `bytes from 1 to ${Number.MAX_SAFE_INTEGER}, or a share of the free memory up to "100%", such as "50%"`,
  );
}

const quantizeFlags = ["pure", "allowRequantize", "overwrite"] as const;
const quantizeKeys = [...sourceKeys, "type", "threads", ...quantizeFlags];

/** Refuses options of `quantizeModel` that are unknown or wrong. */
export function checkQuantizeOptions(options: QuantizeOptions): void {
  checkSource("quantizeModel", options, quantizeKeys);
  if (!fileTypes.includes(options.type)) {
    throw invalid("type", options.type, `one of ${fileTypes.join(", ")}`);
  }
  checkNumber("threads", options.threads, { minimum: 1, maximum: 255, integer: true });
  for (const flag of quantizeFlags) checkFlag(flag, options[flag]);
}

/** Refuses options of `mergeAdapter` that are unknown or wrong. */
export function checkMergeOptions(options: MergeOptions): void {
  checkSource("mergeAdapter", options, [...sourceKeys, "type", "scale", "overwrite", "threads"]);
  checkChoice("type", options.type, fileTypes);
  checkNumber("scale", options.scale, { minimum: -1000, maximum: 1000 });
  checkNumber("threads", options.threads, { minimum: 1, maximum: 255, integer: true });
  checkFlag("overwrite", options.overwrite);
}

/** Token ids as native code takes them. */
export function toTokenArray(name: string, tokens: unknown, vocabularySize: number): Int32Array {
  if (!Array.isArray(tokens) && !(tokens instanceof Int32Array) && !(tokens instanceof Uint32Array)) {
    throw invalid(name, tokens, "an array of token ids");
  }
  for (const token of tokens as ArrayLike<unknown> & Iterable<unknown>) {
    if (typeof token === "number" && Number.isInteger(token) && token >= 0 && token < vocabularySize)
      continue;
    throw invalid(`a token of ${name}`, token, `an integer from 0 to ${vocabularySize - 1}`);
  }
  return Int32Array.from(tokens as ArrayLike<number>);
}
