import type { ChatMessage } from "../chat-message";
import type { Completion } from "../completion";
import type { TokenmillError } from "../errors";
import type { ChatOptions, GenerationOptions } from "../options";

interface BatchItemBase {
  /** Names the item's result. Unique within the batch. Default: the item's index as a decimal number. */
  id?: string;
}

interface BatchItemOptions<Options> {
  /** What this item has different from the batch's generation options. */
  options?: Options;
}

/** One request of a batch: a prompt to continue as it is, or a conversation to answer. */
export type BatchItem =
  | (BatchItemBase &
      BatchItemOptions<GenerationOptions> & { prompt: string | readonly number[]; messages?: never })
  | (BatchItemBase & BatchItemOptions<ChatOptions> & { messages: readonly ChatMessage[]; prompt?: never });

/** What `generateMany` takes: an item, or just its prompt as text or token ids. */
export type BatchInput = string | readonly number[] | BatchItem;

/** What became of one item: its completion, or why there is none. */
export type BatchResult =
  | { id: string; index: number; completion: Completion; error?: never }
  | { id: string; index: number; error: TokenmillError; completion?: never };

/** How far a batch is. Counts items, of those that have been taken from the source. */
export interface BatchProgress {
  /** Items in all, where the inputs are an array. */
  total?: number;
  skipped: number;
  completed: number;
  failed: number;
  promptTokens: number;
  completionTokens: number;
}

/**
 * How a batch runs, with the generation options that its items have in common; `tools` are for those with messages.
 * Everything is optional.
 *
 * `signal` ends the whole batch: the iteration then rejects with `Aborted`, after what was done already.
 */
export interface BatchOptions extends ChatOptions {
  /** "input" (default): results in the order of the inputs; "completion": each as soon as it is there. */
  order?: "input" | "completion";
  /**
   * Requests under way at once, 1 to 4096. Default 64. Four times as many items at most are taken from the source
   * and not yet read as results: so far a slow first one is overtaken in "input" order.
   */
  concurrency?: number;
  /** Ids that are done already, from an earlier run: these items are taken from the source and passed over. */
  skip?: ReadonlySet<string> | ((id: string, index: number) => boolean | PromiseLike<boolean>);
  /** End the batch with the first item's error instead of giving it as a result. Default false. */
  stopOnError?: boolean;
  /** Told after each item that ends. What it throws ends the batch. */
  onProgress?: (progress: BatchProgress) => void;
}
