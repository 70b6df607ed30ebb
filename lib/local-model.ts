import { onAbort } from "./abort-callbacks";
import type { Adapter, AdapterOptions } from "./adapter";
import { loadAdapter } from "./adapters/load-adapter";
import { type AdapterMark, type AdapterUse, LoadedAdapters } from "./adapters/loaded-adapters";
import { Batch } from "./batch/batch";
import type { BatchInput, BatchOptions, BatchResult } from "./batch/batch-item";
import { renderChat } from "./chat/render-chat";
import type { ChatMessage } from "./chat-message";
import { describeModel } from "./describe-model";
import {
  endOfReply,
  publishEvicted,
  type RequestEnd,
  type RequestMessage,
  type RequestTrace,
  traceRequest,
} from "./diagnostics";
import { lendAsDraft, nativeDraft } from "./draft-model";
import { TokenmillError } from "./errors";
import type { Model, ModelInfo, ModelStats, Score, TokenizeOptions } from "./model";
import {
  callNative,
  type NativeAdapterChoice,
  type NativeEvent,
  type NativeModel,
  type NativeModelInfo,
  type NativeOutcome,
  type NativeRequest,
  type NativeSampling,
  type NativeScheduling,
  type PromptPiece,
  toTokenmillError,
} from "./native";
import type {
  ChatOptions,
  GenerationOptions,
  MemoryBudget,
  SchedulingOptions,
  ScoreOptions,
} from "./options";
import { Reply } from "./reply";
import { type ReplyControl, ReplyState } from "./reply-state";
import { readSessionOptions } from "./session/check-session";
import { restoreSession } from "./session/restore-session";
import { Session } from "./session/session";
import type { Conversation, PromptSource, SessionHost, Turn } from "./session/session-host";
import type { SessionOptions } from "./session/session-options";
import { type Receiver, SharedGenerations } from "./shared-generations";
import {
  checkGenerationOptions,
  checkObject,
  checkScoreOptions,
  invalid,
  splitChatOptions,
  stopStrings,
  toNativeBudget,
  toTokenArray,
} from "./validate";

export type Receivers = Map<number, Receiver>;

const samplingOptions = [
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "frequencyPenalty",
  "presencePenalty",
] as const satisfies readonly (keyof NativeSampling)[];

/** Unique among all models of this JavaScript thread, for who follows requests by `diagnostics_channel`. */
let nextRequestId = 1;
/** Of what sessions hold. */
let nextHold = 1;

function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return ((words[0] ?? 0) & 0x1fffff) * 2 ** 32 + (words[1] ?? 0);
}

function abortedBy(signal: AbortSignal) {
  return { code: "Aborted" as const, message: "the request was aborted by its signal", cause: signal.reason };
}

function abortError(signal: AbortSignal): TokenmillError {
  const { code, message, cause } = abortedBy(signal);
  return new TokenmillError(code, message, { cause });
}

/** What the engine is told of a request's standing, so many milliseconds after its call. */
function schedulingOf(options: SchedulingOptions, elapsedMs: number): NativeScheduling {
  const { priority, tenant, deadline } = options;
  return {
    ...(priority !== undefined ? { priority } : {}),
    ...(tenant !== undefined ? { tenant } : {}),
    ...(deadline !== undefined ? { deadline: Math.max(0, deadline - elapsedMs) } : {}),
  };
}

/** Ends a reply that has not reached the engine by its deadline; returns what calls that off. */
function stopAfter(state: ReplyState, deadline: number): () => void {
  const message =
    `the deadline of ${deadline} ms passed while the chat template was being rendered. ` +
    "Allow more time or send a shorter conversation";
  const timer = setTimeout(() => state.stop({ code: "DeadlineExceeded", message }), deadline);
  return () => clearTimeout(timer);
}

/** A reply whose request is being made, with the caller's options as they were. */
interface StartedReply {
  state: ReplyState;
  options: GenerationOptions;
  adapters: NativeAdapterChoice[] | undefined;
  trace: RequestTrace | undefined;
}

/** A model in this process: a client of a native engine. */
export class LocalModel implements Model {
  readonly info: ModelInfo;
  readonly #native: NativeModel;
  readonly #nativeInfo: NativeModelInfo;
  /** What requests in flight listen with. */
  readonly #receivers: Receivers;
  readonly #shared: SharedGenerations;
  readonly #states = new Set<ReplyState>();
  readonly #control: Omit<ReplyControl, "ended">;
  readonly #sessions: SessionHost;
  readonly #adapters: LoadedAdapters;
  readonly #disposal = new AbortController();
  /** Adapters that are being loaded. */
  readonly #loads = new Set<Promise<unknown>>();
  #runnable = 0;
  #disposed: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  /** `receivers` is what the engine's events are handed to; it must not refer to the model. The rest describes it. */
  constructor(native: NativeModel, receivers: Receivers, fallbackName: string, missingGpu?: string) {
    this.#native = native;
    this.#receivers = receivers;
    this.#nativeInfo = native.info();
    this.info = describeModel(this.#nativeInfo, fallbackName, missingGpu);
    this.#shared = new SharedGenerations({
      submit: (request) => native.submit(request),
      cancel: (id) => native.cancel(id),
      addCredits: (id, credits) => native.addCredits(id, credits),
      encodePrompt: (pieces, bos) => native.encodePrompt(pieces, bos),
      register: (receiver) => this.#register(receiver),
      release: (id) => this.#release(id),
      evicted: (pages) => publishEvicted(this.info, pages),
    });
    this.#adapters = new LoadedAdapters((id) => native.releaseAdapter(id));
    this.#control = {
      cancel: (id) => this.#shared.cancel(id) || native.cancel(id),
      addCredits: (id, credits) => this.#shared.addCredits(id, credits) || native.addCredits(id, credits),
      setRunnable: (runnable) => this.#hold(runnable),
    };
    lendAsDraft(this, () => {
      if (this.#disposed) {
        throw new TokenmillError("Disposed", "the draft model was disposed; load it again to guess with it");
      }
      return native;
    });
    this.#sessions = {
      checkUsable: () => this.#checkUsable(),
      reply: (options, turn) =>
        this.#startChat(options, (state, signal) => turn.prompt(state, signal), turn.ended),
      promptOf: (conversation, signal) => this.#chatPrompt(conversation, signal),
      contextLength: this.info.contextLength,
      tokensOf: (conversation, signal) => this.#chatTokens(conversation, signal),
      newHold: () => nextHold++,
      forkHold: (hold, copy) => callNative(() => native.forkHold(hold, copy)),
      releaseHold: (hold) => native.releaseHold(hold),
      exportHold: (hold, state, adapters) => this.#exportHold(hold, state, adapters),
      openSnapshot: async (snapshot) => {
        const opened = await openSnapshot(native, snapshot);
        this.#checkUsable();
        return opened;
      },
      importHold: async (hold, pages, cacheSalt, adapters) => {
        await this.#transfer((id) => native.importHold(id, hold, pages, cacheSalt, adapters));
      },
      markAdapters: (choice) => this.#adapters.marks(choice),
      findAdapters: (marks) => this.#adapters.find(marks),
    };
  }

  get vocabularySize(): number {
    return this.info.vocabularySize;
  }

  generate(prompt: string | readonly number[], options: GenerationOptions = {}): Reply {
    return this.#start("generate", options, (started) => this.#submit(started, this.#promptSource(prompt)));
  }

  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Reply {
    const [{ tools }, generation] = splitChatOptions(options);
    return this.#startChat(generation, (_, signal) => this.#chatPrompt({ messages, tools }, signal));
  }

  session(options: SessionOptions = {}): Session {
    this.#checkUsable();
    const parts = readSessionOptions(options);
    Object.assign(parts.defaults, this.#adapters.own(parts.defaults.adapter));
    const adapters = this.#adapters.marks(parts.defaults.adapter);
    this.#chatTemplate();
    return new Session(this.#sessions, this.#sessions.newHold(), { ...parts, adapters });
  }

  generateMany(
    inputs: AsyncIterable<BatchInput> | Iterable<BatchInput>,
    options: BatchOptions = {},
  ): AsyncIterableIterator<BatchResult> {
    this.#checkUsable();
    const { signal: disposal } = this.#disposal;
    const generate: Model["generate"] = (...request) => this.generate(...request);
    const chat: Model["chat"] = (...request) => this.chat(...request);
    checkObject("options", options);
    const common: BatchOptions = options;
    const own = { ...common, ...this.#adapters.own(common.adapter) };
    return new Batch({ generate, chat, disposal }, inputs, own);
  }

  restore(snapshot: Uint8Array): Promise<Session> {
    return restoreSession(this.#sessions, snapshot);
  }

  async loadAdapter(source: string, options: AdapterOptions = {}): Promise<Adapter> {
    this.#checkUsable();
    const { signal: disposal } = this.#disposal;
    const loading = loadAdapter(this.#native, source, options, disposal);
    this.#loads.add(loading);
    this.#hold(true);
    try {
      const record = await loading;
      this.#checkUsable();
      return this.#adapters.add(record);
    } catch (error) {
      throw disposal.aborted ? disposedError() : error;
    } finally {
      this.#hold(false);
      this.#loads.delete(loading);
    }
  }

  adapters(): Adapter[] {
    return this.#adapters.list();
  }

  async score(input: string | readonly number[], options: ScoreOptions = {}): Promise<Score> {
    this.#checkUsable();
    checkScoreOptions(options);
    const source = this.#promptSource(input);
    const { signal, cacheSalt = "" } = options;
    const scheduling = schedulingOf(options, 0);
    if (signal?.aborted) throw abortError(signal);
    const use = this.#adapters.use(options.adapter);
    const adapters = use ? { adapters: use.choices } : {};
    const id = nextRequestId++;
    const trace = traceRequest(id, "score", this.info);
    trace?.queued();
    const own = { cacheSalt, ...adapters, ...scheduling, ...noticesFor(trace) };
    const ended = this.#endOf(
      id,
      () => this.#native.submit({ id, score: true, ...source, ...own }),
      (event) => trace?.accept(event),
    ).finally(use?.end);
    const stopListening = signal && onAbort(signal, () => this.#native.cancel(id));
    const { outcome } = await ended.finally(stopListening);
    const error = scoreError(outcome, signal);
    trace?.finished(endOfScore(outcome, error));
    if (error) throw error;
    return { tokens: outcome.scoreTokens ?? [], logprobs: outcome.scoreLogprobs ?? new Float32Array() };
  }

  tokenize(text: string, options: TokenizeOptions = {}): number[] {
    this.#checkUsable();
    if (typeof text !== "string") throw invalid("text", text, "a string");
    return callNative(() => this.#native.tokenize(text, options.special ?? false, options.bos));
  }

  detokenize(tokens: readonly number[], options: { special?: boolean } = {}): string {
    this.#checkUsable();
    const array = toTokenArray("tokens", tokens, this.vocabularySize);
    return callNative(() => this.#native.detokenize(array, options.special ?? false));
  }

  stats(): ModelStats {
    this.#checkUsable();
    return callNative(() => this.#native.stats());
  }

  async setMemoryBudget(budget: MemoryBudget): Promise<ModelStats["bytes"]> {
    this.#checkUsable();
    const nativeBudget = toNativeBudget("budget", budget);
    const id = nextRequestId++;
    let bytes: ModelStats["bytes"] | undefined;
    const { outcome } = await this.#endOf(
      id,
      () => this.#native.setMemoryBudget(id, nativeBudget),
      () => {
        ({ bytes } = this.#native.stats()); // before a dispose that waits for this goes on
      },
    );
    if (outcome.code !== undefined) throw new TokenmillError(outcome.code, outcome.message ?? "");
    return bytes as ModelStats["bytes"];
  }

  dispose(): Promise<void> {
    if (this.#disposed) return this.#disposed;
    let settle: ((ended: Promise<void>) => void) | undefined;
    this.#disposed = new Promise((resolve) => (settle = resolve));
    settle?.(this.#dispose()); // which calls listeners, and these perhaps `dispose`
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #dispose(): Promise<void> {
    const error = disposedError();
    const { code, message } = error;
    this.#disposal.abort(error);
    for (const state of this.#states) state.stop({ code, message });
    for (const id of this.#receivers.keys()) this.#control.cancel(id);
    await Promise.allSettled(this.#loads);
    if (this.#receivers.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    await this.#native.close();
  }

  #checkUsable(): void {
    if (this.#disposal.signal.aborted) throw disposedError();
  }

  #register(receiver: Receiver): number {
    const id = nextRequestId++;
    this.#receivers.set(id, receiver);
    return id;
  }

  async #exportHold(hold: number, state: string, adapters: AdapterMark[]): Promise<Buffer> {
    const { snapshot } = await this.#transfer((id) => this.#native.exportHold(id, hold, state, adapters));
    if (!snapshot) throw new TokenmillError("Internal", "the engine made no snapshot");
    return snapshot;
  }

  /** A request that moves pages; gives the event that it ends with. */
  async #transfer(start: (id: number) => void): Promise<NativeEvent> {
    const id = nextRequestId++;
    const event = await this.#endOf(id, () => start(id));
    const { code, message = "" } = event.outcome;
    if (code) throw code === "Aborted" ? disposedError() : new TokenmillError(code, message);
    return event;
  }

  /** Starts a request that is no reply and gives the event that it ends with. `accept` is shown each before. */
  #endOf(id: number, start: () => void, accept?: (event: NativeEvent) => void): Promise<EndEvent> {
    return new Promise((resolve) => {
      this.#checkUsable(); // nobody tells of the end of what an engine that closes is asked
      callNative(start);
      this.#hold(true);
      this.#receivers.set(id, {
        accept: (event) => {
          accept?.(event);
          if (!isEnd(event)) return;
          this.#release(id);
          this.#hold(false);
          resolve(event);
        },
      });
    });
  }

  /** A request has ended. */
  #release(id: number): void {
    this.#receivers.delete(id);
    if (this.#receivers.size === 0) this.#onIdle?.();
  }

  /** Counts what can go on by itself: while there is any, the process stays alive. */
  #hold(runnable: boolean): void {
    this.#runnable += runnable ? 1 : -1;
    if (runnable && this.#runnable === 1) this.#native.ref();
    if (!runnable && this.#runnable === 0) this.#native.unref();
  }

  #promptSource(prompt: string | readonly number[]): PromptSource {
    if (typeof prompt !== "string") return { tokens: toTokenArray("prompt", prompt, this.vocabularySize) };
    return { pieces: [{ text: prompt, special: false }], bos: this.#nativeInfo.tokenizer.addBos };
  }

  /**
   * A reply whose request `submit` makes, of the options as they are at the call; every failure, also of the
   * arguments, is the reply's.
   */
  #start(
    operation: RequestMessage["operation"],
    options: GenerationOptions,
    submit: (started: StartedReply) => void | Promise<void>,
    onEnd?: Turn["ended"],
  ): Reply {
    const own = { ...options };
    if (Array.isArray(own.stop)) own.stop = [...own.stop];
    const { signal } = own;
    let stopListening: (() => void) | undefined;
    let adapters: AdapterUse | undefined;
    const id = nextRequestId++;
    const trace = traceRequest(id, operation, this.info);
    const state: ReplyState = new ReplyState(id, own.seed ?? randomSeed(), own.logprobs !== undefined, {
      ...this.#control,
      ended: () => {
        stopListening?.();
        adapters?.end();
        this.#states.delete(state);
        this.#release(state.id);
        if (state.result) onEnd?.(state, state.result);
        if (trace && state.result) trace.finished(endOfReply(state.result));
      },
    });
    this.#states.add(state);
    this.#receivers.set(state.id, trace ? observed(state, trace) : state);
    const fail = (error: unknown) => state.fail(toTokenmillError(error));
    try {
      this.#checkUsable();
      checkGenerationOptions(options);
      adapters = this.#adapters.use(own.adapter);
      trace?.queued();
      const abort = () => signal && state.stop(abortedBy(signal));
      if (signal?.aborted) abort();
      else {
        stopListening = signal && onAbort(signal, abort);
        submit({ state, options: own, adapters: adapters?.choices, trace })?.catch(fail);
      }
    } catch (error) {
      fail(error);
    }
    return new Reply(state);
  }

  /** A reply whose prompt takes time to make, while its deadline is not the engine's business yet. */
  #startChat(options: GenerationOptions, prompt: Turn["prompt"], onEnd?: Turn["ended"]): Reply {
    return this.#start(
      "chat",
      options,
      async (started) => {
        const { state, options } = started;
        const { deadline, signal } = options;
        const callOff = deadline === undefined ? undefined : stopAfter(state, deadline);
        const source = await prompt(state, signal).finally(callOff);
        if (!state.ended) this.#submit(started, source);
      },
      onEnd,
    );
  }

  async #chatPrompt(
    { messages, tools }: Conversation,
    signal: AbortSignal | undefined,
  ): Promise<PromptSource> {
    const { bos, eos, special } = this.#nativeInfo.tokenizer;
    const pieces = await renderChat({
      template: this.#chatTemplate(),
      messages,
      tools,
      bosToken: bos,
      eosToken: eos,
      specialTokens: special,
      ...(signal ? { signal } : {}),
    });
    return this.#chatSource(pieces);
  }

  async #chatTokens(
    conversation: Conversation,
    signal: AbortSignal | undefined,
  ): Promise<Int32Array | undefined> {
    try {
      const { pieces = [], bos = false } = await this.#chatPrompt(conversation, signal);
      return await this.#native.encodePrompt(pieces, bos);
    } catch (error) {
      const failure = toTokenmillError(error);
      if (failure.code === "ContextOverflow") return undefined;
      throw failure;
    }
  }

  #chatTemplate(): string {
    const { chatTemplate, name } = this.info;
    if (chatTemplate === undefined) {
      throw new TokenmillError(
        "UnsupportedModel",
        `the model '${name}' has no chat template: it is not made for chat. ` +
          "Use generate() with a prompt in the form that it was trained on",
      );
    }
    return chatTemplate;
  }

  /** BOS comes from the template or from the metadata's flag, never both. */
  #chatSource(pieces: PromptPiece[]): PromptSource {
    const { addBos, bos } = this.#nativeInfo.tokenizer;
    const [first] = pieces;
    return { pieces, bos: addBos && !(first?.special && first.text === bos) };
  }

  #submit({ state, options, adapters, trace }: StartedReply, source: PromptSource): void {
    const request: NativeRequest = {
      id: state.id,
      ...source,
      stop: stopStrings(options.stop),
      credits: state.markSubmitted(),
      seed: state.seed,
      ...noticesFor(trace),
      ...schedulingOf(options, state.preparedMs),
    };
    const defaults = this.#nativeInfo.sampling;
    for (const name of samplingOptions) {
      const value = options[name] ?? defaults[name];
      if (value !== undefined) request[name] = value;
    }
    if (options.maxTokens !== undefined) request.maxTokens = options.maxTokens;
    if (options.ignoreEos !== undefined) request.ignoreEos = options.ignoreEos;
    if (options.cacheSalt !== undefined) request.cacheSalt = options.cacheSalt;
    if (adapters) request.adapters = adapters;
    Object.assign(request, draftOf(options.draft));
    if (options.logprobs !== undefined) request.logprobs = options.logprobs;
    const receiver = this.#receivers.get(state.id);
    const shares = options.coalesce && !request.temperature && options.deadline === undefined;
    callNative(() =>
      shares && receiver ? this.#shared.submit(request, receiver) : this.#native.submit(request),
    );
  }
}

/** The last event of a request. */
type EndEvent = NativeEvent & { outcome: NativeOutcome };

function isEnd(event: NativeEvent): event is EndEvent {
  return event.outcome !== undefined;
}

async function openSnapshot(native: NativeModel, snapshot: Uint8Array) {
  try {
    return await native.openSnapshot(snapshot);
  } catch (error) {
    throw toTokenmillError(error);
  }
}

/** A receiver whose events are looked at on their way. */
function observed(receiver: Receiver, trace: RequestTrace): Receiver {
  return {
    accept: (event) => {
      trace.accept(event);
      receiver.accept(event);
    },
  };
}

function noticesFor(trace: RequestTrace | undefined): { notices?: true } {
  return trace?.wantsNotices ? { notices: true } : {};
}

/** What guesses for a request. */
function draftOf(draft: GenerationOptions["draft"]): Pick<NativeRequest, "promptLookup" | "draftModel"> {
  if (draft === undefined) return {};
  if (draft === "promptLookup") return { promptLookup: true };
  const draftModel = nativeDraft(draft);
  return draftModel ? { draftModel } : {};
}

function scoreError(outcome: NativeOutcome, signal: AbortSignal | undefined): TokenmillError | undefined {
  if (outcome.code) return new TokenmillError(outcome.code, outcome.message ?? "");
  if (outcome.reason !== "aborted") return undefined;
  return signal?.aborted ? abortError(signal) : disposedError();
}

function endOfScore(outcome: NativeOutcome, error: TokenmillError | undefined): RequestEnd {
  const { promptTokens, cachedTokens, completionTokens } = outcome;
  const { queueMs, ttftMs, prefillTokensPerSecond, decodeTokensPerSecond } = outcome;
  return {
    ...(error ? { error } : { finishReason: outcome.reason }),
    usage: { promptTokens, cachedTokens, completionTokens },
    timings: { queueMs, ttftMs, prefillTokensPerSecond, decodeTokensPerSecond },
  };
}

function disposedError(): TokenmillError {
  return new TokenmillError("Disposed", "the model was disposed; load it again to use it");
}
