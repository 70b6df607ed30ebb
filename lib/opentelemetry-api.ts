// What is used of @opentelemetry/api, in shapes that its own types have: types and build do without the package.

export type Attributes = Record<string, string | number | boolean | string[]>;

export interface Span {
  setAttributes(attributes: Attributes): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  addEvent(name: string, attributes?: Attributes): unknown;
  end(): void;
}

export interface Tracer {
  startSpan(name: string, options?: { kind?: number; attributes?: Attributes }): Span;
}

export interface TracerProvider {
  getTracer(name: string, version?: string): Tracer;
}

interface InstrumentOptions {
  description?: string;
  unit?: string;
  advice?: { explicitBucketBoundaries?: number[] };
}

export interface Recorder {
  record(value: number, attributes?: Attributes): void;
}

export interface ObservableResult {
  observe(value: number, attributes?: Attributes): void;
}

export interface Observable {
  addCallback(callback: (result: ObservableResult) => void): void;
  removeCallback(callback: (result: ObservableResult) => void): void;
}

export interface Meter {
  createHistogram(name: string, options?: InstrumentOptions): Recorder;
  createObservableGauge(name: string, options?: InstrumentOptions): Observable;
  createObservableCounter(name: string, options?: InstrumentOptions): Observable;
}

export interface MeterProvider {
  getMeter(name: string, version?: string): Meter;
}

/** The package, as far as it is used. */
export interface OpenTelemetryApi {
  trace: TracerProvider;
  metrics: MeterProvider;
  SpanKind: { INTERNAL: number };
  SpanStatusCode: { ERROR: number };
}
