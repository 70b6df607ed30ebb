import { readTools } from "../chat/tools";
import type { ChatMessage } from "../chat-message";
import { TokenmillError } from "../errors";
import type { ChatOptions, GenerationOptions } from "../options";
import type { ToolDefinition } from "../tool-definition";
import {
  checkChoice,
  checkFlag,
  checkFunction,
  checkGenerationOptions,
  checkKeys,
  checkNumber,
  checkObject,
  invalid,
} from "../validate";
import type { BatchInput, BatchOptions } from "./batch-item";

const concurrencyMaximum = 4096;

/** Takes a batch's options apart, and refuses those that are unknown or out of range. */
export function splitBatchOptions(options: BatchOptions) {
  checkObject("options", options);
  const { order, concurrency, skip, stopOnError, onProgress, tools, ...generation } = options as BatchOptions;
  checkChoice("order", order, ["input", "completion"]);
  checkNumber("concurrency", concurrency, { minimum: 1, maximum: concurrencyMaximum, integer: true });
  checkFlag("stopOnError", stopOnError);
  checkFunction("onProgress", onProgress);
  if (skip !== undefined && typeof skip !== "function" && typeof skip?.has !== "function")
    throw invalid("skip", skip, "a Set of ids or a function");
  checkGenerationOptions(generation);
  const { signal, ...common } = generation;
  const own = readTools(tools) as readonly ToolDefinition[] | undefined;
  return { order, concurrency, skip, stopOnError, onProgress, signal, common, tools: own };
}

/** The iterator of a batch's inputs. A text is refused: its characters are hardly meant as prompts. */
export function iteratorOf(
  inputs: AsyncIterable<BatchInput> | Iterable<BatchInput>,
): AsyncIterator<BatchInput> | Iterator<BatchInput> {
  const source: Partial<AsyncIterable<BatchInput> & Iterable<BatchInput>> = inputs ?? {};
  if (typeof source[Symbol.asyncIterator] === "function")
    return (inputs as AsyncIterable<BatchInput>)[Symbol.asyncIterator]();
  if (typeof inputs !== "string" && typeof source[Symbol.iterator] === "function")
    return (inputs as Iterable<BatchInput>)[Symbol.iterator]();
  throw invalid("inputs", inputs, "an iterable or async iterable of prompts or items");
}

/** An item as it is run. */
export interface BatchRequest {
  prompt?: string | readonly number[];
  messages?: readonly ChatMessage[];
  options: ChatOptions;
}

/** The id that an input has by itself. */
export function ownId(input: BatchInput): string | undefined {
  return typeof input === "object" && input !== null && "id" in input ? input.id : undefined;
}

/**
 * What is to be generated for an input, with the options and, if it has messages, the tools in common; refuses one that
 * is not clear about it.
 */
export function toBatchRequest(
  input: BatchInput,
  common: GenerationOptions,
  tools?: readonly ToolDefinition[],
): BatchRequest {
  if (typeof input === "string" || Array.isArray(input) || ArrayBuffer.isView(input))
    return { prompt: input as string | readonly number[], options: common };
  checkObject("an item of the batch", input);
  checkKeys("an item of the batch", input, ["id", "prompt", "messages", "options"]);
  const { id, prompt, messages, options = {} } = input as Exclude<BatchInput, string | readonly number[]>;
  if (id !== undefined && (typeof id !== "string" || id === ""))
    throw invalid("an item's id", id, "a string that is not empty");
  if ((prompt === undefined) === (messages === undefined)) {
    throw new TokenmillError(
      "InvalidArgument",
      `an item of the batch has ${prompt === undefined ? "neither prompt nor messages" : "prompt and messages"}; ` +
        "expected one of them",
    );
  }
  checkObject("an item's options", options);
  const merged: ChatOptions = { ...common, ...(options as ChatOptions) };
  if (prompt !== undefined) return { prompt, options: merged };
  const withTools = tools ? { tools, ...merged } : merged;
  return { messages: messages as readonly ChatMessage[], options: withTools };
}
