// Loading: what is refused, what is shared, what can be aborted; and the tokenizer alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel, loadTokenizer } from "../../dist/index.mjs";
import { failure } from "../support/failure.mjs";
import { modelTest, smollm2, temporaryFile, tinyModel } from "../support/models.mjs";
import { tinyLlama } from "../unit/gguf/gguf-writer.mjs";

const path = tinyModel();
const large = tinyModel({ layers: 16, dim: 512, feedForward: 1024, heads: 8 });

test("info tells what was loaded", async () => {
  const model = await loadModel(path);
  const { info } = model;
  assert.equal(info.path, path);
  assert.equal(info.architecture, "llama");
  assert.equal(info.contextLength, 256);
  assert.equal(info.vocabularySize, 320);
  assert.equal(info.layers, 2);
  assert.equal(info.quantization, "F32");
  assert.ok(info.parameters > 100_000 && info.device.threads >= 1);
  assert.deepEqual(info.capabilities, { generate: true, chat: true, score: true, embed: false });
  assert.throws(() => {
    info.name = "other";
  }, TypeError);
  await model.dispose();
});

test("contextLength bounds the reply; more than trained is refused", async () => {
  const model = await loadModel(path, { contextLength: 40 });
  const { usage, finishReason } = await model.generate("Hello", { ignoreEos: true });
  assert.equal(usage.promptTokens + usage.completionTokens, 40);
  assert.equal(finishReason, "length");
  await model.dispose();
  assert.equal((await failure(loadModel(path, { contextLength: 257 }))).code, "InvalidArgument");
});

test("a budget that cannot hold the model is refused with the numbers", async () => {
  const weights = await failure(loadModel(large, { memory: { budget: 1_000_000 } }));
  assert.equal(weights.code, "OutOfMemory");
  assert.match(weights.message, /weights take \d+ MiB, .*; the memory budget is 0 MiB/);
  const model = await loadModel(large);
  const { bytes } = model.stats();
  await model.dispose();
  const context = await failure(
    loadModel(large, { contextLength: 256, memory: { budget: bytes.weights + bytes.scratch + 1000 } }),
  );
  assert.equal(context.code, "OutOfMemory");
  assert.match(context.message, /256 tokens of context \d+ MiB/);
});

test("an int8 KV cache takes about half the bytes; other types are refused", async () => {
  const bytes = {};
  for (const type of ["f16", "int8"]) {
    const model = await loadModel(large, { kvCache: { type } });
    const { tokens } = await model.generate("Hello", { maxTokens: 40, ignoreEos: true });
    assert.equal(tokens.length, 40);
    bytes[type] = model.stats().bytes.kv;
    await model.dispose();
  }
  assert.ok(bytes.int8 > 0.5 * bytes.f16 && bytes.int8 < 0.6 * bytes.f16, JSON.stringify(bytes));
  for (const kvCache of [{ type: "q4_0" }, { kind: "int8" }, "int8"]) {
    assert.equal((await failure(loadModel(large, { kvCache }))).code, "InvalidArgument");
  }
});

test("a budget that holds less than the trained context shortens it", async () => {
  const long = tinyModel({ context: 8192 });
  const model = await loadModel(long);
  const { bytes } = model.stats();
  await model.dispose();
  const short = await loadModel(long, { memory: { budget: bytes.weights + bytes.scratch + 400_000 } });
  assert.ok(short.info.contextLength >= 64 && short.info.contextLength < 8192, `${short.info.contextLength}`);
  assert.equal(short.info.trainedContextLength, 8192);
  const { usage } = await short.generate("a", { ignoreEos: true });
  assert.equal(usage.promptTokens + usage.completionTokens, short.info.contextLength);
  assert.ok(short.stats().bytes.kv <= 400_000);
  await short.dispose();
});

test("progress goes up to the whole", async () => {
  const seen = [];
  const model = await loadModel(large, { onProgress: (progress) => seen.push(progress) });
  await model.dispose();
  assert.ok(seen.length > 3);
  assert.ok(seen.every(({ phase, file }) => phase === "load" && file === large));
  assert.ok(seen.every(({ loaded }, i) => i === 0 || loaded > seen[i - 1].loaded));
  assert.equal(seen.at(-1).loaded, seen.at(-1).total);
});

test("an error that a callback throws is what the load rejects with, and nothing stays loaded", async () => {
  const fail = () => {
    throw new RangeError("mine");
  };
  await assert.rejects(loadModel(large, { onProgress: fail }), { name: "RangeError", message: "mine" });
  const options = { contextLength: 77 };
  const model = await loadModel(path, options);
  await model.generate("a", { maxTokens: 1 });
  await assert.rejects(loadModel(path, { ...options, onLog: fail }), { name: "RangeError", message: "mine" });
  await model.dispose();
  const next = await loadModel(path, options);
  assert.equal(next.stats().finished, 0, "a new engine");
  await next.dispose();
});

test("a load can be aborted before and in the middle", async () => {
  assert.equal((await failure(loadModel(large, { signal: AbortSignal.abort("no") }))).code, "Aborted");
  const controller = new AbortController();
  const options = { signal: controller.signal, onProgress: () => controller.abort(new Error("stop")) };
  const error = await failure(loadModel(large, { ...options, threads: 1 }));
  assert.equal(error.code, "Aborted");
  assert.equal(error.name, "AbortError");
  assert.equal(error.cause.message, "stop");
});

test("loads of one file at once share one engine; an aborted one leaves the others alone", async () => {
  const controller = new AbortController();
  const aborted = failure(loadModel(large, { signal: controller.signal }));
  const others = [loadModel(large), loadModel(large)];
  controller.abort();
  assert.equal((await aborted).code, "Aborted");
  const models = await Promise.all(others);
  const tokens = await Promise.all(
    models.map((model) => model.generate("a", { maxTokens: 5, ignoreEos: true })),
  );
  assert.deepEqual(tokens[0].tokens, tokens[1].tokens);
  assert.equal(models[0].stats().finished, 2, "both ran in the same engine");
  await Promise.all(models.map((model) => model.dispose()));
});

for (const [name, options] of Object.entries({
  contextLength: { contextLength: 0 },
  threads: { threads: 1.5 },
  "memory.budget": { memory: { budget: -1 } },
  maxBatchTokens: { maxBatchTokens: 0 },
  precision: { precision: "best" },
  onProgress: { onProgress: 1 },
  signal: { signal: "x" },
  contextSize: { contextSize: 1 },
})) {
  test(`the load option ${name} is refused by name`, async () => {
    const error = await failure(loadModel(path, options));
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, new RegExp(name));
  });
}

test("a path that is not there", async () => {
  assert.equal((await failure(loadModel("./absent.gguf"))).code, "ModelNotFound");
  assert.equal((await failure(loadModel(""))).code, "InvalidArgument");
  assert.equal((await failure(loadTokenizer("./absent.gguf"))).code, "ModelNotFound");
});

test("an ISA that does not exist or that this CPU lacks is refused", async () => {
  const before = process.env.TOKENMILL_ISA;
  process.env.TOKENMILL_ISA = "avx1024";
  const error = await failure(loadModel(tinyModel({ seed: 3 })));
  if (before === undefined) delete process.env.TOKENMILL_ISA;
  else process.env.TOKENMILL_ISA = before;
  assert.equal(error.code, "InvalidArgument");
  assert.match(error.message, /avx1024.*avx512bf16, avx512, avxvnni, avx2 and reference/);
});

test("high precision is closer to exact arithmetic", async () => {
  const quantized = temporaryFile(tinyLlama({ seed: 5 }));
  const score = async (options) => {
    const model = await loadModel(quantized, options);
    const { logprobs } = await model.score("the river and the mill, and the blue sky above");
    await model.dispose();
    return logprobs;
  };
  // F32 weights never round activations: both are the same there.
  assert.deepEqual(await score({ precision: "high" }), await score({ precision: "fast" }));
});

modelTest("high precision is practically exact on a quantized model", smollm2, async (file) => {
  const text =
    "The water came down from the hills and turned the wheel of the old mill all through the night.";
  const score = async (options) => {
    const model = await loadModel(file, { contextLength: 512, ...options });
    const { logprobs } = await model.score(text);
    await model.dispose();
    return logprobs.subarray(1);
  };
  const distance = (a, b) => Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length);
  const isa = process.env.TOKENMILL_ISA;
  process.env.TOKENMILL_ISA = "reference";
  const exact = await score({});
  if (isa === undefined) delete process.env.TOKENMILL_ISA;
  else process.env.TOKENMILL_ISA = isa;
  const fast = distance(await score({ precision: "fast" }), exact);
  const high = distance(await score({ precision: "high" }), exact);
  console.log(
    `# RMS difference of log-probabilities from exact: fast ${fast.toFixed(5)}, high ${high.toFixed(5)}`,
  );
  if (isa === "reference") return;
  assert.ok(high < 0.01, `${high}`);
  assert.ok(high < fast / 5 || fast === high, `${fast} against ${high}`);
});

test("a tokenizer's load can be aborted", async () => {
  const controller = new AbortController();
  const loading = loadTokenizer(path, { signal: controller.signal });
  controller.abort(new Error("stop"));
  const error = await failure(loading);
  assert.equal(error.code, "Aborted");
  assert.equal(error.cause.message, "stop");
});

test("a tokenizer alone, also of a file without tensors", async () => {
  const model = await loadModel(path);
  const tensors = Object.fromEntries(
    [
      "token_embd",
      "output_norm",
      ...[
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
      ].flatMap((name) => [`blk.0.${name}`, `blk.1.${name}`]),
    ].map((name) => [`${name}.weight`, null]),
  );
  const tokenizer = await loadTokenizer(temporaryFile(tinyLlama({ tensors })));
  for (const text of ["Hello, the sky is blue!", "", "\u0000 \n\t ", "naïve 東京 🙂 \ud800", "<|im_end|>"]) {
    const tokens = tokenizer.tokenize(text);
    assert.deepEqual(tokens, model.tokenize(text));
    assert.equal(tokenizer.detokenize(tokens), text.toWellFormed?.() ?? text.replace("\ud800", "\ufffd"));
  }
  assert.equal(tokenizer.vocabularySize, 320);
  assert.deepEqual(tokenizer.tokenize("<|im_end|>", { special: true }), [2]);
  assert.ok(tokenizer.tokenize("<|im_end|>").length > 1);
  assert.equal(tokenizer.detokenize([2]), "");
  assert.equal(tokenizer.detokenize([2], { special: true }), "<|im_end|>");
  assert.deepEqual(tokenizer.tokenize("a", { bos: true }), [1, ...tokenizer.tokenize("a", { bos: false })]);
  assert.throws(() => tokenizer.tokenize(7), { code: "InvalidArgument" });
  assert.throws(() => tokenizer.detokenize([320]), { code: "InvalidArgument" });
  assert.throws(() => tokenizer.detokenize("a"), { code: "InvalidArgument" });
  await model.dispose();
});
