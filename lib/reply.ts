import type { Completion, ReplyPart } from "./completion";

/**
 * A reply in the making: an async iterable of its parts and a promise of the whole. It starts at once and is
 * generated once.
 *
 * Note that an async function that returns a Reply returns its Completion, since awaiting unwraps it.
 */
export interface Reply extends AsyncIterable<ReplyPart>, PromiseLike<Completion> {
  /** Stops the reply; awaiting it then gives what there is with `finishReason: "aborted"`. */
  cancel(): void;
}
