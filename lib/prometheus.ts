import { TokenmillError } from "./errors";
import type { Histogram, Model, ModelStats } from "./model";
import { peerPackage } from "./peer-package";

/** What is needed of a `Registry` of prom-client. */
export interface PrometheusRegistry {
  registerMetric(metric: never): void;
  removeSingleMetric(name: string): void;
}

export interface PrometheusOptions {
  /** Default: prom-client's own `register`. */
  registry?: PrometheusRegistry;
  /** Labels of this model's series. Default: `{ model: model.info.name }`. */
  labels?: Readonly<Record<string, string>>;
}

/** A model whose figures are collected. */
export type CollectedModel = Pick<Model, "info" | "stats">;

type Labels = Readonly<Record<string, string>>;

interface Sample {
  labels: Record<string, string | number>;
  value: number;
  metricName?: string;
}

interface Definition {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  samples(stats: ModelStats, labels: Labels, name: string): Sample[];
}

/** A family of series of one value each, told apart by a label. */
function family(
  type: "counter" | "gauge",
  name: string,
  help: string,
  label: string,
  values: (stats: ModelStats) => Record<string, number>,
): Definition {
  const samples: Definition["samples"] = (stats, labels) =>
    Object.entries(values(stats)).map(([key, value]) => ({ labels: { ...labels, [label]: key }, value }));
  return { name, type, help, samples };
}

function counter(name: string, help: string, value: (stats: ModelStats) => number): Definition {
  return { name, type: "counter", help, samples: (stats, labels) => [{ labels, value: value(stats) }] };
}

/** The engine's own buckets, cumulated as Prometheus has them, in units of which `scale` make one of the engine's. */
function histogram(
  name: string,
  help: string,
  scale: number,
  values: (stats: ModelStats) => Histogram,
): Definition {
  const samples: Definition["samples"] = (stats, labels, prefix) => {
    const { bounds, counts, sum } = values(stats);
    let count = 0;
    const buckets = counts.map((inBucket, i) => {
      count += inBucket;
      const bound = bounds[i];
      const le = bound === undefined ? "+Inf" : bound * scale;
      return { labels: { ...labels, le }, value: count, metricName: `${prefix}_bucket` };
    });
    return [
      ...buckets,
      { labels, value: sum * scale, metricName: `${prefix}_sum` },
      { labels, value: count, metricName: `${prefix}_count` },
    ];
  };
  return { name, type: "histogram", help, samples };
}

const seconds = 1 / 1000;

const definitions: readonly Definition[] = [
  family(
    "gauge",
    "tokenmill_active_requests",
    "Requests by state.",
    "state",
    ({ queued, running, paused }) => ({
      queued,
      running,
      paused,
    }),
  ),
  family(
    "counter",
    "tokenmill_requests_total",
    "Requests that have ended, by outcome.",
    "outcome",
    ({ finished, aborted, failed }) => ({ finished, aborted, failed }),
  ),
  family("counter", "tokenmill_tokens_total", "Tokens by kind.", "kind", (stats) => ({
    prompt: stats.promptTokens,
    cached: stats.cachedTokens,
    completion: stats.completionTokens,
  })),
  counter("tokenmill_steps_total", "Steps that have run.", ({ steps }) => steps),
  counter("tokenmill_preemptions_total", "Requests that gave up their pages.", ({ preempted }) => preempted),
  counter("tokenmill_guessed_tokens_total", "Tokens guessed ahead.", ({ draft }) => draft.guessedTokens),
  counter("tokenmill_accepted_tokens_total", "Guesses that came true.", ({ draft }) => draft.acceptedTokens),
  counter("tokenmill_evicted_pages_total", "Cached pages given up.", ({ prefix }) => prefix.evictedPages),
  family("gauge", "tokenmill_pages", "Pages of the KV cache by state.", "state", ({ pages }) => ({
    used: pages.used,
    cached: pages.cached,
    free: pages.free,
  })),
  family("gauge", "tokenmill_memory_bytes", "Memory by purpose.", "kind", ({ bytes, adapters }) => ({
    weights: bytes.weights,
    kv: bytes.kv,
    scratch: bytes.scratch,
    budget: bytes.budget,
    adapters: adapters.bytes,
    adapter_budget: adapters.budget,
  })),
  family("gauge", "tokenmill_adapters", "Different adapters by state.", "state", ({ adapters }) => ({
    registered: adapters.registered,
    loaded: adapters.loaded,
  })),
  counter(
    "tokenmill_adapter_reloads_total",
    "Adapters read again for a request.",
    ({ adapters }) => adapters.reloads,
  ),
  histogram(
    "tokenmill_queue_seconds",
    "Time from arrival to the first step.",
    seconds,
    ({ histograms }) => histograms.queueMs,
  ),
  histogram(
    "tokenmill_time_to_first_token_seconds",
    "Time from arrival to the first token.",
    seconds,
    ({ histograms }) => histograms.ttftMs,
  ),
  histogram(
    "tokenmill_time_per_output_token_seconds",
    "Mean time between a reply's tokens.",
    seconds,
    ({ histograms }) => histograms.tpotMs,
  ),
  histogram("tokenmill_step_rows", "Tokens computed in a step.", 1, ({ histograms }) => histograms.stepRows),
  histogram(
    "tokenmill_step_requests",
    "Requests in a step.",
    1,
    ({ histograms }) => histograms.stepSequences,
  ),
  histogram(
    "tokenmill_step_pages",
    "Pages in use after a step.",
    1,
    ({ histograms }) => histograms.pagesUsed,
  ),
];

/** The models of one registry, and the metrics that read them when the registry is asked. */
class Collection {
  readonly models = new Map<CollectedModel, Labels>();
  readonly #registry: PrometheusRegistry;
  readonly #metrics = definitions.map((definition) => this.#metric(definition));

  constructor(registry: PrometheusRegistry) {
    this.#registry = registry;
  }

  add(model: CollectedModel, labels: Labels): void {
    const key = JSON.stringify(Object.entries(labels).sort());
    for (const other of this.models.keys()) if (!statsOf(other)) this.models.delete(other);
    for (const [other, others] of this.models) {
      if (other === model || JSON.stringify(Object.entries(others).sort()) !== key) continue;
      throw new TokenmillError(
        "InvalidArgument",
        `a model with the labels ${key} is collected already; give each model labels of its own`,
      );
    }
    for (const [i, metric] of this.#metrics.entries()) {
      metric.name = definitions[i]?.name ?? metric.name; // a registry of OpenMetrics changes names
      this.#registry.registerMetric(metric as never);
    }
    this.models.set(model, labels);
  }

  remove(model: CollectedModel): void {
    this.models.delete(model);
    if (this.models.size > 0) return;
    for (const { name } of definitions) this.#registry.removeSingleMetric(name);
  }

  /** A metric in the form that a registry takes it: it has no value of its own. */
  #metric({ name, type, help, samples }: Definition) {
    const { models } = this;
    return {
      name,
      type,
      help,
      aggregator: "sum",
      get() {
        const values: Sample[] = [];
        for (const [model, labels] of models) {
          const stats = statsOf(model);
          if (stats) values.push(...samples(stats, labels, name));
          else models.delete(model);
        }
        return { name: this.name, type, help, aggregator: "sum", values };
      },
      reset: () => undefined,
    };
  }
}

/** A model's figures, unless it has been disposed of. */
function statsOf(model: CollectedModel): ModelStats | undefined {
  try {
    return model.stats();
  } catch (error) {
    if (TokenmillError.isInstance(error) && error.code === "Disposed") return undefined;
    throw error;
  }
}

const collections = new WeakMap<PrometheusRegistry, Collection>();

/**
 * Has a registry of prom-client show a model's figures: what `model.stats()` says at each scrape, the histograms with
 * the engine's own buckets. Nothing runs in between. A model that is disposed of is left out.
 *
 * @returns a function that ends it.
 * @throws TokenmillError Incompatible without prom-client, InvalidArgument for labels that another model has
 * @example
 * import { register } from "prom-client";
 * import { collectMetrics } from "tokenmill/prometheus";
 * collectMetrics(model);
 * console.log(await register.metrics());
 */
export function collectMetrics(model: CollectedModel, options: PrometheusOptions = {}): () => void {
  const registry = options.registry ?? defaultRegistry();
  const collection = collections.get(registry) ?? new Collection(registry);
  collection.add(model, options.labels ?? { model: model.info.name });
  collections.set(registry, collection);
  return () => collection.remove(model);
}

function defaultRegistry(): PrometheusRegistry {
  const load = (): { register: PrometheusRegistry } => require("prom-client");
  return peerPackage("tokenmill/prometheus", "prom-client", "^15.1.0", load).register;
}
