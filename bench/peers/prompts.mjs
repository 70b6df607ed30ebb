/**
 * Prompts of token ids from the vocabulary's middle: the same for every engine, others for each round and work,
 * so that nothing computed before can be used again.
 */
export function promptsOf({ streams, promptTokens }, { vocabularySize, round, work }) {
  let state = (Math.imul(round + 1, 2654435761) ^ Math.imul(work + 1, 40503)) >>> 0;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((0.1 + (0.8 * state) / 2 ** 32) * vocabularySize);
  };
  return Array.from({ length: streams }, () => Array.from({ length: promptTokens }, next));
}
