import type { ChatMessage } from "../chat-message";
import type { ToolDefinition } from "../tool-definition";
import { readConversation } from "./conversation";
import type { ChatFormatSpec } from "./format-renderer";
import type { Piece } from "./special-tokens";
import { type TemplateHost, templateHost } from "./template-host";
import { readTools } from "./tools";

export type { Piece };

export interface RenderChatRequest extends ChatFormatSpec {
  messages: readonly ChatMessage[];
  /** What the template is told that the model may call. */
  tools?: readonly ToolDefinition[] | undefined;
  /** End with what opens the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
  signal?: AbortSignal;
}

interface KnownFormat {
  number: number;
  spec: ChatFormatSpec;
}

let formats = 0;
/** By the list of special tokens: a model hands over the same one with every request. */
const knownFormats = new WeakMap<readonly string[], KnownFormat>();

const texts = ["template", "bosToken", "eosToken", "unkToken", "padToken"] as const;

function formatOf(spec: ChatFormatSpec): KnownFormat {
  const known = knownFormats.get(spec.specialTokens);
  if (known !== undefined && texts.every((name) => known.spec[name] === spec[name])) return known;
  const format = { number: ++formats, spec };
  knownFormats.set(spec.specialTokens, format);
  return format;
}

/**
 * A conversation as the model is to read it, through its chat template, in a worker thread. A special piece
 * is one token, by its text; a text piece is to be tokenized without recognizing special tokens. Special
 * tokens come from the template alone, whatever the messages and tools say.
 *
 * The list of special tokens is remembered by identity: hand over the same array for the same model.
 *
 * @throws TokenmillError InvalidArgument for malformed messages or tools, for what the template raises, and for tools
 *   that it does not show the model,
 *   UnsupportedModel when the template fails, is endless or makes too much, ContextOverflow for more text
 *   than any context holds, Aborted
 * @example
 * const pieces = await renderChat({
 *   template: "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}",
 *   specialTokens: ["<s>", "</s>"],
 *   messages: [{ role: "user", content: "What is <s>?" }],
 * });
 */
export async function renderChat(
  { messages, tools, addGenerationPrompt = true, signal, ...spec }: RenderChatRequest,
  host: TemplateHost = templateHost(),
): Promise<Piece[]> {
  const definitions = readTools(tools);
  const conversation = readConversation(messages, definitions);
  const format = formatOf(spec);
  return host.run(
    (timeMs) => ({
      type: "render",
      ...host.introduce(format.number, format.spec),
      messages: conversation,
      ...(definitions ? { tools: definitions } : {}),
      addGenerationPrompt,
      timeMs,
    }),
    { signal },
  );
}

/**
 * Starts the worker, and has it parse the template where one is given, so that the first conversation need
 * not wait. Never fails: that conversation will.
 */
export function warmChatTemplates(spec?: ChatFormatSpec, host: TemplateHost = templateHost()): void {
  const format = spec && formatOf(spec);
  host
    .run(() => ({ type: "wake", ...(format && host.introduce(format.number, format.spec)) }))
    .catch(() => {});
}
