import { join } from "node:path";
import type { AdapterFile, AdapterSpec } from "./adapters/adapter-spec";
import type { AdapterMark } from "./adapters/loaded-adapters";
import type { FinishReason, TokenLogprob } from "./completion";
import { type ErrorCode, errorCodes, TokenmillError } from "./errors";
import type { MemoryEstimate } from "./estimate-memory";
import type { CpuDevice, CudaDevice, ModelStats } from "./model";

/** A stretch of prompt text; a special one is exactly one special token's text. */
export interface PromptPiece {
  text: string;
  special: boolean;
}

export interface NativeSampling {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
}

export interface NativeScheduling {
  priority?: number;
  tenant?: string;
  /** Milliseconds that are left. */
  deadline?: number;
}

/** An adapter's id, and a factor on what it adds. */
export interface NativeAdapterChoice {
  id: number;
  scale: number;
}

export interface NativeRequest extends NativeSampling, NativeScheduling {
  id: number;
  pieces?: PromptPiece[];
  tokens?: Int32Array;
  bos?: boolean;
  score?: boolean;
  maxTokens?: number;
  seed?: number;
  stop?: string[];
  ignoreEos?: boolean;
  logprobs?: number;
  cacheSalt?: string;
  adapters?: NativeAdapterChoice[];
  promptLookup?: boolean;
  /** Guess with this model. */
  draftModel?: NativeModel;
  credits?: number;
  /** The name that its pages are held under when it ends well, unique within the model. */
  hold?: number;
  /** Tell of prefill, preemption and eviction in the request's events. */
  notices?: boolean;
}

export interface NativeOutcome {
  /** Set when the request failed. */
  code?: ErrorCode;
  message?: string;
  reason: FinishReason;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  queueMs: number;
  ttftMs: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  scoreTokens?: number[];
  scoreLogprobs?: Float32Array;
}

export interface NativeEvent {
  id: number;
  text: string;
  tokens: number[];
  logprobs?: TokenLogprob[];
  outcome?: NativeOutcome;
  /** What a request for a snapshot ends with. */
  snapshot?: Buffer;
  /** Set when there is nothing else in the event. */
  notice?: "prefill" | "preempted" | "evicted";
  /** Milliseconds in the queue, tokens to be computed again, pages. */
  noticeValue?: number;
}

export interface NativeTokenizerInfo {
  vocabularySize: number;
  addBos: boolean;
  bos: string;
  eos: string;
  special: string[];
}

export interface NativeTokenizer {
  tokenize(text: string, special: boolean, bos: boolean | undefined): number[];
  detokenize(tokens: Int32Array, special: boolean): string;
  describe(): NativeTokenizerInfo;
}

/** As the model's description has it; `problem` is why a GPU that could be one is not used, or "". */
export type NativeDevice = (CpuDevice & { problem: string }) | CudaDevice;

export interface NativeModelInfo {
  name: string;
  path: string;
  architecture: string;
  parameters: number;
  fileBytes: number;
  quantization: string;
  contextLength: number;
  trainedContextLength: number;
  embeddingLength: number;
  layers: number;
  device: NativeDevice;
  /** What became of the file with packed weights, and why it could not be written. */
  packedCache: "off" | "read" | "written" | "failed";
  packedCacheProblem: string;
  chatTemplate: string;
  tokenizer: NativeTokenizerInfo;
  sampling: NativeSampling;
}

declare const ofSnapshot: unique symbol;

/** A verified snapshot, opaque. */
export interface NativeSnapshot {
  [ofSnapshot]: true;
}

export interface NativeModel {
  info(): NativeModelInfo;
  stats(): ModelStats;
  tokenize(text: string, special: boolean, bos: boolean | undefined): number[];
  detokenize(tokens: Int32Array, special: boolean): string;
  /** The tokens that a request with these pieces would have. */
  encodePrompt(pieces: PromptPiece[], bos: boolean): Promise<Int32Array>;
  submit(request: NativeRequest): void;
  cancel(id: number): void;
  addCredits(id: number, credits: number): void;
  /** An event with this id and an outcome tells when it is done, or why not. */
  setMemoryBudget(id: number, budget: NativeBudget): void;
  /** Holds under `copy` what `hold` holds. */
  forkHold(hold: number, copy: number): void;
  releaseHold(hold: number): void;
  /** A request that ends with a snapshot of `state`, and of what is held if it was computed with these adapters. */
  exportHold(id: number, hold: number, state: string, adapters: AdapterMark[]): void;
  /** Verifies a snapshot, of which it takes a copy. */
  openSnapshot(snapshot: Uint8Array): Promise<{ state: string; pages: NativeSnapshot }>;
  /** A request that ends when the pages are held, or there is no room for them. */
  importHold(
    id: number,
    hold: number,
    pages: NativeSnapshot,
    cacheSalt: string,
    adapters: AdapterMark[],
  ): void;
  /** Reads an adapter's factors; `digest` is equal for equal adapters. */
  loadAdapter(spec: AdapterSpec): Promise<{ id: number; digest: string; bytes: number; targets: string[] }>;
  /** Requests cannot name it any more; those under way keep it. */
  releaseAdapter(id: number): void;
  ref(): void;
  unref(): void;
  close(): Promise<void>;
}

/** Bytes, or a share of the free memory. */
export type NativeBudget = { bytes: number } | { share: number };

export interface NativeLoadOptions {
  /** Without it the CPU. */
  device?: "auto" | "cuda";
  deviceIndex?: number;
  /** The path of the backend's library. */
  deviceLibrary?: string;
  contextLength?: number;
  threads?: number;
  budget?: NativeBudget;
  maxRows?: number;
  maxQueue?: number;
  targetTpot?: number;
  highPrecision?: boolean;
  quantize?: "int8" | "int4";
  kvInt8?: boolean;
  prefixCache?: boolean;
  prefixCacheBytes?: number;
  packedFolder?: string;
  packedLimit?: number;
  adapterBytes?: number;
}

export interface NativeLoad {
  promise: Promise<NativeModel>;
  abort(): void;
}

export interface NativeInspection {
  version: number;
  alignment: number;
  fileBytes: number;
  metadata: {
    key: string;
    type: string;
    value: string | number | boolean | { length: number; head: (string | number)[] };
  }[];
  tensors: { name: string; type: string; shape: number[]; offset: number; bytes: number }[];
}

export interface NativeQuantizeOptions {
  type: string;
  pure: boolean;
  allowRequantize: boolean;
  overwrite: boolean;
  threads?: number;
}

/** As {@link NativeQuantizeOptions}; without a type each tensor keeps its own. */
export interface NativeMergeOptions {
  scale: number;
  type?: string;
  overwrite: boolean;
  threads?: number;
}

/** Work that writes a file. */
export interface NativeRewrite {
  promise: Promise<NativeRewriteResult>;
  abort(): void;
}

export interface NativeRewriteResult {
  inputBytes: number;
  outputBytes: number;
  types: { type: string; tensors: number; bytes: number }[];
}

/** A tokenizer as plain arrays; `merges` holds left and right of each merge in turn. */
export interface NativeTokenizerSpec {
  model: "byteLevelBpe" | "sentencePieceBpe";
  pre: string;
  tokens: string[];
  kinds?: Uint8Array;
  scores?: Float32Array;
  merges?: string[];
  addBos: boolean;
  addEos: boolean;
  addSpacePrefix: boolean;
  ignoreMerges: boolean;
  /** Normalize text to NFC first. */
  nfc: boolean;
  bos: number;
  eos: number;
  unk: number;
  pad: number;
  endOfGeneration: number[];
}

interface NativeAddon {
  errorCodes(): string[];
  /** Names of the instruction sets that this CPU can run, best first. */
  availableIsas(): CpuDevice["isa"][];
  inspectGguf(path: string): NativeInspection;
  openTokenizer(path: string): Promise<NativeTokenizer>;
  makeTokenizer(spec: NativeTokenizerSpec): Promise<NativeTokenizer>;
  loadModel(
    path: string,
    options: NativeLoadOptions,
    callback: (...message: [loaded: number, total: number] | [events: NativeEvent[]]) => void,
  ): NativeLoad;
  estimateMemory(path: string, options: NativeLoadOptions): Promise<MemoryEstimate>;
  quantizeModel(
    input: string,
    output: string,
    options: NativeQuantizeOptions,
    onProgress: (loaded: number, total: number) => void,
  ): NativeRewrite;
  readGgufAdapter(path: string): Pick<AdapterFile, "spec" | "name" | "baseModel" | "alpha">;
  mergeAdapter(
    model: string,
    adapter: AdapterSpec,
    output: string,
    options: NativeMergeOptions,
    onProgress: (loaded: number, total: number) => void,
  ): NativeRewrite;
}

let addon: NativeAddon | undefined;

/** The native library, loaded at first use: the clone's own build, else the prebuilt one for this platform. */
export function native(): NativeAddon {
  addon ??= loadAddon();
  return addon;
}

function loadAddon(): NativeAddon {
  const root = join(__dirname, "..");
  try {
    const nodeGypBuild: (folder: string) => unknown = require("node-gyp-build");
    return nodeGypBuild(root) as NativeAddon;
  } catch (cause) {
    const { platform, arch, versions } = process;
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split("\n    loaded from:");
    throw new TokenmillError(
      "Incompatible",
      `no native library of tokenmill could be loaded for ${platform}-${arch} (Node ${versions.node}): ` +
        `${reason}. To build it, in your project (CMake and a C++20 compiler needed): ` +
        "npm install --no-save cmake-js node-addon-api node-api-headers && " +
        `npx cmake-js build -d ${JSON.stringify(root)}`,
      { cause },
    );
  }
}

/** The library's own error for what native code threw. */
export function toTokenmillError(error: unknown): TokenmillError {
  if (TokenmillError.isInstance(error)) return error;
  const { code, message } = error as { code?: unknown; message?: unknown };
  const known = errorCodes.find((candidate) => candidate === code);
  return new TokenmillError(known ?? "Internal", typeof message === "string" ? message : String(error), {
    cause: error,
  });
}

/** Calls native code; what it throws becomes a {@link TokenmillError}. */
export function callNative<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw toTokenmillError(error);
  }
}
