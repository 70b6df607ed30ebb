/** Many strings in two buffers: UTF-8, one after the other. String i is bytes[ends[i - 1] ?? 0, ends[i]). */
export interface PackedStrings {
  bytes: Uint8Array;
  ends: Uint32Array;
}

/**
 * A tokenizer as native code takes it, field by field the native TokenizerSpec. Made of typed arrays, so that
 * a vocabulary of hundreds of thousands of tokens passes between threads without a copy.
 */
export interface PackedTokenizer {
  model: "byteLevelBpe" | "sentencePieceBpe";
  /** Byte-level BPE: the pre-tokenizer by its name in GGUF's tokenizer.ggml.pre. Else "". */
  pre: string;
  /** Normalize to NFC before cutting. */
  nfc: boolean;
  /**
   * By id, as stored: byte-level tokens in GPT-2's byte alphabet, SentencePiece ones with "▁" for a space.
   */
  tokens: PackedStrings;
  /** The native TokenKind of each token. */
  kinds: Uint8Array;
  /** SentencePiece BPE: a token's priority. Higher merges first. */
  scores: Float32Array | undefined;
  /** The ids of left and right part of each merge in rank order; two elements a merge. */
  merges: Uint32Array;
  addBos: boolean;
  addEos: boolean;
  addSpacePrefix: boolean;
  ignoreMerges: boolean;
  /** -1: none. */
  bos: number;
  eos: number;
  unk: number;
  pad: number;
  /** Every token that ends a reply, ascending. */
  endOfGeneration: Int32Array;
  /** The default template of tokenizer_config.json or chat_template.jinja. */
  chatTemplate: string | undefined;
}

/** The contents of a tokenizer's files. */
export interface TokenizerFiles {
  /** tokenizer.json */
  tokenizer: Uint8Array;
  /** tokenizer_config.json */
  config: Uint8Array | undefined;
  /** generation_config.json */
  generationConfig: Uint8Array | undefined;
  /** chat_template.jinja */
  chatTemplate: Uint8Array | undefined;
}

/** All strings of a table. */
export function unpackStrings({ bytes, ends }: PackedStrings): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from(ends, (end, index) => buffer.toString("utf8", ends[index - 1] ?? 0, end));
}
