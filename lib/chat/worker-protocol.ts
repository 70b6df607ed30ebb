import type { AdapterFile } from "../adapters/adapter-spec";
import type { ErrorCode } from "../errors";
import type { PackedTokenizer, TokenizerFiles } from "../tokenizer/packed-tokenizer";
import type { ChatFormatSpec, RenderRequest } from "./format-renderer";
import type { Piece } from "./special-tokens";

/** A format by number; the first request that a worker gets for it carries the spec. */
export interface FormatReference {
  format: number;
  spec?: ChatFormatSpec;
}

export type WorkerRequest =
  | ({ type: "wake" } & Partial<FormatReference>)
  | ({ type: "render" } & FormatReference & RenderRequest)
  | { type: "tokenizer"; files: TokenizerFiles }
  | { type: "adapter"; path: string; folderName: string | undefined };

export interface WorkerResults {
  wake: null;
  render: Piece[];
  tokenizer: PackedTokenizer;
  adapter: AdapterFile;
}

export type WorkerReply =
  | { type: "ready" }
  | { type: "result"; value: WorkerResults[keyof WorkerResults] }
  | { type: "failure"; code: ErrorCode; message: string };
