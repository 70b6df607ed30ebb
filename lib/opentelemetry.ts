import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { DiagnosticsMessages, RequestFinishedMessage, RequestMessage } from "./diagnostics";
import { TokenmillError } from "./errors";
import type { Model, ModelInfo, ModelStats } from "./model";
import type {
  Attributes,
  Meter,
  MeterProvider,
  Observable,
  ObservableResult,
  OpenTelemetryApi,
  Recorder,
  Span,
  Tracer,
  TracerProvider,
} from "./opentelemetry-api";
import { peerPackage } from "./peer-package";

export type { MeterProvider, TracerProvider } from "./opentelemetry-api";

export interface InstrumentationOptions {
  /** Default: the global one. */
  tracerProvider?: TracerProvider;
  /** Default: the global one. */
  meterProvider?: MeterProvider;
}

/** What runs until it is disabled. */
export interface Instrumentation extends Disposable {
  /**
   * Reports a model's queue, pages, adapters and memory as well, at each collection; `tokenmill.model.id` tells models
   * of one name apart. Returns a function that ends it.
   */
  observe(model: Pick<Model, "info" | "stats">): () => void;
  /** Ends it all. Spans of requests that run are ended without a status, with the event "instrumentation disabled". */
  disable(): void;
}

type Messages = DiagnosticsMessages;
type Listener = (message: unknown) => void;

const scope = "tokenmill";
const secondBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const tokenBounds = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536];

/** Names a model object among others of the same name, which may even be of the same file. */
const modelId = "tokenmill.model.id";
const modelIds = new WeakMap<ModelInfo, number>();
let nextModelId = 1;

function idOf(info: ModelInfo): number {
  const id = modelIds.get(info) ?? nextModelId++;
  modelIds.set(info, id);
  return id;
}

const operationNames = { generate: "text_completion", chat: "chat", score: "score" };

/** Names as in OpenTelemetry's conventions for generative models. */
function attributesOf({ operation, model }: RequestMessage): Attributes {
  return {
    "gen_ai.operation.name": operationNames[operation],
    "gen_ai.provider.name": "tokenmill",
    "gen_ai.request.model": model.name,
  };
}

/**
 * Makes OpenTelemetry spans and metrics of all requests of this JavaScript thread: a span from each request's call to
 * its end, a child of the span that is active there, with events at prefill, first token and preemption; histograms of
 * duration, time to first token, time per output token and tokens.
 *
 * @throws TokenmillError Incompatible without @opentelemetry/api
 * @example
 * import { instrument } from "tokenmill/opentelemetry";
 * const instrumentation = instrument();
 * instrumentation.observe(model);
 */
export function instrument(options: InstrumentationOptions = {}): Instrumentation {
  const load = (): OpenTelemetryApi => require("@opentelemetry/api");
  const api = peerPackage("tokenmill/opentelemetry", "@opentelemetry/api", "^1.9.0", load);
  const meter = (options.meterProvider ?? api.metrics).getMeter(scope);
  const spans = new RequestSpans(api, options.tracerProvider ?? api.trace);
  const listeners = [...spans.listeners, ["tokenmill:request:finished", metricListener(meter)] as const];
  for (const [name, listener] of listeners) subscribe(name, listener);
  const observed = new ObservedModels(meter);
  const disable = () => {
    for (const [name, listener] of listeners) unsubscribe(name, listener);
    spans.leave();
    observed.disable();
  };
  return { observe: (model) => observed.add(model), disable, [Symbol.dispose]: disable };
}

/** Spans from the messages of `queued` to those of `finished`. */
class RequestSpans {
  readonly listeners: readonly (readonly [keyof Messages, Listener])[] = [
    ["tokenmill:request:queued", (message) => this.#start(message as RequestMessage)],
    ["tokenmill:request:prefill", (message) => this.#event(message as RequestMessage, "prefill")],
    ["tokenmill:request:first-token", (message) => this.#event(message as RequestMessage, "first token")],
    ["tokenmill:request:preempted", (message) => this.#event(message as RequestMessage, "preempted")],
    ["tokenmill:request:finished", (message) => this.#finish(message as RequestFinishedMessage)],
  ];
  readonly #api: OpenTelemetryApi;
  readonly #tracer: Tracer;
  readonly #open = new Map<number, Span>();

  constructor(api: OpenTelemetryApi, provider: TracerProvider) {
    this.#api = api;
    this.#tracer = provider.getTracer(scope);
  }

  /** Ends the spans of requests that are not followed any more. How those end is unknown: no status is set. */
  leave(): void {
    for (const span of this.#open.values()) {
      span.addEvent("instrumentation disabled");
      span.end();
    }
    this.#open.clear();
  }

  #start(request: RequestMessage): void {
    const attributes = { ...attributesOf(request), [modelId]: idOf(request.model) };
    const name = `${operationNames[request.operation]} ${request.model.name}`;
    const kind = this.#api.SpanKind.INTERNAL;
    this.#open.set(request.request, this.#tracer.startSpan(name, { kind, attributes }));
  }

  #event({ request }: RequestMessage, name: string): void {
    this.#open.get(request)?.addEvent(name);
  }

  #finish(end: RequestFinishedMessage): void {
    const span = this.#open.get(end.request);
    this.#open.delete(end.request);
    if (span) endSpan(this.#api, span, end);
  }
}

function endSpan(api: OpenTelemetryApi, span: Span, { usage, finishReason, error }: RequestFinishedMessage) {
  span.setAttributes({
    "gen_ai.usage.input_tokens": usage.promptTokens,
    "gen_ai.usage.output_tokens": usage.completionTokens,
    ...(finishReason ? { "gen_ai.response.finish_reasons": [finishReason] } : {}),
    ...(error ? { "error.type": error.code } : {}),
  });
  if (error) span.setStatus({ code: api.SpanStatusCode.ERROR, message: error.message });
  span.end();
}

/** Records a request's times and tokens at its end. */
function metricListener(meter: Meter): Listener {
  const histogram = (name: string, unit: string, description: string, bounds: number[]): Recorder =>
    meter.createHistogram(name, { unit, description, advice: { explicitBucketBoundaries: bounds } });
  const duration = histogram("gen_ai.server.request.duration", "s", "Time of a request", secondBounds);
  const ttft = histogram("gen_ai.server.time_to_first_token", "s", "Time to the first token", secondBounds);
  const tpot = histogram("gen_ai.server.time_per_output_token", "s", "Time a token", secondBounds);
  const tokens = histogram("gen_ai.client.token.usage", "{token}", "Tokens of a request", tokenBounds);
  return (message) => {
    const end = message as RequestFinishedMessage;
    const attributes: Attributes = {
      ...attributesOf(end),
      ...(end.error ? { "error.type": end.error.code } : {}),
    };
    const { usage, timings } = end;
    duration.record(end.durationMs / 1000, attributes);
    if (timings.ttftMs > 0) ttft.record(timings.ttftMs / 1000, attributes);
    if (timings.decodeTokensPerSecond > 0) tpot.record(1 / timings.decodeTokensPerSecond, attributes);
    tokens.record(usage.promptTokens, { ...attributes, "gen_ai.token.type": "input" });
    tokens.record(usage.completionTokens, { ...attributes, "gen_ai.token.type": "output" });
  };
}

type Observed = Pick<Model, "info" | "stats">;

/** Models whose figures are read when metrics are collected. */
class ObservedModels {
  readonly #models = new Set<Observed>();
  readonly #ends: (() => void)[] = [];

  constructor(meter: Meter) {
    const gauge = (name: string, unit: string, label: string, read: (stats: ModelStats) => object) =>
      this.#watch(meter.createObservableGauge(name, { unit }), label, read);
    gauge("tokenmill.requests", "{request}", "tokenmill.state", ({ queued, running, paused }) => ({
      queued,
      running,
      paused,
    }));
    gauge("tokenmill.pages", "{page}", "tokenmill.state", ({ pages: { used, cached, free } }) => ({
      used,
      cached,
      free,
    }));
    gauge("tokenmill.memory", "By", "tokenmill.purpose", ({ bytes, adapters }) => ({
      ...bytes,
      adapters: adapters.bytes,
      adapterBudget: adapters.budget,
    }));
    gauge("tokenmill.adapters", "{adapter}", "tokenmill.state", ({ adapters: { registered, loaded } }) => ({
      registered,
      loaded,
    }));
    this.#watch(
      meter.createObservableCounter("tokenmill.events", { unit: "{event}" }),
      "tokenmill.event",
      ({ preempted, prefix, steps, adapters }) => ({
        preempted,
        steps,
        evictedPages: prefix.evictedPages,
        adapterReloads: adapters.reloads,
      }),
    );
  }

  add(model: Observed): () => void {
    this.#models.add(model);
    return () => this.#models.delete(model);
  }

  disable(): void {
    this.#models.clear();
    for (const end of this.#ends.splice(0)) end();
  }

  #watch(instrument: Observable, label: string, read: (stats: ModelStats) => object): void {
    const callback = (result: ObservableResult) => {
      for (const model of this.#models) {
        const stats = this.#stats(model);
        const named = { "gen_ai.request.model": model.info.name, [modelId]: idOf(model.info) };
        for (const [key, value] of Object.entries(stats ? read(stats) : {}))
          result.observe(value, { ...named, [label]: key });
      }
    };
    instrument.addCallback(callback);
    this.#ends.push(() => instrument.removeCallback(callback));
  }

  /** A model's figures; one that has been disposed of is forgotten. */
  #stats(model: Observed): ModelStats | undefined {
    try {
      return model.stats();
    } catch (error) {
      if (!TokenmillError.isInstance(error) || error.code !== "Disposed") throw error;
      this.#models.delete(model);
      return undefined;
    }
  }
}
