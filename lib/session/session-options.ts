import type { ChatMessage } from "../chat-message";
import type { ChatOptions, GenerationOptions } from "../options";
import type { Overflow } from "./fit-prompt";

/** How a session begins, and the defaults of its replies; an option of `send` comes before these. */
export interface SessionOptions extends Omit<ChatOptions, "signal"> {
  /** The text of a system message that comes first. */
  system?: string;
  /** A conversation to go on from. */
  messages?: readonly ChatMessage[];
  /**
   * What happens when the conversation outgrows the context. "error" (default): the turn fails with `ContextOverflow`.
   * "dropOldestTurns": the model reads the conversation without its oldest turns, as few as have to go so that the
   * prompt and `maxTokens`, or a quarter of the context if that is less, fit. "slidingWindow": it reads the last tokens
   * of the youngest of these as well, until that room is full. System messages at the beginning and the last turn stay;
   * `messages` keeps everything. A prompt that has lost its oldest tokens is read anew from there.
   */
  overflow?: Overflow;
}

/** How one turn is answered. The salt and the tools are the session's. */
export type SendOptions = Omit<GenerationOptions, "cacheSalt">;
