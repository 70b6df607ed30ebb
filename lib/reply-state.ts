import type { Completion, ReplyPart, TokenLogprob } from "./completion";
import { type ErrorCode, TokenmillError } from "./errors";
import type { NativeEvent, NativeOutcome } from "./native";

/** Parts that may wait unread before the engine pauses the reply. */
export const unreadPartsMaximum = 64;
/** Read parts are reported in groups of so many. */
const creditBatch = unreadPartsMaximum / 2;
const unlimitedCredits = 2 ** 52;

/** What a reply asks of its model. */
export interface ReplyControl {
  cancel(id: number): void;
  addCredits(id: number, credits: number): void;
  /** Told when the reply starts or stops being able to go on: only such replies keep the process alive. */
  setRunnable(runnable: boolean): void;
  /** Told once, when the reply has ended. */
  ended(): void;
}

interface Waiter {
  resolve(result: IteratorResult<ReplyPart, undefined>): void;
  reject(error: TokenmillError): void;
  /** The user's object, which counts as held while someone waits for its next part. */
  reader: object;
}

/** Of a request that nothing was computed for. */
export const emptyOutcome: NativeOutcome = {
  reason: "aborted",
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  queueMs: 0,
  ttftMs: 0,
  prefillTokensPerSecond: 0,
  decodeTokensPerSecond: 0,
};

/**
 * A reply's memory, shared by the object that the user holds and the model that feeds it. It refers to the
 * user's object only while a part is waited for, so that a reply nobody holds any more can be found out and
 * cancelled.
 */
export class ReplyState {
  private readonly unread: ReplyPart[] = [];
  private readonly waiters: Waiter[] = [];
  private readonly tokens: number[] = [];
  private readonly logprobs: TokenLogprob[] = [];
  private text = "";
  private readUnreported = 0;
  private credits = unreadPartsMaximum;
  private runnable = false;
  private readonly createdMs = performance.now();
  private prepared = 0;
  private submitted = false;
  private unbounded = false;
  private stopping = false;
  private left = false;
  private failureReason: { code: ErrorCode; message: string; cause?: unknown } | undefined;
  private completion: Completion | undefined;
  private error: TokenmillError | undefined;
  private settle: { resolve(completion: Completion): void; reject(error: TokenmillError): void } | undefined;
  private whole: Promise<Completion> | undefined;

  constructor(
    readonly id: number,
    readonly seed: number,
    private readonly withLogprobs: boolean,
    private readonly control: ReplyControl,
  ) {
    this.updateRunnable();
  }

  get ended(): boolean {
    return this.completion !== undefined || this.error !== undefined;
  }

  /** Whether it has been told to stop, or has ended. */
  get stopped(): boolean {
    return this.stopping || this.ended;
  }

  /** Whether it was stopped because nobody could read it any more. */
  get abandoned(): boolean {
    return this.left;
  }

  /** What the reply has ended with. */
  get result(): Completion | TokenmillError | undefined {
    return this.error ?? this.completion;
  }

  /** From the call until the request reached the engine, whose own times count from there; milliseconds. */
  get preparedMs(): number {
    return this.prepared;
  }

  /** From now on the engine ends the reply. Returns the parts that it may send at first. */
  markSubmitted(): number {
    this.submitted = true;
    this.prepared = performance.now() - this.createdMs;
    if (this.unbounded) this.credits = unlimitedCredits;
    return Math.min(this.credits, 2 ** 31 - 1);
  }

  /** Takes what a step made of this reply. */
  accept(event: NativeEvent): void {
    if (this.ended) return;
    if (event.tokens.length > 0 || event.text !== "") {
      if (event.tokens.length > 0) this.credits -= 1;
      this.text += event.text;
      this.tokens.push(...event.tokens);
      if (event.logprobs) this.logprobs.push(...event.logprobs);
      this.push({
        type: "text",
        text: event.text,
        tokens: event.tokens,
        ...(event.logprobs ? { logprobs: event.logprobs } : {}),
      });
    }
    if (event.outcome) this.end(event.outcome);
    else this.updateRunnable();
  }

  /** Ends a reply that never reached the engine. */
  fail(error: TokenmillError): void {
    if (this.ended) return;
    this.failureReason = { code: error.code, message: error.message, cause: error.cause };
    this.end(emptyOutcome);
  }

  /** Stops the reply; with a reason it then fails, without one it completes as aborted. The first call counts. */
  stop(reason?: { code: ErrorCode; message: string; cause?: unknown }): void {
    if (this.ended || this.stopping) return;
    this.failureReason = reason;
    if (this.submitted) {
      this.stopping = true;
      this.control.cancel(this.id);
      this.updateRunnable();
    } else {
      this.end(emptyOutcome);
    }
  }

  /** Stops a reply that nobody can read any more. */
  abandon(): void {
    this.left ||= !this.stopped;
    this.stop();
  }

  next(reader: object): Promise<IteratorResult<ReplyPart, undefined>> {
    const part = this.unread.shift();
    if (part !== undefined) {
      this.reportRead();
      return Promise.resolve({ done: false, value: part });
    }
    if (this.error) return Promise.reject(this.error);
    if (this.completion) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject, reader }));
  }

  /** The whole reply. Lifts the bound on unread parts. */
  promise(): Promise<Completion> {
    if (this.whole === undefined) {
      if (!this.ended && this.submitted) this.addCredits(unlimitedCredits);
      this.unbounded = true;
      this.whole = new Promise((resolve, reject) => {
        this.settle = { resolve, reject };
        this.settleNow();
      });
    }
    return this.whole;
  }

  private push(part: ReplyPart): void {
    const waiter = this.waiters.shift();
    if (waiter === undefined) {
      this.unread.push(part);
    } else {
      waiter.resolve({ done: false, value: part });
      this.reportRead();
    }
  }

  private reportRead(): void {
    this.readUnreported += 1;
    if (this.readUnreported < creditBatch || this.ended) return;
    this.addCredits(this.readUnreported);
    this.readUnreported = 0;
  }

  private addCredits(credits: number): void {
    this.credits += credits;
    this.control.addCredits(this.id, credits);
    this.updateRunnable();
  }

  private updateRunnable(): void {
    const runnable = !this.ended && (this.credits > 0 || this.stopping);
    if (runnable === this.runnable) return;
    this.runnable = runnable;
    this.control.setRunnable(runnable);
  }

  private end(outcome: NativeOutcome): void {
    const completion: Completion = {
      text: this.text,
      tokens: this.tokens,
      finishReason: outcome.reason,
      seed: this.seed,
      usage: {
        promptTokens: outcome.promptTokens,
        cachedTokens: outcome.cachedTokens,
        completionTokens: this.tokens.length,
      },
      timings: {
        queueMs: this.prepared + outcome.queueMs,
        ttftMs: outcome.ttftMs > 0 ? this.prepared + outcome.ttftMs : 0,
        prefillTokensPerSecond: outcome.prefillTokensPerSecond,
        decodeTokensPerSecond: outcome.decodeTokensPerSecond,
      },
      ...(this.withLogprobs ? { logprobs: this.logprobs } : {}),
    };
    const failure = outcome.code
      ? { code: outcome.code, message: outcome.message ?? "" }
      : outcome.reason === "aborted"
        ? this.failureReason
        : undefined;
    if (failure) {
      const cause = "cause" in failure && failure.cause !== undefined ? { cause: failure.cause } : {};
      this.error = new TokenmillError(failure.code, failure.message, { ...cause, partial: completion });
    } else {
      this.completion = completion;
    }
    for (const waiter of this.waiters.splice(0)) {
      if (this.error) waiter.reject(this.error);
      else waiter.resolve({ done: true, value: undefined });
    }
    this.settleNow();
    this.updateRunnable();
    this.control.ended();
  }

  private settleNow(): void {
    if (this.error) this.settle?.reject(this.error);
    else if (this.completion) this.settle?.resolve(this.completion);
  }
}
