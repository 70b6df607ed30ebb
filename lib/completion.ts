/** Why a reply ended: an end token or stop string, a length limit, or its reader left it. */
export type FinishReason = "stop" | "length" | "aborted";

/** The log-probability of one token, and of its most likely alternatives. Natural logarithms of raw logits. */
export interface TokenLogprob {
  token: number;
  logprob: number;
  /** Most likely tokens first; as many as `logprobs` asked for. */
  top: { token: number; logprob: number }[];
}

export interface Usage {
  promptTokens: number;
  /** Of the prompt's tokens, those whose pages were found in the cache. */
  cachedTokens: number;
  completionTokens: number;
}

export interface Timings {
  /** From the call to the first step that worked on it, in milliseconds. */
  queueMs: number;
  /** From the call to its first token, in milliseconds. */
  ttftMs: number;
  /** Prompt tokens that were computed, without those from the cache, from the first step to the first token. */
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
}

/** A finished reply. */
export interface Completion {
  text: string;
  /** Generated ids, without the end token and with a stop string's tokens. */
  tokens: number[];
  finishReason: FinishReason;
  /** The seed that sampled it: the option's, or the one drawn. */
  seed: number;
  usage: Usage;
  timings: Timings;
  /** One entry a token, when `logprobs` was asked for. */
  logprobs?: TokenLogprob[];
}

/** A piece of a reply as it streams. The parts' texts and tokens together equal the {@link Completion}'s. */
export interface TextPart {
  type: "text";
  /** May be empty, while a character or a possible stop string is incomplete. */
  text: string;
  tokens: number[];
  logprobs?: TokenLogprob[];
}

export type ReplyPart = TextPart;
