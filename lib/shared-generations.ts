import type { NativeEvent, NativeModel, NativeOutcome, NativeRequest } from "./native";
import { emptyOutcome } from "./reply-state";

/** What takes a request's events. */
export interface Receiver {
  accept(event: NativeEvent): void;
}

/** One of several requests that a generation answers. */
interface Reader {
  readonly id: number;
  readonly receiver: Receiver;
  readonly joinedMs: number;
  /** Parts that it may be given altogether, and those that it was given. */
  allowed: number;
  given: number;
  /** Events of the generation that it has had. */
  position: number;
  /** When it was given its first part. */
  firstPartMs?: number;
}

interface Arrival {
  readonly event: NativeEvent;
  readonly atMs: number;
}

interface Generation {
  readonly id: number;
  readonly key: string;
  readonly request: NativeRequest;
  readonly startedMs: number;
  /** The first one owns it: who started it, or after that one has left who joined next. */
  readonly readers: Set<Reader>;
  /** What every reader gets, so far, for those that join later. */
  readonly events: Arrival[];
  /** Parts that the engine may send: as many as the reader who may be given the most. */
  allowed: number;
  /** How long it waited for its first step; undefined until that has run. */
  queueMs?: number;
  /** Counted when the first reader leaves; no promise of it fails. */
  promptTokens?: Promise<number>;
}

interface Engine extends Pick<NativeModel, "submit" | "cancel" | "addCredits" | "encodePrompt"> {
  /** A new request's id, whose events go to `receiver` until `release`. */
  register(receiver: Receiver): number;
  release(id: number): void;
  /** Cached pages have been given up, which is no request's business. */
  evicted(pages: number): void;
}

/**
 * Requests in flight that must give the same reply: they are generated once. Each has its own pace, and leaves when it
 * likes; who joins late is first given what there is already. The generation goes on as long as someone may be given
 * more, and ends with its last reader.
 *
 * Each reader is told of its own life: its prefill once, and times that count from its own call. What the engine does
 * to the generation is told once, to its owner.
 */
export class SharedGenerations {
  readonly #engine: Engine;
  readonly #running = new Map<string, Generation>();
  /** By the readers' ids. */
  readonly #readers = new Map<number, { reader: Reader; generation: Generation }>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Starts a request or joins one that runs. It must be greedy, so that its seed does not matter. */
  submit(request: NativeRequest, receiver: Receiver): void {
    const { id, credits = 0 } = request;
    const key = keyOf(request);
    const running = this.#running.get(key);
    const generation = running ?? this.#start(key, request, credits);
    const joinedMs = running ? performance.now() : generation.startedMs;
    const reader: Reader = { id, receiver, joinedMs, allowed: credits, given: 0, position: 0 };
    generation.readers.add(reader);
    this.#readers.set(id, { reader, generation });
    if (!running) return;
    // What there is already comes after the call, as everything else does.
    queueMicrotask(() => this.#advance(generation, reader));
    this.#allow(generation, Math.max(generation.allowed, reader.allowed));
  }

  /** Whether a request shares its generation; if so, it may be given more parts. */
  addCredits(id: number, credits: number): boolean {
    const found = this.#readers.get(id);
    if (!found) return false;
    found.reader.allowed += credits;
    this.#allow(found.generation, Math.max(found.generation.allowed, found.reader.allowed));
    this.#advance(found.generation, found.reader);
    return true;
  }

  /** Whether a request shares its generation; if so, it leaves it. */
  cancel(id: number): boolean {
    const found = this.#readers.get(id);
    if (!found) return false;
    const { reader, generation } = found;
    if (generation.readers.size === 1 && this.#running.get(generation.key) === generation) {
      this.#running.delete(generation.key); // nobody joins what is about to end
      reader.allowed = Number.MAX_SAFE_INTEGER;
      this.#engine.cancel(generation.id);
    } else if (generation.readers.size > 1 || outcomeOf(generation)) {
      this.#leave(generation, reader);
      this.#allow(generation, Math.max(0, ...[...generation.readers].map(({ allowed }) => allowed)));
      void this.#endAborted(generation, reader);
    }
    return true;
  }

  #start(key: string, request: NativeRequest, credits: number): Generation {
    const generation: Generation = {
      id: this.#engine.register({ accept: (event) => this.#accept(generation, event) }),
      key,
      request,
      startedMs: performance.now(),
      readers: new Set(),
      events: [],
      allowed: credits,
    };
    try {
      // Readers that leave early are told when it started, whoever has asked for notices.
      this.#engine.submit({ ...request, id: generation.id, notices: true });
    } catch (error) {
      this.#engine.release(generation.id);
      throw error;
    }
    this.#running.set(key, generation);
    return generation;
  }

  #accept(generation: Generation, event: NativeEvent): void {
    const { notice, noticeValue = 0 } = event;
    if (notice === "evicted") this.#engine.evicted(noticeValue);
    else if (notice === "preempted") tellOwner(generation, event);
    else this.#share(generation, event);
  }

  #share(generation: Generation, event: NativeEvent): void {
    if (event.notice === "prefill") generation.queueMs = event.noticeValue ?? 0;
    generation.events.push({ event, atMs: performance.now() });
    if (event.outcome) {
      this.#engine.release(generation.id);
      if (this.#running.get(generation.key) === generation) this.#running.delete(generation.key);
    }
    for (const reader of [...generation.readers]) this.#advance(generation, reader);
  }

  /** Gives a reader what it may be given of what there is. */
  #advance(generation: Generation, reader: Reader): void {
    while (generation.readers.has(reader) && reader.position < generation.events.length) {
      const { event } = generation.events[reader.position] as Arrival;
      const isPart = event.tokens.length > 0;
      if (isPart && reader.given >= reader.allowed) return;
      reader.position += 1;
      if (isPart) {
        reader.given += 1;
        reader.firstPartMs ??= performance.now();
      }
      if (event.outcome) this.#leave(generation, reader);
      reader.receiver.accept(ofReader(event, reader, generation));
    }
  }

  /** Lets the engine send so many parts altogether; fewer than before when the reader who asked for them has left. */
  #allow(generation: Generation, parts: number): void {
    if (parts === generation.allowed || outcomeOf(generation)) return;
    this.#engine.addCredits(generation.id, parts - generation.allowed);
    generation.allowed = parts;
  }

  #leave(generation: Generation, reader: Reader): void {
    generation.readers.delete(reader);
    this.#readers.delete(reader.id);
  }

  /** Tells a reader that has left of its end. */
  async #endAborted(generation: Generation, reader: Reader): Promise<void> {
    const outcome = abortedOutcome(generation, reader);
    generation.promptTokens ??= this.#promptTokens(generation.request);
    const promptTokens = await generation.promptTokens;
    reader.receiver.accept({ id: reader.id, text: "", tokens: [], outcome: { ...outcome, promptTokens } });
  }

  /** A prompt's length, counted beside the event loop where it is a text; 0 where it cannot be. */
  async #promptTokens({ tokens, pieces = [], bos = false }: NativeRequest): Promise<number> {
    try {
      return (tokens ?? (await this.#engine.encodePrompt(pieces, bos))).length;
    } catch {
      return 0; // the reply ends all the same
    }
  }
}

function tellOwner({ readers }: Generation, event: NativeEvent): void {
  const [owner] = readers;
  owner?.receiver.accept({ ...event, id: owner.id });
}

function outcomeOf({ events }: Generation): NativeOutcome | undefined {
  return events.at(-1)?.event.outcome;
}

/** The event as the reader would have had it from a generation of its own that began when it joined. */
function ofReader(event: NativeEvent, reader: Reader, generation: Generation): NativeEvent {
  const { outcome, logprobs, notice } = event;
  return {
    ...event,
    id: reader.id,
    tokens: [...event.tokens],
    ...(logprobs ? { logprobs: structuredClone(logprobs) } : {}),
    ...(notice === "prefill" ? { noticeValue: queueMsOf(generation, reader) } : {}),
    ...(outcome ? { outcome: { ...outcome, ...latenciesOf(generation, reader, outcome) } } : {}),
  };
}

/** How long a reader waited for the generation's first step: not at all when that had run before it came. */
function queueMsOf({ queueMs, startedMs }: Generation, { joinedMs }: Reader): number {
  if (queueMs === undefined) return performance.now() - joinedMs; // it waits still
  return Math.max(0, queueMs - (joinedMs - startedMs));
}

/** The generation's latencies as a reader had them. What was there when it came took as long as to hand it over. */
function latenciesOf({ startedMs }: Generation, reader: Reader, { queueMs, ttftMs }: NativeOutcome) {
  const { joinedMs, firstPartMs = performance.now() } = reader;
  const lateMs = joinedMs - startedMs;
  const hasToken = ttftMs > 0;
  return {
    queueMs: Math.max(0, queueMs - lateMs),
    ttftMs: hasToken && ttftMs <= lateMs ? firstPartMs - joinedMs : Math.max(0, ttftMs - lateMs),
  };
}

/**
 * What a reader ends with that leaves while others go on, by this thread's clock. What was in the cache, and so the
 * prefill's rate, is known only once the generation has ended.
 */
function abortedOutcome(generation: Generation, reader: Reader): Omit<NativeOutcome, "promptTokens"> {
  const { cachedTokens, prefillTokensPerSecond } = outcomeOf(generation) ?? emptyOutcome;
  const parts = generation.events.slice(0, reader.position).filter(({ event }) => event.tokens.length > 0);
  const completionTokens = parts.reduce((sum, { event }) => sum + event.tokens.length, 0);
  const [first, last] = [parts[0], parts.at(-1)];
  const decodeMs = first && last ? last.atMs - first.atMs : 0;
  const decodedTokens = completionTokens - (first?.event.tokens.length ?? 0);
  return {
    reason: "aborted",
    cachedTokens,
    completionTokens,
    queueMs: queueMsOf(generation, reader),
    ttftMs: reader.firstPartMs === undefined ? 0 : reader.firstPartMs - reader.joinedMs,
    prefillTokensPerSecond,
    decodeTokensPerSecond: decodeMs > 0 ? (decodedTokens / decodeMs) * 1000 : 0,
  };
}

const draftNumbers = new WeakMap<NativeModel, number>();
let nextDraftNumber = 1;

function numberOf(draftModel: NativeModel): number {
  const number = draftNumbers.get(draftModel) ?? nextDraftNumber++;
  draftNumbers.set(draftModel, number);
  return number;
}

/** All that the reply depends on, also whether it fails, as with a draft that does not fit; and who may share it. */
function keyOf({
  id: _id,
  credits: _credits,
  seed: _seed,
  notices: _notices,
  draftModel,
  tokens,
  ...rest
}: NativeRequest) {
  return JSON.stringify([rest, tokens ? [...tokens] : null, draftModel ? numberOf(draftModel) : 0]);
}
