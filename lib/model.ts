/// <reference lib="esnext.disposable" preserve="true" />

import type { Adapter, AdapterOptions } from "./adapter";
import type { BatchInput, BatchOptions, BatchResult } from "./batch/batch-item";
import type { ChatMessage } from "./chat-message";
import type { ChatOptions, GenerationOptions, MemoryBudget, ScoreOptions } from "./options";
import type { Reply } from "./reply";
import type { Session } from "./session/session";
import type { SessionOptions } from "./session/session-options";

/** The CPU, and the instruction set that is used. */
export interface CpuDevice {
  type: "cpu";
  isa: "reference" | "avx2" | "avxvnni" | "avx512" | "avx512bf16" | "neon" | "neon-i8mm";
  threads: number;
  /** Why this one, and where `device` was "auto" why no GPU. */
  reason: string;
}

/** An NVIDIA GPU; of several that hold one model, the first. */
export interface CudaDevice {
  type: "cuda";
  name: string;
  /** Among those that the driver shows, from 0 on. */
  index: number;
  /** For example "8.9". */
  computeCapability: string;
  reason: string;
}

export interface ModelInfo {
  /** general.name of the file, or its file name. */
  name: string;
  /** The file's path. */
  path: string;
  architecture: string;
  /** Weights counted in elements. */
  parameters: number;
  /** Bytes of the file. */
  fileBytes: number;
  /** The quantization most of the weights have, for example "Q4_1". */
  quantization: string;
  contextLength: number;
  trainedContextLength: number;
  vocabularySize: number;
  embeddingLength: number;
  layers: number;
  /** What computes. */
  device: CpuDevice | CudaDevice;
  capabilities: { generate: boolean; chat: boolean; score: boolean; embed: boolean };
  /** The model's Jinja chat template, when it has one. */
  chatTemplate?: string;
}

/** A distribution in fixed buckets. */
export interface Histogram {
  /** Upper bounds of the buckets, ascending; a value that equals one belongs below it. */
  bounds: number[];
  /** Values in each bucket, and last those above all bounds: one more than there are bounds. */
  counts: number[];
  /** Of all values. */
  sum: number;
}

export interface ModelStats {
  /** Replies that wait, run, and wait for their reader. */
  queued: number;
  running: number;
  paused: number;
  /** Since the load. */
  finished: number;
  aborted: number;
  failed: number;
  preempted: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  steps: number;
  /** Since the load. Times are in milliseconds. */
  histograms: {
    /** From each request's arrival to its first step. */
    queueMs: Histogram;
    /** From each reply's arrival to its first token. */
    ttftMs: Histogram;
    /** Each ended reply's mean time between tokens. */
    tpotMs: Histogram;
    /** Tokens computed in each step. */
    stepRows: Histogram;
    /** Requests in each step. */
    stepSequences: Histogram;
    /** Pages of the KV cache in use after each step. */
    pagesUsed: Histogram;
  };
  /**
   * Pages of `size` tokens: those of replies that run or are paused and of sessions, those that hold earlier prefixes
   * and can be had at any time, and free ones; `maximum` is what the memory budget allows.
   */
  pages: { size: number; used: number; cached: number; free: number; maximum: number };
  /** Starts and resumptions that looked for a known prefix, those that found one and its tokens; pages given up. */
  prefix: { lookups: number; hits: number; hitTokens: number; evictedPages: number };
  /** Tokens guessed for replies with `draft`, from the prompt or by a draft model, and those of them that came true. */
  draft: { guessedTokens: number; acceptedTokens: number };
  bytes: { weights: number; kv: number; scratch: number; budget: number };
  /**
   * Different adapters that are loaded, those of them in memory, their bytes and what these may be, and how often one
   * had to be read again.
   */
  adapters: { registered: number; loaded: number; bytes: number; budget: number; reloads: number };
}

export interface Score {
  tokens: number[];
  /** logprobs[i]: natural log of the probability of tokens[i] given those before it; NaN for the first. */
  logprobs: Float32Array;
}

export interface TokenizeOptions {
  /** Recognize special tokens spelled out in the text. Default false: they are plain text. */
  special?: boolean;
  /** Put the beginning-of-sequence token first. Default: as the model's metadata says. */
  bos?: boolean;
}

/** Text to token ids and back, as the model was trained. */
export interface Tokenizer {
  readonly vocabularySize: number;
  tokenize(text: string, options?: TokenizeOptions): number[];
  detokenize(tokens: readonly number[], options?: { special?: boolean }): string;
}

/** A loaded model. Every call joins one continuous batch; there are no slots or contexts to manage. */
export interface Model extends Tokenizer, AsyncDisposable {
  readonly info: ModelInfo;
  /** Continues a prompt as it is. Strings are tokenized with the model's BOS; token arrays are taken as they are. */
  generate(prompt: string | readonly number[], options?: GenerationOptions): Reply;
  /** Answers a conversation through the model's own chat template. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Reply;
  /**
   * Answers many requests, however many: inputs are taken as the engine has room for them and results are read, so
   * memory stays bounded. An item that fails gives its error as its result; an input without `id` has its index as id.
   * Leaving the loop early cancels what runs and calls the source's `return()`. A source that throws, the signal,
   * `stopOnError` and `dispose()` end the iteration with their error, after the results that were there.
   *
   * @throws TokenmillError InvalidArgument for wrong inputs or options, Disposed
   * @example
   * for await (const { id, completion, error } of model.generateMany(prompts, { maxTokens: 50 })) {
   *   console.log(id, error ? error.message : completion.text);
   * }
   */
  generateMany(
    inputs: AsyncIterable<BatchInput> | Iterable<BatchInput>,
    options?: BatchOptions,
  ): AsyncIterableIterator<BatchResult>;
  /**
   * A conversation that remembers its turns and keeps what was computed for them.
   *
   * @throws TokenmillError InvalidArgument for wrong messages or options, UnsupportedModel where there is no chat
   *   template, Disposed
   */
  session(options?: SessionOptions): Session;
  /**
   * A session from `session.snapshot()`. It goes on as the original does, without reading its conversation again; where
   * the memory for its pages is not there, or the prefix cache is off, it reads it with the next turn. A snapshot is
   * bound to the model's file, `quantize`, `precision` and `kvCache`, not to the machine or, but for `reference` and
   * BF16 weights on AVX-512 BF16, to its instruction set.
   *
   * What is restored is kept apart in the prefix cache, for nobody can tell whether its pages hold what they should:
   * only this session and its forks go on from them, and no other request's reply or `cachedTokens` depends on them.
   *
   * A conversation with adapters wants equal ones loaded, under these or other names.
   *
   * @throws TokenmillError CorruptFile for one that is damaged, Incompatible for one of another model, other options or
   *   another version, or with adapters that are not loaded, InvalidArgument, OutOfMemory, Disposed. Nothing has
   *   changed then.
   * @example
   * const session = await model.restore(await readFile("conversation.bin"));
   */
  restore(snapshot: Uint8Array): Promise<Session>;
  /**
   * Loads a low-rank adapter (LoRA), which requests then name in their option `adapter`: a folder as PEFT saves it, a
   * GGUF file, or a source as `loadModel` takes it. What runs goes on meanwhile. Loaded again, equal ones take memory
   * once; with name and scale equal too it is the same object, which stays until it was unloaded as often.
   *
   * @throws TokenmillError ModelNotFound; CorruptFile, UnsupportedModel, UnsupportedQuantization or Incompatible (made
   *   for another model) naming the setting or the tensor; InvalidArgument for wrong options or a name that another
   *   adapter has; Download, Aborted, OutOfMemory, Disposed. Nothing has changed then.
   * @example
   * const polite = await model.loadAdapter("./adapters/polite");
   * const [a, b] = await Promise.all([model.generate(prompt, { adapter: polite }), model.generate(prompt)]);
   */
  loadAdapter(source: string, options?: AdapterOptions): Promise<Adapter>;
  /** The adapters that requests can name, in the order of their loading. */
  adapters(): Adapter[];
  /** Log-probabilities of a given text. */
  score(input: string | readonly number[], options?: ScoreOptions): Promise<Score>;
  stats(): ModelStats;
  /**
   * Changes what weights, KV cache and scratch may take together, while replies run. To shrink, what earlier prompts
   * left goes first, then replies that wait for their reader give their memory back, then the youngest of the lowest
   * priority; they go on later where they were. Resolves when memory beyond the budget has gone back to the system,
   * with the bytes reached. The context stays as it was loaded. Models that share an engine (one file with the same
   * options in a process, also in its workers) share the budget: the last call holds.
   *
   * @throws TokenmillError InvalidArgument; OutOfMemory with the numbers, and nothing has changed, when one reply of
   *   full length would not fit; Disposed
   * @example
   * const { kv } = await model.setMemoryBudget("25%");
   */
  setMemoryBudget(budget: MemoryBudget): Promise<ModelStats["bytes"]>;
  /** Rejects what runs with `Disposed` and releases the memory. Idempotent. */
  dispose(): Promise<void>;
}
