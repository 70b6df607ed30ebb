import type { FactorType } from "./safetensors";

/** One factor as it lies in the adapter's file, row-major. */
export interface StoredFactor {
  /** Its name there, for messages. */
  tensor: string;
  dtype: FactorType | (string & {});
  rows: number;
  cols: number;
  offset: number;
  bytes: number;
}

/** What is added to one matrix: scale * B A. */
export interface AdapterEntry {
  /** The matrix: a module's path as checkpoints call it, or a tensor of GGUF files; see {@link AdapterSpec.names}. */
  target: string;
  /** alpha / rank, or alpha / sqrt(rank). */
  scale: number;
  /** [rank, columns of the matrix] */
  a: StoredFactor;
  /** [rows of the matrix, rank] */
  b: StoredFactor;
}

/**
 * Where an adapter's factors lie, read from headers that have been checked. Native code gets it, binds it to a model
 * and checks every number again that it uses.
 */
export interface AdapterSpec {
  /** The file that holds the factors, absolute. */
  path: string;
  fileBytes: number;
  names: "modules" | "tensors";
  /** Of the base model, as GGUF files state it; "" where nothing does. */
  architecture: string;
  entries: AdapterEntry[];
}

/** An adapter's files, read but for the factors. */
export interface AdapterFile {
  spec: AdapterSpec;
  format: "peft" | "gguf";
  /** Its folder's name, or its file's without the extension. */
  name: string;
  /** The base model's name, "" where nothing tells. */
  baseModel: string;
  /** As configured: entries may have others. */
  alpha: number;
}
