// The optional peers' own types fit where they are taken. Checked by tsc where they are installed.

import { metrics, trace } from "@opentelemetry/api";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { Registry, register } from "prom-client";
import type { Model } from "tokenmill";
import { instrument } from "tokenmill/opentelemetry";
import { collectMetrics } from "tokenmill/prometheus";

export function watch(model: Model): void {
  collectMetrics(model, { registry: register });
  collectMetrics(model, { registry: new Registry() });
  collectMetrics(model, { registry: new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>() });
  instrument({ tracerProvider: trace, meterProvider: metrics });
  instrument({ tracerProvider: new BasicTracerProvider(), meterProvider: new MeterProvider() });
  instrument({ tracerProvider: trace.getTracerProvider(), meterProvider: metrics.getMeterProvider() });
  // @ts-expect-error a registry, not a metric
  collectMetrics(model, { registry: register.getMetricsAsArray() });
}
