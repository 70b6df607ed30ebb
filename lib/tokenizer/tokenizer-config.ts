import type { Vocabulary } from "./bpe-vocabulary";
import type { JsonReader } from "./json-reader";

/** The name or names that tokenizer_config.json gives special tokens by. */
type SpecialName = "bos" | "eos" | "unk" | "pad";

/** The id of a special token, -1 when the file names none or one that the vocabulary lacks. */
export function specialId(config: JsonReader, name: SpecialName, vocabulary: Vocabulary): number {
  const token = config.get(`${name}_token`);
  if (token.isAbsent) return -1;
  const content = typeof token.value === "string" ? token.value : token.get("content").string();
  return vocabulary.idOf(content) ?? -1;
}

/**
 * The tokens that end a reply: generation_config.json's eos_token_id, one or several, and `eos`; ascending.
 */
export function endOfGeneration(
  generationConfig: JsonReader,
  eos: number,
  vocabulary: Vocabulary,
): Int32Array {
  const ends = generationConfig.get("eos_token_id");
  const listed = Array.isArray(ends.value) ? ends.items() : ends.isAbsent ? [] : [ends];
  const ids = new Set(listed.map((end) => end.id()));
  if (eos >= 0) ids.add(eos);
  return Int32Array.from([...ids].filter((id) => vocabulary.textOf(id) !== "")).sort();
}

/** tokenizer_config.json's chat_template: one, or several by name of which "default" counts. */
export function chatTemplateOf(config: JsonReader): string | undefined {
  const template = config.get("chat_template");
  if (template.isAbsent) return undefined;
  if (typeof template.value === "string") return template.value;
  const named = template.items().find((entry) => entry.get("name").value === "default");
  return named?.get("template").string();
}
