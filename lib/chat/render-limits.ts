import { TokenmillError } from "../errors";

/** What a chat template may cost. All are far above what real templates and conversations need. */
export const renderLimits = {
  /** For everything one request renders. */
  timeMs: 5000,
  templateCharacters: 1 << 20,
  /** Of a conversation's strings together, and of the text a template makes of them. */
  conversationCharacters: 1 << 22,
  /** Elements of one list. */
  listElements: 1 << 20,
  /** Growth of the heap during one rendering, garbage included. */
  heapBytes: 256 << 20,
} as const;

/** Text is so many times as long with every character between marks. */
export const markedGrowth = 3;

/**
 * The thread's own limit. Checks against {@link renderLimits} come first; this one catches what grows between
 * two of them. V8 ends the whole process when one allocation overshoots it, so it leaves room for the largest
 * that values within the limits can cause.
 */
export const workerHeapMegabytes = 1024;

/** A template that asked for more than {@link renderLimits}: trying it again another way is of no use. */
export class RenderLimitError extends TokenmillError {
  constructor(what: string) {
    super(
      "UnsupportedModel",
      `The model's chat template ${what}, so it cannot be used; generate() takes prompts without it`,
    );
  }
}
