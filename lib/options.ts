import type { AdapterChoice } from "./adapter";
import type { Model } from "./model";
import type { ToolDefinition } from "./tool-definition";

/** How a request stands among the others. Results do not depend on it. */
export interface SchedulingOptions {
  /**
   * An integer from -1000 to 1000, higher first; default 0. Decides who starts, who reads its prompt first and who
   * gives up memory when that is short. A level is worth ten seconds: one that is passed over so long gets a turn.
   */
  priority?: number;
  /**
   * Whose request this is: tenants of one priority get equal shares of the tokens computed, whatever the number of
   * their requests. Default "".
   */
  tenant?: string;
  /**
   * Milliseconds from the call, to the whole reply. What is not complete then ends with a `DeadlineExceeded` error
   * that carries what there is. Default: none.
   */
  deadline?: number;
  /** Ends the request with an `Aborted` error that carries what there is. */
  signal?: AbortSignal;
}

/**
 * How one reply is generated. Everything is optional; what is left out comes from the model's own metadata, else
 * from the defaults named.
 */
export interface GenerationOptions extends SchedulingOptions {
  /**
   * What changes the model's weights for this request: an adapter or its name, or several with factors, whose changes
   * add up. Requests with other adapters or none run in the same batch. Default: none.
   */
  adapter?: AdapterChoice;
  /** Default: to the context's end. */
  maxTokens?: number;
  /** 0 (default) is greedy: the most likely token. */
  temperature?: number;
  /** Keep the `topK` most likely tokens; 0 (default) keeps all. */
  topK?: number;
  /** Keep the smallest set of tokens whose probabilities sum to `topP`; 1 (default) keeps all, 0 one. */
  topP?: number;
  /** Drop tokens less likely than `minP` times the most likely one; 0 (default) drops none. */
  minP?: number;
  /** Divides positive and multiplies negative logits of tokens seen in the prompt or reply; 1 (default) is off. */
  repetitionPenalty?: number;
  /** Subtracted from a token's logit once for each time it occurs in the reply; 0 (default) is off. */
  frequencyPenalty?: number;
  /** Subtracted from the logit of each token that occurs in the reply; 0 (default) is off. */
  presencePenalty?: number;
  /**
   * An integer from 0 to 2^53 - 1. The same seed gives the same tokens, whatever else runs. Default: random,
   * reported.
   */
  seed?: number;
  /** Strings that end the reply. They are not part of `text`, also where they straddle tokens. */
  stop?: string | string[];
  /** Go on past end tokens, to `maxTokens`. */
  ignoreEos?: boolean;
  /** Report each token's log-probability and that of so many alternatives (0 to 64). */
  logprobs?: number;
  /**
   * Prefixes in the KV cache are shared among requests with the same salt alone, so that nobody can tell from the
   * time to a first token what others have asked. Give each tenant an own secret. Default: "".
   */
  cacheSalt?: string;
  /**
   * Guess several tokens ahead and check them all in one step; what the model would not have drawn is dropped, so the
   * reply is the same bit for bit, only sooner. "promptLookup" guesses that the reply goes on as the prompt or the
   * reply did after the same tokens: it pays where replies quote (summaries, edits, code, extracted fields), and
   * costs next to nothing elsewhere. Another loaded model, a several times smaller one with the same vocabulary, writes
   * ahead as far as its guesses come true often enough for what they cost; beyond its own context it guesses nothing.
   * It reads the prompt too, in pieces beside the reply's first tokens, and its keys and values for this take as much
   * again as its own memory budget leaves for such. Guesses are made while few replies run. A draft model of another
   * vocabulary is refused as `Incompatible`, a disposed one as `Disposed`. Default: none.
   */
  draft?: "promptLookup" | Model;
  /**
   * Share one generation with equal requests of this model object that are in flight: the same prompt, options,
   * tenant and salt, temperature 0 and no deadline. Each reply keeps its own pace and can be left by itself. Default
   * false.
   */
  coalesce?: boolean;
}

/** How a conversation is answered. */
export interface ChatOptions extends GenerationOptions {
  /**
   * Functions that the model may ask to have called, which the model's chat template tells it of: the same for all
   * turns of a conversation. The reply is what the model says, calls included, as text in the model's own form.
   * Special tokens spelled in definitions are text to the model. A template that does not take tools is refused as
   * `InvalidArgument`. Default: none.
   */
  tools?: readonly ToolDefinition[];
}

/** How a text is scored. */
export interface ScoreOptions extends SchedulingOptions {
  /** As in {@link GenerationOptions}. */
  adapter?: AdapterChoice;
  /** Who may reuse the text's prefix, as in {@link GenerationOptions}; a score itself reuses none. */
  cacheSalt?: string;
}

/** Where a model's bytes are on their way from. */
export interface Progress {
  phase: "download" | "load" | "quantize";
  /** Bytes done and to be done in this phase; `total` is 0 while it is not known. */
  loaded: number;
  total: number;
  /** What is being fetched or read. */
  file: string;
}

export interface LogEvent {
  level: "debug" | "info" | "warn";
  message: string;
}

export interface SourceOptions {
  /** Aborts download and load. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** What the library would like to say; it prints nothing itself. */
  onLog?: (event: LogEvent) => void;
}

/** The kinds of file that `quantizeModel` writes, as the field names them. Q4_K and Q5_K are Q4_K_M and Q5_K_M. */
export const fileTypes = [
  "F32",
  "F16",
  "BF16",
  "Q4_0",
  "Q4_1",
  "Q5_0",
  "Q5_1",
  "Q8_0",
  "Q4_K_S",
  "Q4_K_M",
  "Q5_K_S",
  "Q5_K_M",
  "Q6_K",
  "Q4_K",
  "Q5_K",
] as const;

export type FileType = (typeof fileTypes)[number];

/** How a model is written in another type. */
export interface QuantizeOptions extends SourceOptions {
  /**
   * What the weights become. The `_S` and `_M` kinds mix types as the field does: more bits for the tensors that
   * matter most. In all but "Q8_0" and the floats the output matrix, which small models share with their
   * embedding, gets Q6_K; rows that a type's blocks do not divide get the nearest type whose blocks do.
   */
  type: FileType;
  /** Give every matrix the one type, also the output. Default false. */
  pure?: boolean;
  /** Take sources that are quantized already, whose losses add up. Default false. */
  allowRequantize?: boolean;
  /** Replace the output where it exists. Default false. */
  overwrite?: boolean;
  /** Threads that compute. Default: physical cores within affinity and cgroup quota. */
  threads?: number;
}

/** How an adapter is merged into a model. */
export interface MergeOptions extends SourceOptions {
  /** Multiplies what the adapter adds. Default 1. */
  scale?: number;
  /** What the weights become, as in {@link QuantizeOptions}. Default: each tensor keeps its own type. */
  type?: FileType;
  /** Replace the output where it exists. Default false. */
  overwrite?: boolean;
  /** Threads that compute. Default: physical cores within affinity and cgroup quota. */
  threads?: number;
}

/** What `quantizeModel` or `mergeAdapter` has written. */
export interface QuantizeResult {
  /** An absolute path. */
  path: string;
  inputBytes: number;
  outputBytes: number;
  /** The types of the output's tensors, by bytes. */
  types: { type: string; tensors: number; bytes: number }[];
}

/**
 * Bytes, or a share of the free memory such as "50%". What the model itself holds already counts as free, so that a
 * share means the same at the load and later.
 */
export type MemoryBudget = number | `${number}%`;

/** What computes: `"cuda:1"` is the second of the GPUs that NVIDIA's driver shows. */
export type DeviceChoice = "auto" | "cpu" | "cuda" | `cuda:${number}`;

/** How a model is loaded. */
export interface LoadOptions extends SourceOptions {
  /**
   * "cpu"; "cuda", NVIDIA's GPUs, or "cuda:1", one of them: what is missing for that is a `DeviceUnavailable` error.
   * "auto" (default) takes GPUs where the package tokenmill-cuda-linux-x64 is installed, the driver is fit and they
   * hold the model with some context, else the CPU; `info.device.reason` and `onLog` say why. GPUs are of compute
   * capability 8.0 (Ampere) or later.
   */
  device?: DeviceChoice;
  /** Tokens of context a reply can have. Default and maximum: as trained. */
  contextLength?: number;
  /** Threads that compute, the engine's own included. Default: physical cores within affinity and cgroup quota. */
  threads?: number;
  /**
   * How exactly activations enter products with quantized weights. "fast" (default) rounds them to 8 bits, as
   * other engines do; "high" to 15 bits, which practically equals computing in f32. One reply at a time costs
   * little more then, since reading the weights takes the time; prompts and many replies at once take up to
   * twice as long. With BF16 weights, "fast" rounds activations to BF16 where the CPU multiplies those (AVX-512
   * BF16); "high" does not round them.
   */
  precision?: "fast" | "high";
  /**
   * Quantize the matrices of an F32, F16 or BF16 file while they are read: "int8" (Q8_0) halves what F16 takes and
   * changes results hardly; "int4" (Q4_K, or Q4_1 where its blocks do not fit; the output matrix in 6 or 8 bits)
   * takes a third and loses what such files lose. Loading takes longer; `quantizeModel` does it once. Default: as
   * the file has them. Files that are quantized already are refused.
   */
  quantize?: "int8" | "int4";
  /**
   * How keys and values of past tokens are held: "f16" (default), or "int8" with a scale per token and head, in about
   * half the memory, which long contexts also read faster.
   */
  kvCache?: { type?: "f16" | "int8" };
  /**
   * Keep the weights as packed for this machine in the cache folder (about as large as the model's file; all such
   * files together at most 8 GiB), so that the next load maps them and processes share them. Default: true, unless
   * the environment has TOKENMILL_PACKED_CACHE=0.
   */
  packedCache?: boolean;
  /**
   * Keep keys and values of prompts and replies as long as nobody needs their memory, so that a request begins behind
   * the longest prefix that an earlier one had, and equal prompts are computed once. Results do not depend on it.
   * Default true: what nobody uses takes at most a quarter of the memory budget's part for keys and values, or 256 MiB
   * where that is more; `maxBytes` sets another bound.
   */
  prefixCache?: boolean | { maxBytes?: number };
  /** Tokens computed in one step at most, of all replies together. Default 512. Results do not depend on it. */
  maxBatchTokens?: number;
  /**
   * Milliseconds that a token of a running reply should take at most (time per output token). Prompts are read
   * beside running replies in chunks that keep it, as far as the replies alone do, and at least 16 tokens long, where
   * these take no more than 12 ms. Default: chunks that make a step at most about half longer. Results do
   * not depend on it.
   */
  targetTpot?: number;
  /** Requests that may wait for their start; one more is refused as `Overloaded`. Default 4096. */
  maxQueue?: number;
  memory?: {
    /**
     * For weights, KV cache and scratch together. Default: "50%"; committed as used. On GPUs a share is of what is
     * free on those that hold the model.
     */
    budget?: MemoryBudget;
    /**
     * Bytes that adapters may take besides. Those that no request uses leave memory when others need their room, and
     * are read from their files again; while those in use fill it, requests for others are refused as `Overloaded`.
     * Default: an eighth of the free memory, 1 GiB at most.
     */
    adapters?: number;
  };
}
