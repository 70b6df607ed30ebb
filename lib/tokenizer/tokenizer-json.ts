import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type TemplateHost, templateHost } from "../chat/template-host";
import { TokenmillError } from "../errors";
import type { NativeTokenizerSpec } from "../native";
import { jsonLimits } from "./json-reader";
import { type PackedTokenizer, type TokenizerFiles, unpackStrings } from "./packed-tokenizer";

/** Large vocabularies take a second or two on an idle core; this is for busy and slow ones. */
const timeMs = 30_000;

interface ReadOptions {
  signal?: AbortSignal | undefined;
  host?: TemplateHost;
}

async function readBounded(path: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const { size } = await stat(path);
  if (size > jsonLimits.bytes) {
    throw new TokenmillError(
      "CorruptFile",
      `${path} has ${size} bytes; at most ${jsonLimits.bytes} are read`,
    );
  }
  // A buffer of its own, not a part of Node's pool, so that it can be handed over.
  return new Uint8Array(await readFile(path, { signal }));
}

async function readOptional(path: string, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
  try {
    return await readBounded(path, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function readFailure(error: unknown, path: string, signal: AbortSignal | undefined): TokenmillError {
  if (error instanceof TokenmillError) return error;
  if (signal?.aborted) return new TokenmillError("Aborted", "The load was aborted", { cause: signal.reason });
  const { message } = error as Error;
  return new TokenmillError("ModelNotFound", `The tokenizer ${path} cannot be read: ${message}`, {
    cause: error,
  });
}

/** Reads the tokenizer's files: `path` is a tokenizer.json or the folder with one. */
async function readFiles(path: string, signal: AbortSignal | undefined): Promise<TokenizerFiles> {
  try {
    const isFolder = (await stat(path)).isDirectory();
    const beside = (name: string) => readOptional(join(isFolder ? path : dirname(path), name), signal);
    return {
      tokenizer: await readBounded(isFolder ? join(path, "tokenizer.json") : path, signal),
      config: await beside("tokenizer_config.json"),
      generationConfig: await beside("generation_config.json"),
      chatTemplate: await beside("chat_template.jinja"),
    };
  } catch (error) {
    throw readFailure(error, path, signal);
  }
}

/**
 * Reads a Hugging Face tokenizer: tokenizer.json, and tokenizer_config.json, generation_config.json and
 * chat_template.jinja where they lie beside it. Parsed in the template worker.
 *
 * @param path tokenizer.json, or the folder that holds it
 * @throws TokenmillError ModelNotFound, CorruptFile naming the place in the file, UnsupportedModel naming the
 *   feature, Aborted
 */
export async function readPackedTokenizer(
  path: string,
  { signal, host = templateHost() }: ReadOptions = {},
): Promise<PackedTokenizer> {
  const files = await readFiles(path, signal);
  const buffers = Object.values(files) as (Uint8Array | undefined)[];
  const transfer = buffers.flatMap((bytes) => (bytes ? [bytes.buffer as ArrayBuffer] : []));
  return host.run(() => ({ type: "tokenizer", files }), { timeMs, signal, transfer, thenClose: true });
}

/** What the native library makes a tokenizer of; see {@link readPackedTokenizer}. */
export async function readTokenizerJson(
  path: string,
  signal?: AbortSignal,
): Promise<NativeTokenizerSpec & Pick<PackedTokenizer, "nfc">> {
  const {
    tokens: packed,
    scores,
    merges,
    endOfGeneration,
    chatTemplate: _,
    ...rest
  } = await readPackedTokenizer(path, { signal });
  const tokens = unpackStrings(packed);
  const spec = { ...rest, tokens, endOfGeneration: Array.from(endOfGeneration) };
  if (scores !== undefined) return { ...spec, scores };
  return { ...spec, merges: Array.from(merges, (id) => tokens[id] ?? "") };
}
