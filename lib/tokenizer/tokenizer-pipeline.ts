import { TokenmillError } from "../errors";
import type { JsonReader } from "./json-reader";
import { type PreTokenizerConfig, preTokenizerName } from "./pre-tokenizer-names";

/** What stands around a tokenizer.json's model: how texts are normalized, cut and framed. */
export interface Pipeline {
  model: "byteLevelBpe" | "sentencePieceBpe";
  pre: string;
  nfc: boolean;
  addSpacePrefix: boolean;
  /** Contents of the tokens put before and after a text. */
  prefix: string[];
  suffix: string[];
}

const spaceMark = "▁";

export function unsupported(what: JsonReader, feature: string): TokenmillError {
  return new TokenmillError("UnsupportedModel", `${what.path}: ${feature} is not supported`);
}

function typeOf(step: JsonReader): string {
  return step.get("type").string();
}

/** The steps of a component that may be one step, a sequence of them, or absent. */
function stepsOf(component: JsonReader, list: string): JsonReader[] {
  if (component.isAbsent) return [];
  if (typeOf(component) !== "Sequence") return [component];
  return component
    .get(list)
    .items()
    .flatMap((step) => stepsOf(step, list));
}

interface Normalization {
  nfc: boolean;
  spacesMarked: boolean;
  prefixed: boolean;
}

function readNormalizer(normalizer: JsonReader): Normalization {
  const found: Normalization = { nfc: false, spacesMarked: false, prefixed: false };
  for (const step of stepsOf(normalizer, "normalizers")) {
    const type = typeOf(step);
    if (type === "NFC" && !found.spacesMarked) {
      found.nfc = true;
    } else if (type === "Prepend" && step.get("prepend").value === spaceMark && !found.spacesMarked) {
      found.prefixed = true;
    } else if (
      type === "Replace" &&
      step.get("pattern").get("String").value === " " &&
      step.get("content").value === spaceMark
    ) {
      found.spacesMarked = true;
    } else {
      throw unsupported(step, `this normalizer of type ${type}`);
    }
  }
  return found;
}

/** The native name of a byte-level pre-tokenizer. */
function byteLevelName(preTokenizer: JsonReader): string {
  let name: string | undefined;
  try {
    name = preTokenizerName(preTokenizer.value as PreTokenizerConfig);
  } catch {
    throw preTokenizer.wrong("a pre-tokenizer as the tokenizers library writes it");
  }
  if (name !== undefined) return name;
  throw unsupported(preTokenizer, `the pre-tokenizer ${JSON.stringify(preTokenizer.value).slice(0, 500)}`);
}

/** Whether the pre-tokenizer leaves texts whole, and whether it marks spaces itself. */
function readMetaspace(steps: JsonReader[], normalization: Normalization): Normalization {
  const found = { ...normalization };
  for (const step of steps) {
    const type = typeOf(step);
    const isNoSplit =
      type === "Split" && step.get("pattern").get("String").value === " " && found.spacesMarked;
    if (isNoSplit) continue; // no space is left to split at
    const isMetaspace =
      type === "Metaspace" && !found.spacesMarked && step.get("replacement").value === spaceMark;
    if (!isMetaspace || step.get("split").boolean(true))
      throw unsupported(step, `this pre-tokenizer of type ${type}`);
    const scheme = step.get("prepend_scheme");
    const legacy = step.get("add_prefix_space").boolean(true) ? "always" : "never";
    const prepends = scheme.isAbsent ? legacy : scheme.string();
    if (prepends === "first") throw unsupported(step, 'Metaspace with the prepend_scheme "first"');
    found.spacesMarked = true;
    found.prefixed = prepends === "always";
  }
  return found;
}

/** The special tokens that a post-processor puts around one text. */
function readPostProcessor(postProcessor: JsonReader): Pick<Pipeline, "prefix" | "suffix"> {
  const prefix: string[] = [];
  const suffix: string[] = [];
  for (const step of stepsOf(postProcessor, "processors")) {
    const type = typeOf(step);
    if (type === "ByteLevel") continue; // offsets only
    if (type !== "TemplateProcessing") throw unsupported(step, `a post-processor of type ${type}`);
    let into = prefix;
    for (const piece of step.get("single").items()) {
      if (piece.get("Sequence").isAbsent) into.push(piece.get("SpecialToken").get("id").string());
      else into = suffix;
    }
  }
  return { prefix, suffix };
}

/** Throws UnsupportedModel, naming the place, for what the native tokenizers cannot do exactly. */
export function readPipeline(file: JsonReader): Pipeline {
  const normalization = readNormalizer(file.get("normalizer"));
  const steps = stepsOf(file.get("pre_tokenizer"), "pretokenizers");
  const frame = readPostProcessor(file.get("post_processor"));
  if (steps.some((step) => typeOf(step) === "ByteLevel")) {
    if (normalization.spacesMarked || normalization.prefixed) {
      throw unsupported(file.get("normalizer"), "marking spaces before ByteLevel");
    }
    const pre = byteLevelName(file.get("pre_tokenizer"));
    return { model: "byteLevelBpe", pre, nfc: normalization.nfc, addSpacePrefix: false, ...frame };
  }
  const { spacesMarked, prefixed, nfc } = readMetaspace(steps, normalization);
  if (!spacesMarked) {
    throw unsupported(file.get("pre_tokenizer"), "BPE neither on bytes nor on text with marked spaces");
  }
  if (nfc) throw unsupported(file.get("normalizer"), "NFC before marked spaces");
  return { model: "sentencePieceBpe", pre: "", nfc, addSpacePrefix: prefixed, ...frame };
}
