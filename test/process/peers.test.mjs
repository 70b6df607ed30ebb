// tokenmill/prometheus and tokenmill/opentelemetry, with the packages that they are for and without.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { instrument } from "../../dist/opentelemetry.mjs";
import { collectMetrics } from "../../dist/prometheus.mjs";
import { root, tinyModel } from "../support/models.mjs";
import { randomAdapter } from "../support/random-adapter.mjs";

const require = createRequire(import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "tokenmill-peers-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = tinyModel();

/** A test that needs packages of which users need none; skipped, and said so, where they are not installed. */
function peerTest(name, packages, body) {
  const missing = packages.filter((each) => {
    try {
      require.resolve(each);
      return false;
    } catch {
      return !process.env.CI;
    }
  });
  const skip = missing.length > 0 && `not installed: ${missing.join(", ")}`;
  test(name, { skip }, () => body(...packages.map((each) => require(each))));
}

/** The samples of a text in Prometheus's format, by name and labels. */
function parse(text) {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

peerTest("prom-client shows what stats() says, histograms cumulated", ["prom-client"], async (client) => {
  const model = await loadModel(path);
  const registry = new client.Registry();
  collectMetrics(model, { registry, labels: { model: "tiny" } });
  const { bytes: adapterBytes } = await model.loadAdapter(randomAdapter(path));
  await Promise.all(["a", "b", "c"].map((text) => model.generate(text, { ignoreEos: true, maxTokens: 9 })));
  const samples = parse(await registry.metrics());
  const { finished, steps, completionTokens, pages, bytes, histograms } = model.stats();
  const at = (name, labels = "") => samples.get(`${name}{model="tiny"${labels}}`);
  assert.equal(at("tokenmill_requests_total", ',outcome="finished"'), finished);
  assert.equal(at("tokenmill_tokens_total", ',kind="completion"'), completionTokens);
  assert.equal(at("tokenmill_steps_total"), steps);
  assert.equal(at("tokenmill_pages", ',state="free"'), pages.free);
  assert.equal(at("tokenmill_memory_bytes", ',kind="weights"'), bytes.weights);
  assert.equal(at("tokenmill_memory_bytes", ',kind="adapters"'), adapterBytes);
  assert.equal(at("tokenmill_adapters", ',state="loaded"'), 1);
  assert.equal(at("tokenmill_adapter_reloads_total"), 0);
  const { bounds, counts, sum } = histograms.ttftMs;
  let count = 0;
  for (const [i, inBucket] of counts.entries()) {
    count += inBucket;
    // Labels come in the order in which the registry has them.
    const found = [...samples].find(
      ([name]) =>
        name.startsWith("tokenmill_time_to_first_token_seconds_bucket{") &&
        name.includes(`le="${i < bounds.length ? bounds[i] / 1000 : "+Inf"}"`),
    );
    assert.equal(found[1], count);
  }
  assert.equal(at("tokenmill_time_to_first_token_seconds_count"), 3);
  assert.ok(Math.abs(at("tokenmill_time_to_first_token_seconds_sum") - sum / 1000) < 1e-9);
  assert.equal((await registry.getMetricsAsJSON()).length, registry.getMetricsAsArray().length);
  await model.dispose();
});

peerTest("models share a registry by their labels, and leave it", ["prom-client"], async (client) => {
  const registry = new client.Registry();
  const models = [await loadModel(path), await loadModel(path, { contextLength: 100 })];
  const ends = models.map((model, i) => collectMetrics(model, { registry, labels: { model: `m${i}` } }));
  assert.throws(() => collectMetrics({ ...models[0] }, { registry, labels: { model: "m1" } }), {
    code: "InvalidArgument",
    message: /labels of its own/,
  });
  const shown = async () =>
    [...parse(await registry.metrics()).keys()].filter((name) => name.startsWith("tokenmill_steps_total"));
  assert.deepEqual(await shown(), ['tokenmill_steps_total{model="m0"}', 'tokenmill_steps_total{model="m1"}']);
  await models[0].dispose();
  assert.deepEqual(await shown(), ['tokenmill_steps_total{model="m1"}'], "a model that is gone is left out");
  ends[1]();
  assert.deepEqual(registry.getMetricsAsArray(), []);
  const end = collectMetrics(models[1]);
  assert.match(await client.register.metrics(), /tokenmill_pages\{model=/);
  end();
  const open = new client.Registry(client.Registry.OPENMETRICS_CONTENT_TYPE);
  collectMetrics(models[1], { registry: open });
  assert.match(await open.metrics(), /\ntokenmill_steps_total\{/);
  await models[1].dispose();
});

const telemetry = [
  "@opentelemetry/api",
  "@opentelemetry/context-async-hooks",
  "@opentelemetry/sdk-trace-base",
  "@opentelemetry/sdk-metrics",
];

/** A tracer provider whose ended spans `exporter` has. */
function traced({ BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor }) {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { tracerProvider, exporter };
}

peerTest(
  "requests become spans below the active one, with events and conventional names",
  telemetry,
  async (...sdk) => {
    const [api, { AsyncLocalStorageContextManager }, tracing] = sdk;
    api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    const { tracerProvider, exporter } = traced(tracing);
    const model = await loadModel(path);
    const instrumentation = instrument({ tracerProvider });
    const parent = tracerProvider.getTracer("test").startSpan("caller");
    const completion = await api.context.with(api.trace.setSpan(api.context.active(), parent), () =>
      model.generate("Hello", { ignoreEos: true, maxTokens: 4 }).then(),
    );
    await assert.rejects(model.score("x".repeat(100_000)), { code: "ContextOverflow" });
    instrumentation.disable();
    await model.generate("Hello", { maxTokens: 1 });
    const spans = exporter.getFinishedSpans();
    assert.equal(spans.length, 2, "none after disable");
    const [reply, score] = spans;
    assert.equal(reply.name, `text_completion ${model.info.name}`);
    assert.equal(reply.parentSpanContext.spanId, parent.spanContext().spanId);
    assert.deepEqual(
      reply.events.map(({ name }) => name),
      ["prefill", "first token"],
    );
    assert.equal(reply.attributes["gen_ai.usage.input_tokens"], completion.usage.promptTokens);
    assert.equal(reply.attributes["gen_ai.usage.output_tokens"], 4);
    assert.deepEqual(reply.attributes["gen_ai.response.finish_reasons"], ["length"]);
    assert.equal(reply.status.code, api.SpanStatusCode.UNSET);
    assert.deepEqual(
      [score.status.code, score.attributes["error.type"]],
      [api.SpanStatusCode.ERROR, "ContextOverflow"],
    );
    await model.dispose();
  },
);

peerTest(
  "spans of requests that run are ended when they are left, without a status",
  telemetry,
  async (...sdk) => {
    const [api, , tracing] = sdk;
    const { tracerProvider, exporter } = traced(tracing);
    const model = await loadModel(path);
    const instrumentation = instrument({ tracerProvider });
    const reply = model.generate("Hello", { ignoreEos: true });
    const iterator = reply[Symbol.asyncIterator]();
    await iterator.next();
    assert.equal(exporter.getFinishedSpans().length, 0);
    instrumentation.disable();
    const spans = exporter.getFinishedSpans();
    assert.equal(spans.length, 1);
    assert.equal(spans[0].ended, true);
    assert.equal(spans[0].status.code, api.SpanStatusCode.UNSET);
    assert.deepEqual(
      spans[0].events.map(({ name }) => name),
      ["prefill", "first token", "instrumentation disabled"],
    );
    reply.cancel();
    assert.equal((await reply).finishReason, "aborted");
    instrumentation.disable();
    assert.equal(exporter.getFinishedSpans().length, 1, "each once");
    await model.dispose();
  },
);

/** A meter provider whose figures are had by `collect`, by the metrics' names. */
function metered({ MeterProvider, MetricReader }) {
  class Reader extends MetricReader {
    async onShutdown() {}
    async onForceFlush() {}
  }
  const reader = new Reader();
  const meterProvider = new MeterProvider({ readers: [reader] });
  const collect = async () => {
    const { resourceMetrics, errors } = await reader.collect();
    assert.deepEqual(errors, []);
    const metrics = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
    return Object.fromEntries(metrics.map(({ descriptor, dataPoints }) => [descriptor.name, dataPoints]));
  };
  return { meterProvider, collect };
}

peerTest("models of one name have series of their own", telemetry, async (...sdk) => {
  const { meterProvider, collect } = metered(sdk[3]);
  const { tracerProvider, exporter } = traced(sdk[2]);
  const models = [await loadModel(path), await loadModel(path, { contextLength: 100 })];
  assert.equal(models[0].info.name, models[1].info.name);
  const instrumentation = instrument({ meterProvider, tracerProvider });
  for (const model of models) instrumentation.observe(model);
  for (const [i, model] of models.entries())
    await model.generate("Hello", { ignoreEos: true, maxTokens: 4 + 8 * i });
  const metrics = await collect();
  const ids = exporter.getFinishedSpans().map(({ attributes }) => attributes["tokenmill.model.id"]);
  assert.equal(new Set(ids).size, 2);
  const seen = (name, label, value) =>
    ids.map((id) => {
      const points = metrics[name].filter(
        ({ attributes }) => attributes["tokenmill.model.id"] === id && attributes[label] === value,
      );
      assert.equal(points.length, 1);
      assert.equal(points[0].attributes["gen_ai.request.model"], models[0].info.name);
      return points[0].value;
    });
  assert.deepEqual(
    seen("tokenmill.events", "tokenmill.event", "steps"),
    models.map((model) => model.stats().steps),
  );
  assert.notEqual(models[0].stats().steps, models[1].stats().steps);
  assert.deepEqual(
    seen("tokenmill.memory", "tokenmill.purpose", "scratch"),
    models.map((model) => model.stats().bytes.scratch),
  );
  const [duration] = metrics["gen_ai.server.request.duration"];
  assert.equal(duration.value.count, 2, "histograms of requests are the name's");
  for (const model of models) await model.dispose();
  instrumentation.disable();
  await meterProvider.shutdown();
});

peerTest("requests and observed models become metrics", telemetry, async (...sdk) => {
  const { meterProvider, collect: collected } = metered(sdk[3]);
  const model = await loadModel(path);
  const instrumentation = instrument({ meterProvider });
  instrumentation.observe(model);
  const options = { ignoreEos: true, maxTokens: 4 };
  await model.loadAdapter(randomAdapter(path));
  const { usage, timings } = await model.generate("Hello", options);
  const metrics = await collected();
  assert.deepEqual(
    metrics["tokenmill.adapters"].map(({ value, attributes }) => [attributes["tokenmill.state"], value]),
    [
      ["registered", 1],
      ["loaded", 1],
    ],
  );
  const [ttft] = metrics["gen_ai.server.time_to_first_token"];
  assert.deepEqual([ttft.value.count, ttft.value.sum], [1, timings.ttftMs / 1000]);
  assert.equal(ttft.attributes["gen_ai.request.model"], model.info.name);
  assert.deepEqual(
    metrics["gen_ai.client.token.usage"].map(({ value, attributes }) => [
      attributes["gen_ai.token.type"],
      value.sum,
    ]),
    [
      ["input", usage.promptTokens],
      ["output", 4],
    ],
  );
  const weights = metrics["tokenmill.memory"].find(
    ({ attributes }) => attributes["tokenmill.purpose"] === "weights",
  );
  assert.equal(weights.value, model.stats().bytes.weights);
  await model.dispose();
  await collected(); // of a model that is gone nothing is asked, and nothing fails
  instrumentation[Symbol.dispose]();
  await meterProvider.shutdown();
});

test("without the peers both load, and say what is missing when they are used", () => {
  symlinkSync(join(root, "dist"), join(folder, "dist"), "dir");
  const code = `
    const { collectMetrics } = require("./dist/prometheus.js");
    const { instrument } = require("./dist/opentelemetry.js");
    const told = [() => collectMetrics({}), instrument].map((use) => {
      try { use(); } catch ({ code, message }) { return [code, message]; }
    });
    console.log(JSON.stringify(told));`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--preserve-symlinks", "-e", code], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, NODE_PATH: "" },
  });
  assert.equal(stderr, "");
  const told = JSON.parse(stdout);
  assert.deepEqual(
    told.map(([kind]) => kind),
    ["Incompatible", "Incompatible"],
  );
  assert.match(
    told[0][1],
    /^tokenmill\/prometheus needs the package prom-client \(\^15\..*npm install prom-client$/,
  );
  assert.match(
    told[1][1],
    /^tokenmill\/opentelemetry needs the package @opentelemetry\/api .*is not installed/,
  );
});

test("the main entry loads neither the peers' modules nor what uses them", () => {
  const code = `
    require("./dist/index.js");
    const names = Object.keys(require.cache);
    console.log(names.filter((name) => /prometheus|opentelemetry|prom-client/.test(name)).length);`;
  const { stdout } = spawnSync(process.execPath, ["-e", code], { cwd: root, encoding: "utf8" });
  assert.equal(stdout.trim(), "0");
});
