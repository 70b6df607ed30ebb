import { TokenmillError } from "../errors";
import { CompiledTemplate } from "./compiled-template";
import type { JsonObject, JsonValue } from "./json-value";
import { markedGrowth, renderLimits } from "./render-limits";
import { type Conversation, renderSafely, unlessFailing } from "./safe-render";
import { type Piece, SpecialTokens } from "./special-tokens";

/** All that rendering a model's conversations needs to know of the model. Structured-cloneable. */
export interface ChatFormatSpec {
  /** The Jinja template of the model's metadata. */
  template: string;
  /** The tokens' texts; what is left out is empty in the template. */
  bosToken?: string;
  eosToken?: string;
  unkToken?: string;
  padToken?: string;
  /** The texts of every token that plain text must never become: the vocabulary's control tokens. */
  specialTokens: readonly string[];
}

export interface RenderRequest {
  messages: JsonObject[];
  tools?: JsonObject[];
  addGenerationPrompt: boolean;
  timeMs: number;
}

/** What a template takes as a message's content. */
type ContentShape = "string" | "parts";

const probe = "Probe";

/** Renders conversations with one model's template. Lives in the template worker. */
export class FormatRenderer {
  readonly #spec: ChatFormatSpec;
  #template: CompiledTemplate | undefined;
  readonly #specialTokens: SpecialTokens;
  #contentShape: ContentShape | undefined;

  constructor(spec: ChatFormatSpec) {
    this.#spec = spec;
    this.#specialTokens = new SpecialTokens(spec.specialTokens);
  }

  /** Parses the template, once. Throws UnsupportedModel when that cannot be done. */
  compile(): CompiledTemplate {
    this.#template ??= new CompiledTemplate(this.#spec.template);
    return this.#template;
  }

  /** Throws InvalidArgument for tools that the template takes no notice of, so that the model would not see them. */
  render({ messages, tools, addGenerationPrompt, timeMs }: RenderRequest): Piece[] {
    const deadline = performance.now() + timeMs;
    this.#contentShape ??= this.#probeContentShape(deadline);
    const shaped = messages.map((message) => withContentShape(message, this.#contentShape ?? "string"));
    const pieces = renderSafely(
      {
        template: this.#spec.template,
        specialTokens: this.#specialTokens,
        render: (marked, hasMarks) => this.#renderText(marked, addGenerationPrompt, deadline, hasMarks),
      },
      tools ? { messages: shaped, tools } : { messages: shaped },
    );
    if (tools) this.#checkShown(shaped, tools, addGenerationPrompt, deadline);
    return pieces;
  }

  #checkShown(
    messages: JsonObject[],
    tools: JsonObject[],
    addGenerationPrompt: boolean,
    deadline: number,
  ): void {
    const [without, with_] = [{ messages }, { messages, tools }].map((conversation) =>
      unlessFailing(() => this.#renderText(conversation, addGenerationPrompt, deadline, false)),
    );
    if (without === undefined || without !== with_) return;
    throw new TokenmillError(
      "InvalidArgument",
      "tools are given, but the model's chat template does not take any: it makes the same prompt without " +
        "them. Use a model that was trained for tools, or describe them in a system message",
    );
  }

  #renderText(
    { messages, tools }: Conversation,
    addGenerationPrompt: boolean,
    deadline: number,
    hasMarks: boolean,
  ): string {
    const { bosToken = "", eosToken = "", unkToken = "", padToken = "" } = this.#spec;
    const context = {
      messages,
      tools: tools ?? null,
      documents: null,
      add_generation_prompt: addGenerationPrompt,
      bos_token: bosToken,
      eos_token: eosToken,
      unk_token: unkToken,
      pad_token: padToken,
    };
    const charactersMax = renderLimits.conversationCharacters * (hasMarks ? markedGrowth : 1);
    return this.compile().render(context, { deadline, charactersMax });
  }

  /**
   * Templates of models with several modalities may take lists of parts only. Such a template drops a string,
   * or fails on it.
   */
  #probeContentShape(deadline: number): ContentShape {
    const takes = (content: JsonValue): boolean => {
      const messages = [{ role: "user", content }];
      const text = unlessFailing(() => this.#renderText({ messages }, true, deadline, false));
      return text?.includes(probe) ?? false;
    };
    return !takes(probe) && takes([{ type: "text", text: probe }]) ? "parts" : "string";
  }
}

function withContentShape(message: JsonObject, shape: ContentShape): JsonObject {
  const { content } = message;
  if (shape === "parts") {
    return typeof content === "string" ? { ...message, content: [{ type: "text", text: content }] } : message;
  }
  if (!Array.isArray(content)) return message;
  return { ...message, content: content.map((part) => (part as JsonObject).text).join("") };
}
