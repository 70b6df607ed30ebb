import { setTimeout as sleep, setImmediate as yieldToEvents } from "node:timers/promises";
import { onAbort } from "../abort-callbacks";
import type { Completion } from "../completion";
import { TokenmillError } from "../errors";
import type { Model } from "../model";
import { toTokenmillError } from "../native";
import type { GenerationOptions } from "../options";
import type { Reply } from "../reply";
import { invalid } from "../validate";
import type { BatchInput, BatchOptions, BatchProgress, BatchResult } from "./batch-item";
import { type BatchRequest, iteratorOf, ownId, splitBatchOptions, toBatchRequest } from "./check-batch";
import { RecentIds } from "./recent-ids";

/**
 * Requests at once by default. A step's arithmetic is saturated by some 16 to 32 rows on CPUs; twice that leaves work
 * while ended items are replaced and while some are read in as prompts.
 */
const defaultConcurrency = 64;
/** Items that may be taken and not yet read, for each request at once. */
const heldPerRequest = 4;
/** Items that are taken without giving the event loop a turn. */
const itemsPerTurn = 256;
/** A request that the engine's queue has no room for is tried again after so long. */
const overloadedRetryMs = 50;

/** What is left of an item's options after so many milliseconds of waiting for room. */
function untilDeadline(options: GenerationOptions, elapsedMs: number): GenerationOptions {
  const { deadline } = options;
  if (deadline === undefined) return options;
  if (elapsedMs < deadline || elapsedMs < overloadedRetryMs) {
    return { ...options, deadline: Math.max(0, deadline - elapsedMs) };
  }
  throw new TokenmillError(
    "DeadlineExceeded",
    `the deadline of ${deadline} ms passed while the engine's queue was full. Allow more time or raise maxQueue`,
  );
}

/** An item that was taken from the source and whose result has not been read. */
interface Slot {
  id: string;
  index: number;
  result?: BatchResult;
}

/** A request under way. */
interface Running {
  reply?: Reply;
  ended: Promise<void>;
}

interface Reader {
  resolve(result: IteratorResult<BatchResult, undefined>): void;
  reject(error: unknown): void;
}

/** What a batch asks of its model. */
export interface BatchModel extends Pick<Model, "generate" | "chat"> {
  /** Fires when the model is disposed of, with the error for whoever uses it then as its reason. */
  readonly disposal: AbortSignal;
}

/**
 * The results of many requests, as `generateMany` gives them. Nothing is taken from the source before the first
 * result is asked for. Then items run ahead of the reader within a window, and no further.
 */
export class Batch implements AsyncIterableIterator<BatchResult> {
  readonly #model: BatchModel;
  readonly #settings: ReturnType<typeof splitBatchOptions>;
  readonly #source: ReturnType<typeof iteratorOf>;
  readonly #concurrency: number;
  readonly #ids = new RecentIds();
  readonly #progress: BatchProgress;
  /** In the order of reading: what runs and what has ended in "input" order, else only what has ended. */
  #slots: Slot[] = [];
  readonly #readers: Reader[] = [];
  readonly #running = new Map<Slot, Running>();
  /** Items taken and not yet read. */
  #held = 0;
  #index = 0;
  #state: "idle" | "open" | "drained" | "closed" = "idle";
  #isReading = false;
  /** While the source has neither ended nor thrown: then it is to be told when it is left. */
  #hasSource = true;
  #failure: { error: unknown } | undefined;
  #onRoom: (() => void) | undefined;
  #stopListening: (() => void) | undefined;
  #stopAwaitingDisposal: (() => void) | undefined;

  constructor(
    model: BatchModel,
    inputs: AsyncIterable<BatchInput> | Iterable<BatchInput>,
    options: BatchOptions,
  ) {
    this.#model = model;
    this.#settings = splitBatchOptions(options);
    this.#source = iteratorOf(inputs);
    this.#concurrency = this.#settings.concurrency ?? defaultConcurrency;
    const total = Array.isArray(inputs) ? { total: inputs.length } : {};
    this.#progress = { ...total, skipped: 0, completed: 0, failed: 0, promptTokens: 0, completionTokens: 0 };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<BatchResult, undefined>> {
    if (this.#state === "idle") this.#open();
    this.#endIfDisposed();
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      this.#deliver();
    });
  }

  /** Ends the batch: cancels what runs, waits until it has ended, and closes the source. */
  async return(): Promise<IteratorResult<BatchResult, undefined>> {
    this.#slots = [];
    this.#failure = undefined;
    const left = this.#close();
    left.catch(() => undefined); // told below, once what runs has ended
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
    this.#deliver();
    await left;
    return { done: true, value: undefined };
  }

  #open(): void {
    this.#state = "open";
    const { signal } = this.#settings;
    const abort = () => {
      const options = { cause: signal?.reason };
      this.#fail(new TokenmillError("Aborted", "the batch was aborted by its signal", options));
    };
    this.#stopListening = signal && !signal.aborted ? onAbort(signal, abort) : undefined;
    if (signal?.aborted) abort();
    else if (this.#model.disposal.aborted) this.#endIfDisposed();
    else void this.#pump();
  }

  /** Ends a batch whose model is gone: what its source would still give could not be run. */
  #endIfDisposed(): void {
    const { disposal } = this.#model;
    if (disposal.aborted && this.#state === "open") this.#fail(disposal.reason);
  }

  /** Takes items from the source while there is room for them. */
  async #pump(): Promise<void> {
    try {
      for (let taken = 1; this.#state === "open"; ++taken) {
        while (this.#isFull()) await new Promise<void>((resolve) => (this.#onRoom = resolve));
        if (taken % itemsPerTurn === 0) await yieldToEvents();
        if (this.#state !== "open") return;
        const input = await this.#read();
        if (input === undefined) break;
        await this.#take(input.value);
      }
      if (this.#state === "open") this.#state = "drained";
    } catch (error) {
      if (this.#state !== "open") return;
      this.#failure = { error };
      this.#state = "drained"; // what runs goes on, and its results come first
      this.#leaveSource().catch(() => undefined);
    }
    this.#deliver();
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }

  #isFull(): boolean {
    if (this.#state !== "open") return false;
    return this.#running.size >= this.#concurrency || this.#held >= heldPerRequest * this.#concurrency;
  }

  async #read(): Promise<{ value: BatchInput } | undefined> {
    this.#isReading = true;
    try {
      const step = await this.#source.next();
      if (!step.done) return { value: step.value };
    } catch (error) {
      this.#hasSource = false;
      throw error;
    } finally {
      this.#isReading = false;
    }
    this.#hasSource = false;
    return undefined;
  }

  /** Starts one item, unless it is to be passed over. */
  async #take(input: BatchInput): Promise<void> {
    const index = this.#index++;
    const own = ownId(input);
    const slot: Slot = { id: typeof own === "string" && own !== "" ? own : String(index), index };
    const isNew = this.#ids.add(slot.id);
    if (isNew && (await this.#skips(slot))) {
      this.#progress.skipped += 1;
      this.#report();
      return;
    }
    if (this.#state !== "open") return;
    this.#held += 1;
    if (this.#settings.order !== "completion") this.#slots.push(slot);
    const running: Running = { ended: Promise.resolve() };
    this.#running.set(slot, running);
    running.ended = this.#run(slot, running, () => {
      if (!isNew) throw invalid(`the id of item ${index}`, slot.id, "an id that no other item has");
      return toBatchRequest(input, this.#settings.common, this.#settings.tools);
    });
  }

  async #skips({ id, index }: Slot): Promise<boolean> {
    const { skip } = this.#settings;
    return typeof skip === "function" ? skip(id, index) : (skip?.has(id) ?? false);
  }

  async #run(slot: Slot, running: Running, request: () => BatchRequest): Promise<void> {
    const { id, index } = slot;
    try {
      slot.result = { id, index, completion: await this.#generate(running, request()) };
    } catch (error) {
      slot.result = { id, index, error: toTokenmillError(error) };
    }
    this.#running.delete(slot);
    if (this.#state !== "closed") this.#settle(slot, slot.result);
    this.#deliver();
  }

  async #generate(running: Running, { prompt, messages, options: own }: BatchRequest): Promise<Completion> {
    const begunMs = performance.now();
    for (;;) {
      const options = untilDeadline(own, performance.now() - begunMs);
      const reply =
        prompt === undefined
          ? this.#model.chat(messages ?? [], options)
          : this.#model.generate(prompt, options);
      running.reply = reply;
      try {
        return await reply;
      } catch (error) {
        if (toTokenmillError(error).code !== "Overloaded" || this.#isClosed()) throw error;
      }
      await sleep(overloadedRetryMs);
      if (this.#isClosed()) throw new TokenmillError("Aborted", "the batch has ended");
    }
  }

  /** Takes account of an item that has ended. */
  #settle(slot: Slot, { completion, error }: BatchResult): void {
    const { order, stopOnError } = this.#settings;
    // A model that is gone has every further item fail. `Disposed` alone may be an item's adapter or draft.
    if (error && (stopOnError || this.#model.disposal.aborted)) {
      this.#slots = this.#slots.filter((other) => other !== slot);
      this.#fail(error);
      return;
    }
    if (order === "completion") this.#slots.push(slot);
    if (completion) {
      this.#progress.completed += 1;
      this.#progress.promptTokens += completion.usage.promptTokens;
      this.#progress.completionTokens += completion.usage.completionTokens;
    } else {
      this.#progress.failed += 1;
    }
    this.#report();
  }

  #report(): void {
    try {
      this.#settings.onProgress?.({ ...this.#progress });
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  /** Ends the batch with an error, which comes after the results that are there. */
  #fail(error: unknown): void {
    this.#failure ??= { error }; // it is the first error that counts
    this.#slots = this.#slots.filter((slot) => slot.result !== undefined);
    this.#close().catch(() => undefined);
    this.#deliver();
  }

  /** Takes and starts nothing any more. The promise has what the source says to being left. */
  #close(): Promise<void> {
    this.#state = "closed";
    this.#onRoom?.();
    this.#stopListening?.();
    for (const { reply } of this.#running.values()) reply?.cancel();
    return this.#leaveSource();
  }

  /** Calls the source's `return()`, unless it has ended. */
  async #leaveSource(): Promise<void> {
    if (!this.#hasSource) return;
    this.#hasSource = false;
    const returned = this.#source.return?.();
    // A source that is being waited for answers when it can, and perhaps never.
    if (this.#isReading) Promise.resolve(returned).catch(() => undefined);
    else await returned;
  }

  /** Gives readers what is there; at the end, the end. */
  #deliver(): void {
    while (this.#readers.length > 0) {
      const [slot] = this.#slots;
      if (slot?.result !== undefined) {
        this.#slots.shift();
        this.#held -= 1;
        this.#readers.shift()?.resolve({ done: false, value: slot.result });
      } else if (this.#state === "closed" || this.#state === "drained") {
        if (this.#running.size > 0) break;
        this.#stopListening?.();
        const failure = this.#failure;
        this.#failure = undefined;
        const reader = this.#readers.shift();
        if (failure) reader?.reject(failure.error);
        else reader?.resolve({ done: true, value: undefined });
      } else {
        break;
      }
    }
    this.#awaitDisposal();
    if (!this.#isFull()) this.#onRoom?.();
  }

  /**
   * Has the model tell of its end while somebody waits for the source. Otherwise the next read finds it out, so that
   * the model does not keep alive a batch that nobody reads any more.
   */
  #awaitDisposal(): void {
    if (this.#state === "open" && this.#readers.length > 0) {
      this.#stopAwaitingDisposal ??= onAbort(this.#model.disposal, () => this.#endIfDisposed());
    } else {
      this.#stopAwaitingDisposal?.();
      this.#stopAwaitingDisposal = undefined;
    }
  }
}
