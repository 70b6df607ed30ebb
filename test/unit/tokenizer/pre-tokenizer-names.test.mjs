import assert from "node:assert/strict";
import { test } from "node:test";
import { preTokenizerName } from "../../../dist/tokenizer/pre-tokenizer-names.js";

const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const bytesOnly = { ...byteLevel, use_regex: false };
const digits = { type: "Digits", individual_digits: true };
const split = (Regex, behavior = "Isolated", invert = false) => ({
  type: "Split",
  pattern: { Regex },
  behavior,
  invert,
});
const sequence = (...pretokenizers) => ({ type: "Sequence", pretokenizers });

// The expressions as JSON text, byte for byte as the models' files have them.
const files = {
  "llama-bpe": String.raw`"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"`,
  qwen2: String.raw`"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"`,
  "gpt-4o": String.raw`"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"`,
  tekken: String.raw`"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"`,
};

for (const [name, json] of Object.entries(files)) {
  test(`${name} is known by its expression`, () => {
    assert.equal(preTokenizerName(sequence(split(JSON.parse(json)), bytesOnly)), name);
    assert.equal(preTokenizerName(sequence(split(JSON.parse(json), "Removed", true), bytesOnly)), name);
  });
}

test("several stages make one name", () => {
  assert.equal(preTokenizerName(byteLevel), "gpt-2");
  assert.equal(preTokenizerName(sequence(digits, byteLevel)), "smollm");
  const third = JSON.parse(
    String.raw`"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_${"`"}{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"`,
  );
  const deepseek = sequence(
    split(String.raw`\p{N}{1,3}`),
    split("[一-龥\u3040-ゟ゠-ヿ]+"),
    split(third),
    bytesOnly,
  );
  assert.equal(preTokenizerName(deepseek), "deepseek-v3");
});

test("what cuts otherwise is no known name", () => {
  assert.equal(preTokenizerName(sequence(byteLevel, digits)), undefined);
  assert.equal(preTokenizerName({ ...byteLevel, add_prefix_space: true }), undefined);
  assert.equal(preTokenizerName({ type: "Metaspace" }), undefined);
  assert.equal(
    preTokenizerName(sequence(split(JSON.parse(files["llama-bpe"]), "MergedWithPrevious"), bytesOnly)),
    undefined,
  );
  assert.equal(preTokenizerName(sequence(split(String.raw`\p{N}{1,4}`), bytesOnly)), undefined);
  assert.equal(preTokenizerName(sequence({ ...digits, individual_digits: false }, byteLevel)), undefined);
});
