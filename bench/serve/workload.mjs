// Requests as a chat service gets them: lengths like those of ShareGPT's conversations, arrivals that know nothing of
// each other. Everything follows from a seed.
import { promptsOf } from "../peers/prompts.mjs";

/** Tokens: log-normal by median and sigma of the logarithm; what is longer than `maximum` is cut to it. */
export const promptLengths = { median: 60, sigma: 1, maximum: 1000 };
export const answerLengths = { median: 180, sigma: 1, maximum: 1000 };

/** Uniform numbers in (0, 1) from a seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** Standard normal (Box and Muller). */
function normal(random) {
  return Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
}

export function drawLength(random, { median, sigma, maximum }) {
  const length = Math.round(median * Math.exp(sigma * normal(random)));
  return Math.min(maximum, Math.max(1, length));
}

/**
 * Requests without end: prompts of random tokens, none like another of any seed's.
 * @returns {Generator<{ prompt: number[], answerTokens: number }>}
 */
export function* drawRequests({ seed, vocabularySize }) {
  const random = randomOf(seed);
  for (let index = 0; ; index++) {
    const promptTokens = drawLength(random, promptLengths);
    const answerTokens = drawLength(random, answerLengths);
    const [prompt] = promptsOf({ streams: 1, promptTokens }, { vocabularySize, round: index, work: seed });
    yield { prompt, answerTokens };
  }
}

/** Moments of a Poisson process in milliseconds, without end. */
export function* drawArrivals({ seed, perSecond }) {
  const random = randomOf(seed);
  let atMs = 0;
  for (;;) {
    atMs -= (Math.log(random()) * 1000) / perSecond;
    yield atMs;
  }
}

/** Mean tokens of a request, prompt and answer, over so many draws that the sampling adds less than 1 %. */
export function meanRequestTokens(draws = 100_000) {
  const random = randomOf(1);
  let prompt = 0;
  let answer = 0;
  for (let i = 0; i < draws; i++) {
    prompt += drawLength(random, promptLengths);
    answer += drawLength(random, answerLengths);
  }
  return { prompt: prompt / draws, answer: answer / draws };
}
