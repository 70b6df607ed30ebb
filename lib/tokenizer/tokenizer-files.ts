import { TokenmillError } from "../errors";
import { addAddedTokens, readMerges, readVocabulary, tokenKinds, type Vocabulary } from "./bpe-vocabulary";
import { type JsonReader, parseJson } from "./json-reader";
import type { PackedTokenizer, TokenizerFiles } from "./packed-tokenizer";
import { scoresOfMerges } from "./sentencepiece-scores";
import { chatTemplateOf, endOfGeneration, specialId } from "./tokenizer-config";
import { type Pipeline, readPipeline, unsupported } from "./tokenizer-pipeline";

/** Refuses what changes how BPE merges and the native tokenizers do not do. */
function checkModel(model: JsonReader, pipeline: Pipeline): void {
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    const affix = model.get(key);
    if (!affix.isAbsent && affix.string() !== "") throw unsupported(affix, "an affix of parts of words");
  }
  const dropout = model.get("dropout");
  if (!dropout.isAbsent && dropout.value !== 0) throw unsupported(dropout, "dropout");
  const byteFallback = model.get("byte_fallback").boolean(false);
  if (pipeline.model === "byteLevelBpe") {
    if (byteFallback) throw unsupported(model.get("byte_fallback"), "byte_fallback of a byte-level model");
  } else if (!byteFallback && !model.get("fuse_unk").boolean(false)) {
    throw unsupported(model.get("fuse_unk"), "an unknown token for every character");
  }
}

/** Kinds that only SentencePiece's vocabularies have. */
function setSentencePieceKinds(
  file: JsonReader,
  vocabulary: Vocabulary,
  made: (id: number) => boolean,
): void {
  const { kinds } = vocabulary;
  const hasByteFallback = file.get("model").get("byte_fallback").boolean(false);
  for (const [id, text] of vocabulary.texts.entries()) {
    if (kinds[id] === tokenKinds.normal && /^<0x[0-9A-F]{2}>$/.test(text)) {
      if (!hasByteFallback)
        throw unsupported(file.get("model").get("byte_fallback"), "byte tokens without byte_fallback");
      kinds[id] = tokenKinds.byte;
    } else if (kinds[id] === tokenKinds.userDefined && text.includes("▁")) {
      // Looked for in texts before spaces become marks, so it is found as a whole only where a text has the
      // mark itself; where a text has spaces, merging makes it.
      if (!made(id))
        throw unsupported(file.get("added_tokens"), `${JSON.stringify(text)}, which no merge makes,`);
      kinds[id] = tokenKinds.normal;
    }
  }
}

/**
 * Whether a text is framed by the token `id`: as the file's configuration says, else as the post-processor
 * does.
 */
function adds(
  configured: JsonReader,
  frame: readonly string[],
  id: number,
  vocabulary: Vocabulary,
  where: JsonReader,
): boolean {
  if (frame.length > 1 || (frame.length === 1 && vocabulary.idOf(frame[0] ?? "") !== id)) {
    throw unsupported(where, `framing texts by ${JSON.stringify(frame)}`);
  }
  return configured.boolean(frame.length === 1) && id >= 0;
}

/**
 * Turns the files of a Hugging Face tokenizer into what native code takes. Throws CorruptFile naming the
 * place of what is not as it must be, UnsupportedModel naming the feature that cannot be done exactly.
 */
export function readTokenizerFiles(files: TokenizerFiles): PackedTokenizer {
  try {
    return read(files);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new TokenmillError("CorruptFile", "tokenizer.json nests too deeply", { cause: error });
  }
}

function read(files: TokenizerFiles): PackedTokenizer {
  const file = parseJson(files.tokenizer, "tokenizer.json");
  const config = parseJson(files.config ?? emptyObject, "tokenizer_config.json");
  const generationConfig = parseJson(files.generationConfig ?? emptyObject, "generation_config.json");
  file.object();
  const model = file.get("model");
  const type = model.get("type").isAbsent ? "of no type" : model.get("type").string();
  if (type !== "BPE")
    throw unsupported(model, `a tokenizer model ${JSON.stringify(type)}; supported is BPE;`);
  const pipeline = readPipeline(file);
  checkModel(model, pipeline);

  const vocabulary = readVocabulary(model);
  addAddedTokens(file, vocabulary);
  const merges = readMerges(model, vocabulary);
  let scores: Float32Array | undefined;
  if (pipeline.model === "sentencePieceBpe") {
    setSentencePieceKinds(file, vocabulary, (id) => (merges.first[id] ?? -1) >= 0);
    scores = scoresOfMerges(model.get("merges"), vocabulary, merges);
  }

  const unkToken = model.get("unk_token");
  const unk = unkToken.isAbsent
    ? specialId(config, "unk", vocabulary)
    : (vocabulary.idOf(unkToken.string()) ?? -1);
  if (unk >= 0 && scores !== undefined) vocabulary.kinds[unk] = tokenKinds.unknown;
  const bosNamed = specialId(config, "bos", vocabulary);
  const bos = bosNamed >= 0 ? bosNamed : (vocabulary.idOf(pipeline.prefix[0] ?? "") ?? -1);
  const eosNamed = specialId(config, "eos", vocabulary);
  const eos = eosNamed >= 0 ? eosNamed : (vocabulary.idOf(pipeline.suffix[0] ?? "") ?? -1);
  const postProcessor = file.get("post_processor");
  return {
    model: pipeline.model,
    pre: pipeline.pre,
    nfc: pipeline.nfc,
    tokens: vocabulary.packTexts(),
    kinds: Uint8Array.from(vocabulary.kinds),
    scores,
    merges: merges.pairs,
    addBos: adds(config.get("add_bos_token"), pipeline.prefix, bos, vocabulary, postProcessor),
    addEos: adds(config.get("add_eos_token"), pipeline.suffix, eos, vocabulary, postProcessor),
    addSpacePrefix: pipeline.addSpacePrefix,
    ignoreMerges: model.get("ignore_merges").boolean(false),
    bos,
    eos,
    unk,
    pad: specialId(config, "pad", vocabulary),
    endOfGeneration: endOfGeneration(generationConfig, eos, vocabulary),
    chatTemplate: files.chatTemplate
      ? Buffer.from(files.chatTemplate).toString("utf8")
      : chatTemplateOf(config),
  };
}

const emptyObject = Buffer.from("{}");

/** The buffers of a packed tokenizer, to hand over instead of copying. */
export function packedBuffers({
  tokens,
  kinds,
  scores,
  merges,
  endOfGeneration: ends,
}: PackedTokenizer): ArrayBuffer[] {
  const views = [tokens.bytes, tokens.ends, kinds, scores, merges, ends];
  return views.flatMap((view) => (view === undefined ? [] : [view.buffer as ArrayBuffer]));
}
