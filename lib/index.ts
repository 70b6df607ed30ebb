export type { Adapter, AdapterChoice, AdapterOptions, WeightedAdapter } from "./adapter";
export type { BatchInput, BatchItem, BatchOptions, BatchProgress, BatchResult } from "./batch/batch-item";
export type { ChatMessage, ContentPart } from "./chat-message";
export type {
  Completion,
  FinishReason,
  ReplyPart,
  TextPart,
  Timings,
  TokenLogprob,
  Usage,
} from "./completion";
export type { DiagnosticsMessages, RequestFinishedMessage, RequestMessage } from "./diagnostics";
export { type ErrorCode, errorCodes, TokenmillError } from "./errors";
export { estimateMemory, type MemoryEstimate } from "./estimate-memory";
export { loadModel } from "./load-model";
export { loadTokenizer } from "./load-tokenizer";
export { mergeAdapter } from "./merge-adapter";
export type {
  CpuDevice,
  CudaDevice,
  Histogram,
  Model,
  ModelInfo,
  ModelStats,
  Score,
  TokenizeOptions,
  Tokenizer,
} from "./model";
export {
  type ChatOptions,
  type DeviceChoice,
  type FileType,
  fileTypes,
  type GenerationOptions,
  type LoadOptions,
  type LogEvent,
  type MemoryBudget,
  type MergeOptions,
  type Progress,
  type QuantizeOptions,
  type QuantizeResult,
  type SchedulingOptions,
  type ScoreOptions,
  type SourceOptions,
} from "./options";
export { quantizeModel } from "./quantize-model";
export { Reply } from "./reply";
export type { Overflow } from "./session/fit-prompt";
export { Session } from "./session/session";
export type { SendOptions, SessionOptions } from "./session/session-options";
export type { ToolDefinition } from "./tool-definition";
