import { TokenmillError } from "../errors";
import { printable } from "../printable";
import { matchPatterns } from "./module-patterns";
import { parseStrictJson, type StrictJson, type StrictObject } from "./strict-json";

/** The largest rank that kernels take, as native/ops/adapter.h has it. */
export const rankMaximum = 256;

const configFile = "adapter_config.json";

/** What an adapter_config.json says of how its factors are to be used. */
export interface PeftConfig {
  rank: number;
  alpha: number;
  /** Scales by alpha / sqrt(rank) instead of alpha / rank. */
  rankStabilized: boolean;
  rankPattern: [pattern: string, rank: number][];
  alphaPattern: [pattern: string, alpha: number][];
  /** Names of modules or ends of their paths; undefined where an expression stands instead. */
  targets?: ReadonlySet<string>;
  /** "" when it does not say. */
  baseModel: string;
}

/** Settings under which results are other than W + scale * B A, each with why it cannot be followed. */
const refusals: Record<string, string> = {
  use_dora: "its weights are normalized (DoRA)",
  use_qalora: "its inputs are pooled (QA-LoRA)",
  use_bdlora: "its factors are block-diagonal",
  lora_bias: "it has biases of its own",
  alora_invocation_tokens: "it acts behind certain tokens alone (aLoRA)",
  layer_replication: "it repeats layers of the base model",
  target_parameters: "it changes parameters that are not modules of their own",
  trainable_token_indices: "it replaces rows of the embedding",
  modules_to_save: "it replaces whole modules, which adapters here cannot",
  arrow_config: "it routes between adapters",
  kasa_config: "its factors have singular values of their own (KaSA)",
  monteclora_config: "its factors are sampled",
};

/**
 * Beginnings of training that take their factors off the base model's weights, which then are not the file's. PEFT
 * takes them in any case.
 */
const changedBases = /^(pissa|olora|corda|loftq|lora_ga|mica)/i;

function unsupported(key: string, found: StrictJson, why: string): TokenmillError {
  const text = printable(JSON.stringify(found instanceof Map ? Object.fromEntries(found) : found)).slice(
    0,
    120,
  );
  return new TokenmillError(
    "UnsupportedModel",
    `${configFile} has '${key}': ${text}: ${why}. Merge it with PEFT and convert the model, or train without it`,
  );
}

function isSet(value: StrictJson | undefined): value is StrictJson {
  if (value === undefined || value === null || value === false) return false;
  return Array.isArray(value) ? value.length > 0 : value instanceof Map ? value.size > 0 : true;
}

function wrong(key: string, expected: string): TokenmillError {
  return new TokenmillError("CorruptFile", `${configFile} has '${key}' that is not ${expected}`);
}

function rankOf(value: StrictJson | undefined, key: string): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1)
    throw wrong(key, "a whole number from 1 on");
  if (value > rankMaximum) {
    throw new TokenmillError(
      "UnsupportedModel",
      `${configFile} has '${key}': ${value}; ranks of at most ${rankMaximum} can run`,
    );
  }
  return value;
}

function alphaOf(value: StrictJson | undefined, key: string): number {
  if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) throw wrong(key, "a finite number");
  return value;
}

function patternsOf(
  config: StrictObject,
  key: string,
  read: (value: StrictJson, key: string) => number,
): [string, number][] {
  const patterns = config.get(key);
  if (!isSet(patterns)) return [];
  if (!(patterns instanceof Map)) throw wrong(key, "an object");
  return [...patterns].map(([pattern, value]) => [
    pattern,
    read(value, `${key}: ${printable(pattern).slice(0, 100)}`),
  ]);
}

function targetsOf(config: StrictObject): ReadonlySet<string> | undefined {
  const targets = config.get("target_modules");
  if (!isSet(targets) || typeof targets === "string") return undefined;
  if (Array.isArray(targets) && targets.every((target) => typeof target === "string"))
    return new Set(targets as string[]);
  throw wrong("target_modules", "a list of names or an expression");
}

function refuseVariants(config: StrictObject): void {
  const type = config.get("peft_type");
  if (typeof type !== "string") throw wrong("peft_type", "a string");
  if (type !== "LORA") throw unsupported("peft_type", type, "only LORA can run");
  for (const [key, why] of Object.entries(refusals)) {
    const value = config.get(key);
    if (isSet(value)) throw unsupported(key, value, why);
  }
  const bias = config.get("bias") ?? "none";
  if (bias !== "none") throw unsupported("bias", bias, "it changes biases of the base model");
  const beginning = config.get("init_lora_weights");
  if (typeof beginning === "string" && changedBases.test(beginning))
    throw unsupported("init_lora_weights", beginning, "it belongs to a base model with changed weights");
}

/**
 * Reads an adapter_config.json. Settings that have to do with training alone are passed over, and `fan_in_fan_out` with
 * them: it tells how the base model stores a weight, the factors lie alike.
 *
 * @throws TokenmillError CorruptFile, or UnsupportedModel naming the setting that cannot be followed
 */
export function parsePeftConfig(bytes: Uint8Array): PeftConfig {
  const config = parseStrictJson(bytes, configFile);
  if (!(config instanceof Map))
    throw new TokenmillError("CorruptFile", `${configFile} is not an object of settings`);
  refuseVariants(config);
  const rankStabilized = config.get("use_rslora") ?? false;
  if (typeof rankStabilized !== "boolean") throw wrong("use_rslora", "true or false");
  const base = config.get("base_model_name_or_path");
  const targets = targetsOf(config);
  return {
    rank: rankOf(config.get("r"), "r"),
    alpha: alphaOf(config.get("lora_alpha"), "lora_alpha"),
    rankStabilized,
    rankPattern: patternsOf(config, "rank_pattern", rankOf),
    alphaPattern: patternsOf(config, "alpha_pattern", alphaOf),
    ...(targets === undefined ? {} : { targets }),
    baseModel: typeof base === "string" ? base : "",
  };
}

/** Rank and scale of each module, in their order. */
export function scalesOf(config: PeftConfig, modules: readonly string[]): { rank: number; scale: number }[] {
  const { rankPattern, alphaPattern } = config;
  const names = (patterns: [string, number][]) => patterns.map(([pattern]) => pattern);
  const ranks = matchPatterns(names(rankPattern), modules, "rank_pattern");
  const alphas = matchPatterns(names(alphaPattern), modules, "alpha_pattern");
  return modules.map((_, position) => {
    const rank = rankPattern[ranks[position] ?? -1]?.[1] ?? config.rank;
    const alpha = alphaPattern[alphas[position] ?? -1]?.[1] ?? config.alpha;
    return { rank, scale: alpha / (config.rankStabilized ? Math.sqrt(rank) : rank) };
  });
}
