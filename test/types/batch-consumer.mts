// Batches and what can be watched, as an ESM consumer sees them; checked by tsc and never run.

import { subscribe } from "node:diagnostics_channel";
import type {
  BatchInput,
  BatchItem,
  BatchOptions,
  BatchProgress,
  BatchResult,
  Completion,
  DiagnosticsMessages,
  GenerationOptions,
  Histogram,
  Model,
  ModelInfo,
  ModelStats,
  RequestFinishedMessage,
  RequestMessage,
  TokenmillError,
} from "tokenmill";
import { type Instrumentation, instrument } from "tokenmill/opentelemetry";
import { collectMetrics, type PrometheusOptions } from "tokenmill/prometheus";
import type { Same } from "./same.cjs";

const same = <A, B>(_same: Same<A, B>) => undefined;

async function* items(): AsyncGenerator<BatchItem> {
  yield { id: "a", prompt: "Once", options: { maxTokens: 5 } };
  yield { prompt: [1, 2, 3] as const };
  yield { id: "b", messages: [{ role: "user", content: "Hello" }] };
}

export async function batches(model: Model, done: ReadonlySet<string>): Promise<string[]> {
  const options: BatchOptions = {
    maxTokens: 50,
    order: "completion",
    concurrency: 16,
    skip: done,
    stopOnError: false,
    signal: AbortSignal.timeout(1000),
    onProgress: (progress) => same<typeof progress, BatchProgress>(true),
  };
  const texts: string[] = [];
  for await (const result of model.generateMany(items(), options)) {
    same<typeof result, BatchResult>(true);
    const { id, index, completion, error } = result;
    same<[typeof id, typeof index], [string, number]>(true);
    if (error) {
      same<typeof error, TokenmillError>(true);
      same<typeof completion, undefined>(true);
    } else {
      same<typeof completion, Completion>(true);
      texts.push(completion.text);
    }
    // @ts-expect-error the completion may be missing
    result.completion.text;
  }
  const inputs: BatchInput[] = ["text", [1, 2], { prompt: "text" }];
  model.generateMany(inputs);
  model.generateMany(new Set(["text"]), { skip: async (id, index) => id === String(index) });
  const common: GenerationOptions = options;
  void common;
  // @ts-expect-error an item has a prompt or messages, not both
  model.generateMany([{ prompt: "text", messages: [] }]);
  // @ts-expect-error nor none
  model.generateMany([{ id: "a" }]);
  // @ts-expect-error ids are strings
  model.generateMany([{ id: 1, prompt: "text" }]);
  // @ts-expect-error no such order
  model.generateMany(["text"], { order: "random" });
  // @ts-expect-error not an option
  model.generateMany(["text"], { batchSize: 3 });
  return texts;
}

export function watch(model: Model): void {
  subscribe("tokenmill:request:finished", (message) => {
    const { error, usage } = message as DiagnosticsMessages["tokenmill:request:finished"];
    if (!error) console.log(usage.completionTokens);
  });
  type Messages = DiagnosticsMessages;
  same<Messages["tokenmill:request:queued"], RequestMessage>(true);
  same<Messages["tokenmill:request:finished"], RequestFinishedMessage>(true);
  same<Messages["tokenmill:request:prefill"]["queueMs"], number>(true);
  same<Messages["tokenmill:request:preempted"]["tokens"], number>(true);
  same<Messages["tokenmill:cache:evicted"], { model: ModelInfo; pages: number }>(true);
  same<RequestMessage["operation"], "generate" | "chat" | "score">(true);
  same<ModelStats["histograms"]["ttftMs"], Histogram>(true);

  const options: PrometheusOptions = { labels: { model: "mine" } };
  const end: () => void = collectMetrics(model, options);
  end();
  // @ts-expect-error a model is needed
  collectMetrics({ info: model.info });
  using instrumentation: Instrumentation = instrument();
  instrumentation.observe(model);
  // @ts-expect-error not a provider
  instrument({ tracerProvider: {} });
}
