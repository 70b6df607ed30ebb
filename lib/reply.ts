import type { Completion, ReplyPart } from "./completion";
import { TokenmillError } from "./errors";
import type { ReplyState } from "./reply-state";

// A reply that nobody holds any more can neither be read nor awaited: it is cancelled.
const abandoned = new FinalizationRegistry<ReplyState>((state) => state.abandon());

/**
 * A reply in the making: an async iterable of its parts and a promise of the whole. It starts at once and is
 * generated once. At most 64 parts wait unread: a reader that stops pauses its reply, and no other; awaiting
 * the reply lifts the bound. Leaving the loop early stops it.
 *
 * An async function that returns a Reply returns its Completion, since awaiting unwraps it.
 *
 * @example
 * const reply = model.chat([{ role: "user", content: "Why is the sky blue?" }]);
 * for await (const part of reply) process.stdout.write(part.text);
 * const { usage, timings, finishReason } = await reply;
 */
export class Reply implements AsyncIterable<ReplyPart>, PromiseLike<Completion> {
  readonly #state: ReplyState;
  #iterated = false;

  /** @internal Replies are made by a model's methods. */
  constructor(state: ReplyState) {
    this.#state = state;
    abandoned.register(this, state, this);
  }

  /** Stops the reply; awaiting it then gives what there is with `finishReason: "aborted"`. */
  cancel(): void {
    this.#state.stop();
  }

  // biome-ignore lint/suspicious/noThenProperty: a reply is a promise of its completion
  then<Fulfilled = Completion, Rejected = never>(
    onFulfilled?: ((completion: Completion) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((error: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    abandoned.unregister(this); // the promise is held from now on
    return this.#state.promise().then(onFulfilled, onRejected);
  }

  /**
   * The parts as they come; can be asked for once.
   * @throws TokenmillError InvalidArgument when the reply is already being read.
   */
  [Symbol.asyncIterator](): AsyncIterator<ReplyPart, undefined> {
    if (this.#iterated) {
      throw new TokenmillError(
        "InvalidArgument",
        "this reply is already being read; a reply can be iterated once. Await it for the whole text",
      );
    }
    this.#iterated = true;
    const iterator = {
      reply: this, // keeps the reply from being taken for abandoned while it is read
      next: () => this.#state.next(this),
      return: async () => {
        this.#state.stop();
        return { done: true as const, value: undefined };
      },
    };
    return iterator;
  }
}
