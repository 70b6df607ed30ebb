import { type AdapterMark, sharedDigest } from "../adapters/loaded-adapters";
import { readConversation } from "../chat/conversation";
import { readTools } from "../chat/tools";
import type { ChatMessage } from "../chat-message";
import { TokenmillError } from "../errors";
import type { ToolDefinition } from "../tool-definition";
import { checkChoice, checkGenerationOptions, checkObject, invalid } from "../validate";
import type { Overflow } from "./fit-prompt";
import type { SendOptions, SessionOptions } from "./session-options";

/** What a session is made of. Nothing of it changes in place, so forks share it. */
export interface SessionParts {
  messages: readonly ChatMessage[];
  tools: readonly ToolDefinition[] | undefined;
  overflow: Overflow;
  defaults: Omit<SessionOptions, "system" | "messages" | "tools" | "overflow">;
  /** What snapshots say of the adapters among these. */
  adapters: AdapterMark[];
}

/** Copies of messages that nobody can change. */
export function ownMessages(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  if (Array.isArray(messages) && messages.length === 0) return Object.freeze([]);
  const copies = readConversation(messages);
  return Object.freeze(copies.map((copy) => deepFreeze(copy) as unknown as ChatMessage));
}

/** A copy of tool definitions that nobody can change. */
function ownTools(tools: SessionOptions["tools"]): SessionParts["tools"] {
  const copies = readTools(tools);
  return copies && (deepFreeze(copies) as unknown as readonly ToolDefinition[]);
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value))
    if (typeof inner === "object" && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}

/** Takes a session's options apart; refuses those that are unknown or wrong. */
export function readSessionOptions(options: SessionOptions): Omit<SessionParts, "adapters"> {
  checkObject("options", options);
  const { system, messages = [], tools, overflow = "error", ...defaults }: SessionOptions = options;
  if ("signal" in defaults) {
    throw new TokenmillError("InvalidArgument", "a session has no option 'signal'; hand it to send()");
  }
  checkChoice("overflow", overflow, ["error", "dropOldestTurns", "slidingWindow"]);
  checkGenerationOptions(defaults);
  if (Array.isArray(defaults.stop)) defaults.stop = [...defaults.stop];
  const parts = { tools: ownTools(tools), overflow, defaults };
  if (system === undefined) return { messages: ownMessages(messages), ...parts };
  if (typeof system !== "string") throw invalid("system", system, "a string");
  const history = ownMessages(messages);
  if (history[0]?.role === "system") {
    throw new TokenmillError(
      "InvalidArgument",
      "options has a system text, and messages begin with a system message; expected one of them",
    );
  }
  return {
    messages: Object.freeze([...ownMessages([{ role: "system", content: system }]), ...history]),
    ...parts,
  };
}

/** Refuses options of `send` that are the session's. */
export function checkSendOptions(options: SendOptions): void {
  checkObject("options", options);
  if ("cacheSalt" in options) {
    throw new TokenmillError("InvalidArgument", "send has no option 'cacheSalt'; it belongs to the session");
  }
}

/** What a snapshot has of a session besides its pages; a draft model is not part of it. */
export function stateOf({ messages, tools, overflow, defaults, adapters }: SessionParts): string {
  const { draft, adapter: _, ...others } = defaults;
  const options = {
    ...others,
    ...(draft === "promptLookup" ? { draft } : {}),
    ...(tools ? { tools } : {}),
    overflow,
  };
  const marks = adapters.map((mark) => ({ ...mark, digest: sharedDigest(mark.digest) }));
  return JSON.stringify({ messages, options, adapters: marks });
}
