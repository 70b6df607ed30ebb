import type { ChatMessage } from "../chat-message";
import type { GenerationOptions } from "../options";

/** How a session begins, and the defaults of its replies; an option of `send` comes before these. */
export interface SessionOptions extends Omit<GenerationOptions, "signal"> {
  /** The text of a system message that comes first. */
  system?: string;
  /** A conversation to go on from. */
  messages?: readonly ChatMessage[];
}

/** How one turn is answered. The salt is the session's. */
export type SendOptions = Omit<GenerationOptions, "cacheSalt">;
