import { type Channel, channel } from "node:diagnostics_channel";
import type { Completion, FinishReason, Timings, Usage } from "./completion";
import { TokenmillError } from "./errors";
import type { ModelInfo } from "./model";
import type { NativeEvent } from "./native";

/** What every message about a request has. */
export interface RequestMessage {
  /** The same in all messages about one request, and another for each request of this JavaScript thread. */
  request: number;
  operation: "generate" | "chat" | "score";
  model: ModelInfo;
}

export interface RequestFinishedMessage extends RequestMessage {
  /** Of a reply or score that did not fail. */
  finishReason?: FinishReason;
  /** Why it failed. */
  error?: TokenmillError;
  usage: Usage;
  timings: Timings;
  /** From the call to the end, in milliseconds. */
  durationMs: number;
}

/**
 * The channels of `node:diagnostics_channel` that the library publishes to while they have subscribers, and their
 * messages. A request is followed from its start to its end: its channels must have a subscriber when it is made.
 * Subscribers are called synchronously, `queued` in the call that makes the request.
 *
 * @example
 * import { subscribe } from "node:diagnostics_channel";
 * subscribe("tokenmill:request:finished", (message) => {
 *   const { usage } = message as DiagnosticsMessages["tokenmill:request:finished"];
 *   console.log(usage.completionTokens);
 * });
 */
export interface DiagnosticsMessages {
  /** A request whose arguments are right has been made. */
  "tokenmill:request:queued": RequestMessage;
  /** Its first step has run, after it waited so long in the engine. */
  "tokenmill:request:prefill": RequestMessage & { queueMs: number };
  /** The first part of a reply has come, so long after the call. */
  "tokenmill:request:first-token": RequestMessage & { ttftMs: number };
  /** It had to give up its pages, and so many tokens have to be computed again. */
  "tokenmill:request:preempted": RequestMessage & { tokens: number };
  /** It has ended, in whichever way. */
  "tokenmill:request:finished": RequestFinishedMessage;
  /** Cached pages have been given up to make room. */
  "tokenmill:cache:evicted": { model: ModelInfo; pages: number };
}

type Message<Name extends keyof DiagnosticsMessages> = DiagnosticsMessages[Name];

// Kept here, for Node forgets channels that nobody holds.
const queued = channel("tokenmill:request:queued");
const prefill = channel("tokenmill:request:prefill");
const firstToken = channel("tokenmill:request:first-token");
const preempted = channel("tokenmill:request:preempted");
const finished = channel("tokenmill:request:finished");
const evicted = channel("tokenmill:cache:evicted");

const ofEngine: readonly Channel[] = [prefill, preempted, evicted];
const all: readonly Channel[] = [queued, firstToken, finished, ...ofEngine];

const isObserved = (channels: readonly Channel[]) => channels.some((each) => each.hasSubscribers);

/** How a request ended, as its last message says. */
export type RequestEnd = Omit<RequestFinishedMessage, keyof RequestMessage | "durationMs">;

/** How a reply ended, in a message's form. */
export function endOfReply(result: Completion | TokenmillError): RequestEnd | undefined {
  if (!TokenmillError.isInstance(result)) {
    const { finishReason, usage, timings } = result;
    return { finishReason, usage, timings };
  }
  return result.partial && { error: result, usage: result.partial.usage, timings: result.partial.timings };
}

/** Publishes that so many cached pages have been given up. */
export function publishEvicted(model: ModelInfo, pages: number): void {
  evicted.publish({ model, pages } satisfies Message<"tokenmill:cache:evicted">);
}

/** Publishes what happens to one request. */
export class RequestTrace {
  /** Whether the engine has to tell of what only it knows. */
  readonly wantsNotices = isObserved(ofEngine);
  readonly #request: RequestMessage;
  readonly #startMs = performance.now();
  #isQueued = false;
  #hasToken = false;

  constructor(request: RequestMessage) {
    this.#request = request;
  }

  queued(): void {
    this.#isQueued = true;
    queued.publish({ ...this.#request } satisfies Message<"tokenmill:request:queued">);
  }

  /** Looks at an event of the engine before it is handed on. */
  accept(event: NativeEvent): void {
    const request = this.#request;
    const { notice, tokens, outcome } = event;
    if (notice) {
      if (this.wantsNotices) this.#notice(notice, event.noticeValue ?? 0);
    } else if (!this.#hasToken && (tokens.length > 0 || (outcome?.ttftMs ?? 0) > 0)) {
      this.#hasToken = true;
      const ttftMs = performance.now() - this.#startMs;
      firstToken.publish({ ...request, ttftMs } satisfies Message<"tokenmill:request:first-token">);
    }
  }

  #notice(notice: NonNullable<NativeEvent["notice"]>, value: number): void {
    const request = this.#request;
    if (notice === "prefill") {
      const message: Message<"tokenmill:request:prefill"> = { ...request, queueMs: value };
      prefill.publish(message);
    } else if (notice === "preempted") {
      const message: Message<"tokenmill:request:preempted"> = { ...request, tokens: value };
      preempted.publish(message);
    } else {
      publishEvicted(request.model, value);
    }
  }

  finished(end: RequestEnd | undefined): void {
    if (!this.#isQueued || !end) return;
    const durationMs = performance.now() - this.#startMs;
    finished.publish({
      ...this.#request,
      ...end,
      durationMs,
    } satisfies Message<"tokenmill:request:finished">);
  }
}

/** Follows a request, when somebody listens. */
export function traceRequest(
  request: number,
  operation: RequestMessage["operation"],
  model: ModelInfo,
): RequestTrace | undefined {
  return isObserved(all) ? new RequestTrace({ request, operation, model }) : undefined;
}
