import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { onAbort } from "../abort-callbacks";
import { TokenmillError } from "../errors";
import { renderLimits, workerHeapMegabytes } from "./render-limits";
import type { WorkerReply, WorkerRequest, WorkerResults } from "./worker-protocol";

const idleMsDefault = 30_000;
const startMsMax = 30_000;
/** A worker that has seen so many formats makes way for one without. */
const formatsMax = 64;
/**
 * The worker stops a template itself when its time is up; it is stopped from here when it does not get to
 * that.
 */
const graceMs = 250;

export interface TemplateHostOptions {
  /** For one request. */
  timeMs?: number;
  /** After so long without requests the worker is closed. */
  idleMs?: number;
}

export interface RunOptions {
  /** Default: the host's. */
  timeMs?: number;
  signal?: AbortSignal | undefined;
  transfer?: ArrayBuffer[];
  /** Close the worker afterwards: the request leaves a large heap behind. */
  thenClose?: boolean;
}

interface Job {
  request: (timeMs: number) => WorkerRequest;
  timeMs: number;
  transfer: ArrayBuffer[];
  thenClose: boolean;
  settled: boolean;
  resolve(value: WorkerResults[keyof WorkerResults]): void;
  reject(error: unknown): void;
}

/**
 * Runs requests on one thread, one at a time: the thread starts with the first, is stopped when a request
 * takes too long or too much memory, and is then started anew for those that wait. Only requests keep the
 * process alive.
 */
export class TemplateHost {
  readonly timeMs: number;
  readonly #idleMs: number;
  readonly #queue: Job[] = [];
  #worker: Worker | undefined;
  #ready = false;
  #current: Job | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #knownFormats = new Set<number>();

  constructor({ timeMs = renderLimits.timeMs, idleMs = idleMsDefault }: TemplateHostOptions = {}) {
    this.timeMs = timeMs;
    this.#idleMs = idleMs;
  }

  /** Whether the thread runs. */
  get running(): boolean {
    return this.#worker !== undefined;
  }

  /**
   * Rejects with what the worker reports, UnsupportedModel when the request had to be stopped, Aborted when
   * `signal` fires. `request` is called when its turn comes, with the time it has.
   */
  run<Type extends keyof WorkerResults>(
    request: (timeMs: number) => WorkerRequest & { type: Type },
    { timeMs = this.timeMs, signal, transfer = [], thenClose = false }: RunOptions = {},
  ): Promise<WorkerResults[Type]> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => {
        if (job.settled) return;
        job.settled = true;
        stopListening?.();
        then();
      };
      const job: Job = {
        request,
        timeMs,
        transfer,
        thenClose,
        settled: false,
        resolve: (value) => settle(() => resolve(value as WorkerResults[Type])),
        reject: (error) => settle(() => reject(error)),
      };
      if (signal?.aborted) return reject(aborted(signal));
      const stopListening = signal && onAbort(signal, () => job.reject(aborted(signal)));
      this.#queue.push(job);
      this.#next();
    });
  }

  /** The format's spec for the first request that the present worker gets for it, then nothing. */
  introduce<Spec>(format: number, spec: Spec): { format: number; spec?: Spec } {
    if (this.#knownFormats.has(format)) return { format };
    this.#knownFormats.add(format);
    return { format, spec };
  }

  /** Stops the thread; what it works on rejects with Disposed. Requests that wait start it again. */
  async close(): Promise<void> {
    this.#clearTimer();
    const stopped = this.#discard();
    this.#finish((job) => job.reject(new TokenmillError("Disposed", "The template worker was closed")));
    await stopped;
  }

  #next(): void {
    if (this.#current !== undefined) return;
    let job = this.#queue.shift();
    while (job?.settled) job = this.#queue.shift();
    if (job === undefined) this.#rest();
    else this.#begin(job);
  }

  #begin(job: Job): void {
    this.#current = job;
    this.#clearTimer();
    try {
      this.#worker ??= this.#start();
      this.#worker.ref();
      if (this.#ready) this.#post(job);
      else this.#failAfter(startMsMax, () => cannotStart("it does not answer"));
    } catch (error) {
      this.#finish((failed) => failed.reject(cannotStart(error)));
    }
  }

  #post(job: Job): void {
    this.#failAfter(job.timeMs + graceMs, () => tookTooLong(job.timeMs));
    this.#worker?.postMessage(job.request(job.timeMs), job.transfer);
  }

  #start(): Worker {
    const worker = new Worker(join(__dirname, "template-worker.js"), {
      name: "tokenmill-templates",
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMegabytes },
    });
    const current = (then: () => void) => {
      if (worker === this.#worker) then();
    };
    worker.on("message", (reply: WorkerReply) => current(() => this.#receive(reply)));
    worker.on("error", (error) => current(() => this.#fail(workerDied(error, this.#ready))));
    worker.on("exit", (code) => current(() => this.#fail(cannotStart(`it exits with code ${code}`))));
    this.#ready = false;
    this.#knownFormats.clear();
    return worker;
  }

  #receive(reply: WorkerReply): void {
    if (reply.type === "ready") {
      this.#ready = true;
      if (this.#current !== undefined) this.#begin(this.#current);
      return;
    }
    if (this.#current?.thenClose || this.#knownFormats.size >= formatsMax) void this.#discard();
    this.#finish((job) => {
      if (reply.type === "result") job.resolve(reply.value);
      else job.reject(new TokenmillError(reply.code, reply.message));
    });
  }

  /** The worker is of no more use: its request fails, the next one gets another. */
  #fail(error: TokenmillError): void {
    void this.#discard();
    this.#finish((job) => job.reject(error));
  }

  /**
   * Gives the worker up unless it has answered by then. After a blocked event loop the timer comes before
   * messages that have waited longer, so these are read first.
   */
  #failAfter(ms: number, error: () => TokenmillError): void {
    const timer = setTimeout(() => {
      setImmediate(() => {
        if (this.#timer === timer) this.#fail(error());
      });
    }, ms);
    this.#timer = timer;
  }

  #clearTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #finish(settle: (job: Job) => void): void {
    const job = this.#current;
    this.#current = undefined;
    this.#clearTimer();
    if (job !== undefined) settle(job);
    this.#next();
  }

  #rest(): void {
    if (this.#worker === undefined) return;
    this.#worker.unref();
    this.#timer = setTimeout(() => void this.#discard(), this.#idleMs);
    this.#timer.unref();
  }

  async #discard(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#ready = false;
    await worker?.terminate();
  }
}

function aborted(signal: AbortSignal | undefined): TokenmillError {
  return new TokenmillError("Aborted", "The request was aborted", { cause: signal?.reason });
}

function tookTooLong(timeMs: number): TokenmillError {
  return new TokenmillError(
    "UnsupportedModel",
    `The model's chat template or tokenizer, or an adapter's header, was stopped after ${timeMs / 1000} s; ` +
      "its file is damaged or hostile",
  );
}

function workerDied(error: Error & { code?: string }, ready: boolean): TokenmillError {
  if (error.code === "ERR_WORKER_OUT_OF_MEMORY") {
    return new TokenmillError(
      "UnsupportedModel",
      "The model's chat template or tokenizer, or an adapter's header, was stopped: it needs too much memory; " +
        "its file is damaged or hostile",
      { cause: error },
    );
  }
  if (!ready) return cannotStart(error);
  return new TokenmillError("Internal", `The template worker failed: ${error.message}`, { cause: error });
}

function cannotStart(cause: unknown): TokenmillError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new TokenmillError("Internal", `The thread for chat templates cannot run: ${reason}`, { cause });
}

let shared: TemplateHost | undefined;

/** The host of this thread's copy of the library. */
export function templateHost(): TemplateHost {
  shared ??= new TemplateHost();
  return shared;
}
