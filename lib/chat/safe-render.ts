import { TokenmillError } from "../errors";
import { TemplateRefusal } from "./compiled-template";
import { type JsonObject, type JsonValue, mapStrings, stringsOf } from "./json-value";
import { RenderLimitError } from "./render-limits";
import {
  chooseMarks,
  type Marks,
  markAll,
  type Piece,
  type SpecialTokens,
  withoutMarks,
} from "./special-tokens";

/** What callers give to render. */
export interface Conversation {
  messages: JsonObject[];
  tools?: JsonObject[];
}

/** What a conversation is rendered with. */
export interface SafeRenderSource {
  /** The template's own text. */
  template: string;
  specialTokens: SpecialTokens;
  /** Renders a conversation; `hasMarks` tells that there are marks in its strings, which makes them longer. */
  render(conversation: Conversation, hasMarks: boolean): string;
}

/** Names that templates compare roles and types with, or build special tokens from. */
const standardWords = new Set(["system", "developer", "user", "assistant", "tool", "function", "text"]);
/** What JSON schemas call types, which templates write out in words of their own. */
const schemaTypes = new Set([
  "function",
  "object",
  "array",
  "string",
  "number",
  "integer",
  "boolean",
  "null",
]);
/** What templates look up in a tool. */
const schemaKeys = new Set(
  (
    "type function name description parameters properties required items enum default return " +
    "anyOf oneOf allOf const format title nullable additionalProperties"
  ).split(" "),
);
/** Whose keys in a schema are the caller's names. */
const namedByCaller = new Set(["properties", "patternProperties", "definitions", "$defs"]);

type MapText = (text: string) => string;

/**
 * Renders a conversation so that no special token comes from a caller's string, whole or in part, whatever
 * the template does with it.
 *
 * Callers' strings are rendered with the special tokens they spell put between marks (private-use characters
 * that occur nowhere in the input). What a template looks for in a message, trims off or splits at is left as
 * it is. That alone would not do: a template can join what callers wrote with text of its own, or delete from
 * it, and so complete a special token that nobody spelled. Hence a second rendering, of harmless strings in
 * the same shape, each visible character replaced by a private-use one: its special tokens are the template's
 * own. When the first has the same, it is the result. Otherwise every visible character of the callers is
 * marked, and special tokens with a marked character are text.
 *
 * Whitespace is never marked, so a special token of which a caller contributes nothing but whitespace is not
 * found out by the third rendering; no known vocabulary has one.
 */
export function renderSafely(source: SafeRenderSource, conversation: Conversation): Piece[] {
  const { messages, tools = [] } = conversation;
  const strings = stringsOf([...messages, ...tools]);
  const marks = chooseMarks([source.template, source.specialTokens.characters, ...strings]);
  if (marks === undefined) {
    throw new TokenmillError(
      "InvalidArgument",
      "The messages contain every private-use character of Unicode",
    );
  }
  const { specialTokens } = source;
  const render = (mapText: MapText) => {
    const { mapped, isChanged } = mapConversation(source, conversation, mapText);
    try {
      return source.render(mapped, isChanged);
    } catch (error) {
      throw error instanceof TemplateRefusal ? new TemplateRefusal(withoutMarks(error.reason, marks)) : error;
    }
  };

  const spelled = specialTokens.split(
    render((text) => specialTokens.markSpelled(text, marks)),
    marks,
  );
  const harmless = unlessFailing(() => specialTokens.split(render((text) => withoutMeaning(text, marks))));
  if (harmless !== undefined && sameSpecialTokens(spelled, harmless)) return spelled;
  const marked = unlessFailing(() => render((text) => markAll(text, marks)));
  if (marked !== undefined) return specialTokens.split(marked, marks);
  throw new TokenmillError(
    "UnsupportedModel",
    "The model's chat template fails when special tokens in the messages are kept apart from its own; " +
      "generate() takes prompts without it",
  );
}

/** Undefined where the template cannot take what it is given. Limits stay errors. */
export function unlessFailing<T>(render: () => T): T | undefined {
  try {
    return render();
  } catch (error) {
    if (error instanceof RenderLimitError || !TokenmillError.isInstance(error)) throw error;
    return undefined;
  }
}

function withoutMeaning(text: string, marks: Marks): string {
  return text.replace(/\S+/g, (word) => marks.open.repeat(word.length));
}

function sameSpecialTokens(a: readonly Piece[], b: readonly Piece[]): boolean {
  const texts = (pieces: readonly Piece[]) =>
    pieces.filter((piece) => piece.special).map((piece) => piece.text);
  const [left, right] = [texts(a), texts(b)];
  return left.length === right.length && left.every((text, index) => text === right[index]);
}

/**
 * Maps the callers' strings. In messages, words that the template itself knows stay: roles, types and the like
 * (some templates make special tokens of roles), and keys. What is not such a word is mapped wherever it
 * stands. Of tools only the keys and types of schemas stay.
 */
function mapConversation(
  { template, specialTokens }: SafeRenderSource,
  { messages, tools }: Conversation,
  mapText: MapText,
): { mapped: Conversation; isChanged: boolean } {
  let isChanged = false;
  const change = (text: string) => {
    const changed = mapText(text);
    isChanged ||= changed.length !== text.length;
    return changed;
  };
  const isWord = (text: string) => /^[A-Za-z][\w-]*$/.test(text) && !specialTokens.has(text);
  const isKnown = (text: string) =>
    isWord(text) &&
    (standardWords.has(text) || template.includes(`'${text}'`) || template.includes(`"${text}"`));
  const mapMessages = (value: JsonValue) =>
    mapStrings(
      value,
      (text, key) => (key !== "content" && key !== "text" && isKnown(text) ? text : change(text)),
      (key) => (isWord(key) && template.includes(key) ? key : change(key)),
    ) as JsonObject[];
  const mapTools = (value: JsonValue) =>
    mapStrings(
      value,
      (text, key) => (key === "type" && schemaTypes.has(text) && isWord(text) ? text : change(text)),
      (key, parent) => (schemaKeys.has(key) && !namedByCaller.has(parent) ? key : change(key)),
    ) as JsonObject[];
  const mapped: Conversation = { messages: mapMessages(messages) };
  if (tools) mapped.tools = mapTools(tools);
  return { mapped, isChanged };
}
