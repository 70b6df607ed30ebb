import type { ChatMessage, ContentPart } from "../chat-message";
import { TokenmillError } from "../errors";
import { type JsonObject, stringsOf, toJsonValue } from "./json-value";
import { renderLimits } from "./render-limits";

function invalid(message: string): TokenmillError {
  return new TokenmillError("InvalidArgument", message);
}

function describe(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : typeof value;
}

function readPart(part: unknown, path: string): JsonObject {
  const { type, text } = (typeof part === "object" && part !== null ? part : {}) as Partial<
    ContentPart & { text: unknown }
  >;
  if (type === "image" || type === "audio") {
    throw new TokenmillError("UnsupportedModel", `${path} is of type "${type}"; the model takes text only`);
  }
  if (type !== "text") {
    const found = type === undefined ? describe(part) : `type "${String(type)}"`;
    throw invalid(`${path} must be a part of type "text", found ${found}`);
  }
  if (typeof text !== "string") throw invalid(`${path}.text must be a string, found ${describe(text)}`);
  return { type, text };
}

function readMessage(message: unknown, path: string): JsonObject {
  if (typeof message !== "object" || message === null) {
    throw invalid(`${path} must be a message { role, content }, found ${describe(message)}`);
  }
  const { role, content } = message as Partial<ChatMessage>;
  if (typeof role !== "string") throw invalid(`${path}.role must be a string, found ${describe(role)}`);
  if (role === "") throw invalid(`${path}.role must be a string that is not empty, found ""`);
  const isText = typeof content === "string";
  if (!isText && !Array.isArray(content)) {
    throw invalid(`${path}.content must be a string or an array of parts, found ${describe(content)}`);
  }
  const rest = toJsonValue({ ...message, content: null }, path) as JsonObject;
  const plain = isText ? content : content.map((part, index) => readPart(part, `${path}.content[${index}]`));
  return { ...rest, role, content: plain };
}

/**
 * Checks the callers' messages and copies them as plain data. Further properties are passed on to the
 * template as far as they are JSON. Throws InvalidArgument naming the place, UnsupportedModel for parts that
 * are not text, ContextOverflow for more text than any context holds, with that of `tools`.
 */
export function readConversation(
  messages: readonly ChatMessage[],
  tools: readonly JsonObject[] = [],
): JsonObject[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    const found = Array.isArray(messages) ? "none" : describe(messages);
    throw invalid(`messages must be an array of at least one message, found ${found}`);
  }
  const conversation = messages.map((message, index) => readMessage(message, `messages[${index}]`));
  let characters = 0;
  for (const text of stringsOf([...conversation, ...tools])) characters += text.length;
  if (characters > renderLimits.conversationCharacters) {
    throw new TokenmillError(
      "ContextOverflow",
      `The messages${tools.length > 0 ? " and tools" : ""} have ${characters} characters; ` +
        `at most ${renderLimits.conversationCharacters} are taken`,
    );
  }
  return conversation;
}
