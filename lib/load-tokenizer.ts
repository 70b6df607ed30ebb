import { stat } from "node:fs/promises";
import type { TokenizeOptions, Tokenizer } from "./model";
import { callNative, type NativeTokenizer, native, toTokenmillError } from "./native";
import type { SourceOptions } from "./options";
import { throwIfAborted } from "./sources/failure";
import { resolveSource } from "./sources/resolve-source";
import { readTokenizerJson } from "./tokenizer/tokenizer-json";
import { checkSourceOptions, invalid, toTokenArray } from "./validate";

class LocalTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly #native: NativeTokenizer;

  constructor(handle: NativeTokenizer) {
    this.#native = handle;
    this.vocabularySize = handle.describe().vocabularySize;
  }

  tokenize(text: string, options: TokenizeOptions = {}): number[] {
    if (typeof text !== "string") throw invalid("text", text, "a string");
    return callNative(() => this.#native.tokenize(text, options.special ?? false, options.bos));
  }

  detokenize(tokens: readonly number[], options: { special?: boolean } = {}): string {
    const array = toTokenArray("tokens", tokens, this.vocabularySize);
    return callNative(() => this.#native.detokenize(array, options.special ?? false));
  }
}

/**
 * Loads a tokenizer alone, without weights: from any GGUF file (also one with a vocabulary and no tensors), a
 * tokenizer.json, or a folder that holds one. Sources are those of `loadModel`.
 *
 * @throws TokenmillError ModelNotFound, Download, CorruptFile, UnsupportedModel or Aborted
 * @example
 * const tokenizer = await loadTokenizer("./tokenizer.json");
 * const tokens = tokenizer.tokenize("Hello!");
 */
export async function loadTokenizer(source: string, options: SourceOptions = {}): Promise<Tokenizer> {
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path or model reference");
  checkSourceOptions(options, "loadTokenizer");
  const { path } = await resolveSource(source, options);
  const isJson = path.endsWith(".json") || (await stat(path)).isDirectory();
  try {
    const handle = isJson
      ? await native().makeTokenizer(await readTokenizerJson(path, options.signal))
      : await native().openTokenizer(path);
    throwIfAborted(options.signal, "Loading the tokenizer");
    return new LocalTokenizer(handle);
  } catch (error) {
    throw toTokenmillError(error);
  }
}
