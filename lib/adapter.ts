/// <reference lib="esnext.disposable" preserve="true" />
import type { SourceOptions } from "./options";

/** How an adapter is loaded. */
export interface AdapterOptions extends SourceOptions {
  /** What requests call it by. Default: the name of its folder or repository, or of its file without the extension. */
  name?: string;
  /** A factor on what it adds, besides its own alpha / rank. Default 1. */
  scale?: number;
}

/**
 * A low-rank adapter (LoRA) of a model, from `model.loadAdapter`. Requests name it, each its own; those in one batch
 * share the model's weights.
 */
export interface Adapter extends AsyncDisposable {
  readonly name: string;
  /** The largest rank among its matrices. */
  readonly rank: number;
  /** Names of the matrices that it changes, as GGUF files call them, for example "blk.0.attn_q.weight". */
  readonly targets: readonly string[];
  /** What it takes in memory when it is there. */
  readonly bytes: number;
  readonly scale: number;
  /**
   * Takes it away: new requests with it fail with `Disposed`, those with its name with `InvalidArgument`, as with any
   * name that is not loaded; those under way end as they would. Resolves when the last of these has ended. What was
   * loaded several times under one name is taken away by as many calls; further ones change nothing.
   */
  unload(): Promise<void>;
}

/** One of several adapters of a request. */
export interface WeightedAdapter {
  adapter: Adapter | string;
  /** A factor on what it adds, besides the one it was loaded with. Default 1. */
  scale?: number;
}

/** The adapter of a request, by itself or by its name, or several whose changes add up. */
export type AdapterChoice = Adapter | string | readonly WeightedAdapter[];
