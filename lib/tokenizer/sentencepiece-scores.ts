import { type Merges, tokenKinds, type Vocabulary } from "./bpe-vocabulary";
import type { JsonReader } from "./json-reader";
import { unsupported } from "./tokenizer-pipeline";

/**
 * SentencePiece merges whatever neighbours make a token, by the token's score; a merge list names the pairs,
 * by rank. A list made from scores can be turned back: it has every way to make a token, one right after the
 * other. Returns the score of each token, the negated rank of its first merge, or throws UnsupportedModel for
 * other lists.
 *
 * One difference stays: where two ways to make the same token overlap in a text, scores take the left one and
 * ranks the first in the list.
 */
export function scoresOfMerges(where: JsonReader, vocabulary: Vocabulary, merges: Merges): Float32Array {
  const scores = new Float32Array(vocabulary.texts.length);
  for (const [id, text] of vocabulary.texts.entries()) {
    const first = merges.first[id] ?? -1;
    const kind = vocabulary.kinds[id];
    if (kind === tokenKinds.normal && splits(text, vocabulary) !== merges.count[id]) {
      throw unsupported(where, `a list that leaves out ways to make ${JSON.stringify(text)}`);
    }
    const isOneBlock = (merges.last[id] ?? 0) - first + 1 === merges.count[id];
    if (kind === tokenKinds.normal && first >= 0 && !isOneBlock && !isRun(text)) {
      throw unsupported(
        where,
        `a list that puts other merges between those that make ${JSON.stringify(text)}`,
      );
    }
    if (first > 0) scores[id] = -first;
  }
  return scores;
}

/** In how many ways a token can be made of two others; -1 when a character of it is no token. */
function splits(text: string, vocabulary: Vocabulary): number {
  let count = 0;
  let at = 0;
  for (const character of text) {
    if (character.length < text.length && vocabulary.idOf(character) === undefined) return -1;
    at += character.length;
    if (at === text.length) break;
    const isSplit =
      vocabulary.idOf(text.slice(0, at)) !== undefined && vocabulary.idOf(text.slice(at)) !== undefined;
    if (isSplit) ++count;
  }
  return count;
}

/**
 * Whether one character is repeated: such a token grows by one from the left, so the other ways never come
 * up.
 */
function isRun(text: string): boolean {
  const [character = ""] = text;
  return text === character.repeat(text.length / character.length);
}
