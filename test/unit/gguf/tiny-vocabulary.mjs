// A byte-level BPE vocabulary of 320 tokens: 3 control tokens, the 256 bytes in GPT-2's alphabet, 61 merges.

/** The character for each byte in byte-level BPE: itself if printable, else one from U+0100 on. */
function byteAlphabet() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

const controlTokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

const mergePairs = `
  Ġ t|h e|Ġ a|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|o u|Ġ o|n d|i s|Ġ c|e n|Ġ b|o r|e s|Ġ f|e d|in g|Ġ p|a n|
  a l|Ġa nd|i t|a r|Ġt o|Ġo f|Ġ in|Ġ m|Ġ d|i c|Ġ h|l e|a s|r o|v e|l l|Ġ l|o m|i on|e l|Ġ re|u r|l o|
  Ġ y|Ġy ou|Ġ i|Ġ is|c t|s t|o w|k y|l u|b lu|blu e|s ky|he ll`
  .split("|")
  .map((pair) => pair.trim());

/**
 * The vocabulary as plain arrays, fresh on every call: `tokens` by id, `types` (1 normal, 3 control) and
 * `merges` in rank order.
 */
export function tinyVocabulary() {
  const tokens = [...controlTokens, ...byteAlphabet(), ...mergePairs.map((pair) => pair.replace(" ", ""))];
  const known = new Set(tokens);
  if (known.size !== tokens.length) throw new Error("the tiny vocabulary repeats a token");
  for (const part of mergePairs.flatMap((pair) => pair.split(" "))) {
    if (!known.has(part)) throw new Error(`a merge of the tiny vocabulary uses ${part}, which is no token`);
  }
  const types = tokens.map((_, id) => (id < controlTokens.length ? 3 : 1));
  return { tokens, types, merges: [...mergePairs] };
}
