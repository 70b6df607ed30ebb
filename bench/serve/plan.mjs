// How much the load test does, and what is demanded of it.

/** Streams of the offline figure and of the saturated part. */
export const streams = 32;
/** Of the offline figure with a context. */
export const deepPromptTokens = 400;
/** The load that latencies are demanded at, as a part of the saturated throughput. */
export const judgedLoad = 0.6;

export const interruption = {
  streams: 16,
  promptTokens: 60,
  longTokens: 4000,
  settleTokens: 16,
  quietTokens: 128,
  afterTokens: 128,
};

/** Tokens of context that the phases need. */
export const contextTokens = interruption.longTokens + 1;

/** Before arrivals are measured: about as long as most answers take. */
export const warmupSeconds = 10;

/** By the ids of figures: what they have to be below, or at least. */
export const bars = {
  "offline fraction": { atLeast: 0.9 },
  [`TTFT p99 at ${judgedLoad * 100} %`]: { below: 500 },
  [`TPOT p99 at ${judgedLoad * 100} %`]: { below: 50 },
  "p99 with over without": { below: 2 },
};

/** @param {{ quick: boolean, seconds?: number, loads?: number[] }} options loads in percent */
export function planOf({ quick, seconds, loads }) {
  return {
    offlineRounds: 3,
    deepRounds: quick ? 1 : 3,
    offlineTokens: quick ? 16 : 64,
    seconds: seconds ?? (quick ? 20 : 120),
    loads: (loads ?? (quick ? [60] : [20, 40, 60, 80])).map((percent) => percent / 100),
    interruptions: quick ? 1 : 3,
  };
}
