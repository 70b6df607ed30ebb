import type { NativeEvent, NativeModel, NativeRequest } from "./native";
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
}

interface Generation {
  readonly id: number;
  readonly key: string;
  readonly request: NativeRequest;
  readonly startedMs: number;
  readonly readers: Set<Reader>;
  /** All events so far, for those that join later. */
  readonly events: NativeEvent[];
  /** Parts that the engine may send: as many as the reader who may be given the most. */
  allowed: number;
  promptTokens?: number;
}

interface Engine extends Pick<NativeModel, "submit" | "cancel" | "addCredits" | "tokenize"> {
  /** A new request's id, whose events go to `receiver` until `release`. */
  register(receiver: Receiver): number;
  release(id: number): void;
}

/**
 * Requests in flight that must give the same reply: they are generated once. Each has its own pace, and leaves when it
 * likes; who joins late is first given what there is already. The generation goes on as long as someone may be given
 * more, and ends with its last reader.
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
    const reader = { id, receiver, joinedMs: performance.now(), allowed: credits, given: 0, position: 0 };
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
    } else if (generation.readers.size > 1 || generation.events.at(-1)?.outcome) {
      this.#leave(generation, reader);
      this.#allow(generation, Math.max(0, ...[...generation.readers].map(({ allowed }) => allowed)));
      const event = this.#abortedEvent(generation, reader);
      queueMicrotask(() => reader.receiver.accept(event));
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
      this.#engine.submit({ ...request, id: generation.id });
    } catch (error) {
      this.#engine.release(generation.id);
      throw error;
    }
    this.#running.set(key, generation);
    return generation;
  }

  #accept(generation: Generation, event: NativeEvent): void {
    generation.events.push(event);
    if (event.outcome) {
      this.#engine.release(generation.id);
      if (this.#running.get(generation.key) === generation) this.#running.delete(generation.key);
    }
    for (const reader of [...generation.readers]) this.#advance(generation, reader);
  }

  /** Gives a reader what it may be given of what there is. */
  #advance(generation: Generation, reader: Reader): void {
    while (generation.readers.has(reader) && reader.position < generation.events.length) {
      const event = generation.events[reader.position] as NativeEvent;
      if (event.tokens.length > 0 && reader.given >= reader.allowed) return;
      reader.position += 1;
      if (event.tokens.length > 0) reader.given += 1;
      if (event.outcome) this.#leave(generation, reader);
      reader.receiver.accept(ofReader(event, reader, generation));
    }
  }

  /** Lets the engine send so many parts altogether; fewer than before when the reader who asked for them has left. */
  #allow(generation: Generation, parts: number): void {
    if (parts === generation.allowed || generation.events.at(-1)?.outcome) return;
    this.#engine.addCredits(generation.id, parts - generation.allowed);
    generation.allowed = parts;
  }

  #leave(generation: Generation, reader: Reader): void {
    generation.readers.delete(reader);
    this.#readers.delete(reader.id);
  }

  #abortedEvent(generation: Generation, reader: Reader): NativeEvent {
    generation.promptTokens ??= this.#promptTokens(generation.request);
    const { promptTokens } = generation;
    const outcome = { ...emptyOutcome, promptTokens, completionTokens: reader.given };
    return { id: reader.id, text: "", tokens: [], outcome };
  }

  #promptTokens({ tokens, pieces = [], bos = false }: NativeRequest): number {
    if (tokens) return tokens.length;
    const counts = pieces.map(({ text, special }) => this.#engine.tokenize(text, special, false).length);
    return counts.reduce((sum, count) => sum + count, bos ? 1 : 0);
  }
}

/** The event as the reader would have had it from a generation of its own that began when it joined. */
function ofReader(event: NativeEvent, reader: Reader, { startedMs }: Generation): NativeEvent {
  const { outcome, logprobs } = event;
  const own: NativeEvent = {
    ...event,
    id: reader.id,
    tokens: [...event.tokens],
    ...(logprobs ? { logprobs: structuredClone(logprobs) } : {}),
  };
  if (!outcome) return own;
  const lateMs = reader.joinedMs - startedMs;
  return {
    ...own,
    outcome: {
      ...outcome,
      queueMs: Math.max(0, outcome.queueMs - lateMs),
      ttftMs: Math.max(0, outcome.ttftMs - lateMs),
    },
  };
}

/** All that the reply depends on, and who may share it. */
function keyOf({
  id: _id,
  credits: _credits,
  seed: _seed,
  notices: _notices,
  draftModel: _draftModel,
  tokens,
  ...rest
}: NativeRequest) {
  return JSON.stringify([rest, tokens ? [...tokens] : null]);
}
