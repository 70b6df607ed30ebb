import type { AdapterChoice, WeightedAdapter } from "../adapter";
import type { AdapterMark } from "../adapters/loaded-adapters";
import type { ChatMessage } from "../chat-message";
import type { Completion } from "../completion";
import type { TokenmillError } from "../errors";
import type { NativeRequest, NativeSnapshot } from "../native";
import type { GenerationOptions } from "../options";
import type { Reply } from "../reply";
import type { ReplyState } from "../reply-state";
import type { ToolDefinition } from "../tool-definition";

/** A prompt, and the name that its pages are held under when its reply ends well. */
export type PromptSource = Pick<NativeRequest, "pieces" | "tokens" | "bos" | "hold">;

/** What a prompt is made of. */
export interface Conversation {
  messages: readonly ChatMessage[];
  tools?: readonly ToolDefinition[] | undefined;
}

/** What a session has to say about one of its replies. */
export interface Turn {
  /** Makes the prompt; called before the reply is handed out, unless its options are refused. */
  prompt(state: ReplyState, signal: AbortSignal | undefined): Promise<PromptSource>;
  /** Told once, when the reply has ended, before anybody who waits for it goes on. */
  ended(state: ReplyState, result: Completion | TokenmillError): void;
}

/** What a session asks of its model. It does not refer to sessions. */
export interface SessionHost {
  /** Throws when the model was disposed. */
  checkUsable(): void;
  reply(options: GenerationOptions, turn: Turn): Reply;
  /** The prompt that `chat` makes of a conversation. */
  promptOf(conversation: Conversation, signal: AbortSignal | undefined): Promise<PromptSource>;
  /** The same as tokens, or nothing where it is too long for any context. */
  tokensOf(conversation: Conversation, signal: AbortSignal | undefined): Promise<Int32Array | undefined>;
  readonly contextLength: number;
  /** A name to hold pages under. */
  newHold(): number;
  forkHold(hold: number, copy: number): void;
  releaseHold(hold: number): void;
  /** A snapshot of `state`, and of what is held if it was computed with these adapters. */
  exportHold(hold: number, state: string, adapters: AdapterMark[]): Promise<Buffer>;
  /** Verifies a snapshot. */
  openSnapshot(snapshot: Uint8Array): Promise<{ state: string; pages: NativeSnapshot }>;
  /** Holds a snapshot's pages, as far as there is room. */
  importHold(hold: number, pages: NativeSnapshot, cacheSalt: string, adapters: AdapterMark[]): Promise<void>;
  /** What tells adapters again in another process, and those that are loaded here for it. */
  markAdapters(choice: AdapterChoice | undefined): AdapterMark[];
  findAdapters(marks: readonly AdapterMark[]): WeightedAdapter[];
}
