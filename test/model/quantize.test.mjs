// Quantizing: files that are written, files that are refused, and models that are quantized while they load.
import assert from "node:assert/strict";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileTypes, loadModel, quantizeModel, TokenmillError } from "../../dist/index.mjs";
import { gemma3, modelTest, temporaryFile, tinyModel } from "../support/models.mjs";
import { randomTensor, tinyLlama } from "../unit/gguf/gguf-writer.mjs";

const { native } = createRequire(import.meta.url)("../../dist/native.js");
const folder = mkdtempSync(join(tmpdir(), "tokenmill-quantize-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const small = tinyModel();
const wide = tinyModel({ dim: 256, feedForward: 512, heads: 8, layers: 3 });
let files = 0;

/** A path in a folder of its own, in which nothing else is. */
function outputPath() {
  const path = join(folder, String(files++));
  mkdirSync(path);
  return join(path, "out.gguf");
}

async function quantized(source, options) {
  const output = outputPath();
  await quantizeModel(source, output, options);
  return output;
}

async function failure(promise, code) {
  const error = await promise.then(
    () => assert.fail("expected a failure"),
    (reason) => reason,
  );
  assert.ok(TokenmillError.isInstance(error), String(error));
  assert.equal(error.code, code, error.message);
  return error;
}

const typesOf = (path) =>
  new Map(
    native()
      .inspectGguf(path)
      .tensors.map(({ name, type }) => [name, type]),
  );
const metadataOf = (path, key) =>
  native()
    .inspectGguf(path)
    .metadata.find((entry) => entry.key === key)?.value;

async function results(path, options) {
  const model = await loadModel(path, { threads: 2, ...options });
  const { logprobs } = await model.score("The quick brown fox jumps over the lazy dog, twice.");
  const { tokens } = await model.generate("Hello", { maxTokens: 12, ignoreEos: true });
  const { quantization } = model.info;
  await model.dispose();
  return { quantization, tokens, logprobs: [...logprobs] };
}

function meanDistance(a, b) {
  const distances = a.slice(1).map((x, i) => Math.abs(x - b[i + 1]));
  return distances.reduce((sum, x) => sum + x, 0) / distances.length;
}

test("every type is written, loads, and loses the less the more bits it has", async () => {
  const exact = await results(wide, { precision: "high" });
  const distances = {};
  for (const type of fileTypes) {
    const path = await quantized(wide, { type });
    distances[type] = meanDistance((await results(path, { precision: "high" })).logprobs, exact.logprobs);
    assert.equal(readdirSync(join(path, "..")).join(), "out.gguf", "nothing else is left");
  }
  assert.equal(distances.F32, 0);
  assert.ok(distances.F16 < 2e-3 && distances.BF16 < 2e-2, JSON.stringify(distances));
  assert.ok(distances.Q8_0 < 0.02 && distances.Q6_K < 0.06, JSON.stringify(distances));
  assert.ok(distances.Q6_K < distances.Q4_K_M && distances.Q8_0 < distances.Q4_0, JSON.stringify(distances));
  assert.ok(distances.Q4_K_M < 0.5 && distances.Q4_0 < 0.5, JSON.stringify(distances));
});

test("the result tells sizes and types, and the file says what it is", async () => {
  const output = outputPath();
  const result = await quantizeModel(wide, output, { type: "Q4_K_M" });
  assert.equal(result.path, output);
  assert.equal(result.inputBytes, readFileSync(wide).length);
  assert.equal(result.outputBytes, readFileSync(output).length);
  assert.deepEqual(
    result.types.map(({ type }) => type),
    ["F32", "Q4_K", "Q6_K"],
  );
  assert.equal(metadataOf(output, "general.file_type"), 15);
  assert.equal(metadataOf(output, "general.quantization_version"), 2);
  const types = typesOf(output);
  assert.equal(types.get("token_embd.weight"), "Q6_K");
  assert.equal(types.get("blk.0.attn_norm.weight"), "F32");
  assert.equal(types.get("blk.1.ffn_up.weight"), "Q4_K");
  const before = native().inspectGguf(wide);
  const after = native().inspectGguf(output);
  assert.deepEqual(after.metadata.slice(0, before.metadata.length), before.metadata);
  assert.deepEqual(
    after.tensors.map(({ name, shape }) => ({ name, shape })),
    before.tensors.map(({ name, shape }) => ({ name, shape })),
  );
});

test("the bytes do not depend on the threads", async () => {
  for (const type of ["Q4_0", "Q4_K_M"]) {
    const one = readFileSync(await quantized(wide, { type, threads: 1 }));
    const four = readFileSync(await quantized(wide, { type, threads: 4 }));
    assert.ok(one.equals(four), type);
  }
});

test("a file in F16 or BF16 quantizes about as well as its F32 original", async () => {
  const exact = await results(wide, { precision: "high" });
  const distanceOf = async (source) => {
    const { logprobs } = await results(await quantized(source, { type: "Q5_0" }), { precision: "high" });
    return meanDistance(logprobs, exact.logprobs);
  };
  const full = await distanceOf(wide);
  for (const type of ["F16", "BF16"]) {
    const distance = await distanceOf(await quantized(wide, { type }));
    assert.ok(distance < 1.5 * full, `${distance} from ${type}, ${full} from F32`);
  }
});

test("quantized sources are refused, unless that is asked for", async () => {
  const once = await quantized(wide, { type: "Q8_0" });
  const error = await failure(quantizeModel(once, outputPath(), { type: "Q4_0" }), "InvalidArgument");
  assert.match(error.message, /is quantized already: tensor 'token_embd\.weight' has type Q8_0/);
  const again = await quantized(once, { type: "Q4_0", allowRequantize: true });
  assert.equal(typesOf(again).get("blk.0.attn_q.weight"), "Q4_0");
  const same = await quantized(once, { type: "Q8_0", allowRequantize: true });
  assert.ok(readFileSync(same).equals(readFileSync(once)), "what has its type already is copied");
});

test("pure gives every matrix the one type", async () => {
  const path = await quantized(wide, { type: "Q4_K", pure: true });
  assert.deepEqual(new Set(typesOf(path).values()), new Set(["F32", "Q4_K"]));
});

test("an output that exists is left as it is, unless it is to be overwritten", async () => {
  const output = outputPath();
  writeFileSync(output, "mine");
  const error = await failure(quantizeModel(small, output, { type: "Q8_0" }), "InvalidArgument");
  assert.match(error.message, /exists already/);
  assert.equal(readFileSync(output, "utf8"), "mine");
  await quantizeModel(small, output, { type: "Q8_0", overwrite: true });
  assert.equal(readFileSync(output).toString("latin1", 0, 4), "GGUF");
});

test("the source itself is never the output, by whatever name", async () => {
  const source = temporaryFile(readFileSync(small));
  const bytes = readFileSync(source);
  const name = outputPath();
  linkSync(source, name);
  for (const output of [source, name]) {
    const error = await failure(
      quantizeModel(source, output, { type: "Q8_0", overwrite: true }),
      "InvalidArgument",
    );
    assert.match(error.message, /is the input itself/);
  }
  assert.ok(readFileSync(source).equals(bytes));
});

test("outputs that cannot be written are refused", async () => {
  const missing = join(folder, "missing", "out.gguf");
  const { message } = await failure(quantizeModel(small, missing, { type: "Q8_0" }), "InvalidArgument");
  assert.match(message, /its folder does not exist/);
  const { message: directory } = await failure(
    quantizeModel(small, folder, { type: "Q8_0", overwrite: true }),
    "InvalidArgument",
  );
  assert.match(directory, /it is a directory/);
  assert.ok(!existsSync(missing));
});

test("weights that are not finite end the work, name the tensor and leave nothing", async () => {
  const name = "blk.1.ffn_up.weight";
  for (const [value, code] of [
    [Number.NaN, "CorruptFile"],
    [Number.NEGATIVE_INFINITY, "CorruptFile"],
    [1e30, "UnsupportedQuantization"],
  ]) {
    const tensor = randomTensor(name, [64, 192]);
    tensor.data.writeFloatLE(value, 4 * (64 * 100 + 3));
    const source = temporaryFile(tinyLlama({ tensors: { [name]: tensor } }));
    const output = outputPath();
    const error = await failure(quantizeModel(source, output, { type: "Q4_0" }), code);
    assert.match(error.message, /tensor 'blk\.1\.ffn_up\.weight' has the value \S+ in row 100/);
    assert.deepEqual(readdirSync(join(output, "..")), []);
    const loading = await failure(loadModel(source, { quantize: "int8" }), code);
    assert.match(loading.message, /blk\.1\.ffn_up\.weight/);
  }
});

test("progress is told in order, to the end", async () => {
  const reports = [];
  const output = outputPath();
  await quantizeModel(wide, output, { type: "Q4_0", onProgress: (progress) => reports.push(progress) });
  assert.ok(reports.length >= 2);
  assert.ok(reports.every(({ phase, file }) => phase === "quantize" && file === wide));
  assert.deepEqual(
    reports.map(({ loaded }) => loaded),
    reports.map(({ loaded }) => loaded).sort((a, b) => a - b),
  );
  assert.equal(reports.at(-1).loaded, reports.at(-1).total);
});

test("an aborted work, or one whose onProgress throws, leaves nothing", async () => {
  const large = tinyModel({ layers: 4, dim: 512, feedForward: 2048, heads: 8 });
  const started = outputPath();
  const controller = new AbortController();
  const reason = new Error("enough");
  const aborted = quantizeModel(large, started, {
    type: "Q4_K_M",
    signal: controller.signal,
    onProgress: () => controller.abort(reason),
  });
  const error = await failure(aborted, "Aborted");
  assert.equal(error.cause, reason);
  assert.deepEqual(readdirSync(join(started, "..")), []);
  const thrown = outputPath();
  const throwing = quantizeModel(large, thrown, {
    type: "Q4_K_M",
    onProgress: () => {
      throw reason;
    },
  });
  await assert.rejects(throwing, reason);
  assert.deepEqual(readdirSync(join(thrown, "..")), []);
  await failure(quantizeModel(large, thrown, { type: "Q4_0", signal: AbortSignal.abort() }), "Aborted");
});

test("wrong arguments are refused", async () => {
  const output = outputPath();
  for (const [args, expected] of [
    [["", output, { type: "Q4_0" }], /source is ""/],
    [[small, "", { type: "Q4_0" }], /output is ""/],
    [[small, output, { type: "q4_0" }], /type is "q4_0"; expected one of F32, F16/],
    [[small, output, {}], /type is undefined/],
    [[small, output], /options is undefined/],
    [[small, output, { type: "Q4_0", threads: 0 }], /threads is 0/],
    [[small, output, { type: "Q4_0", pure: 1 }], /pure is 1; expected true or false/],
    [[small, output, { type: "Q4_0", force: true }], /quantizeModel has no option 'force'/],
  ]) {
    assert.match((await failure(quantizeModel(...args), "InvalidArgument")).message, expected);
  }
  await failure(quantizeModel(join(folder, "absent.gguf"), output, { type: "Q4_0" }), "ModelNotFound");
  await failure(quantizeModel(temporaryFile("no model"), output, { type: "Q4_0" }), "CorruptFile");
  assert.match(
    (await failure(loadModel(small, { quantize: "int2" }), "InvalidArgument")).message,
    /quantize is "int2"; expected "int8" or "int4"/,
  );
});

test("a model quantized while it loads gives the bits of the file with the same types", async () => {
  for (const [source, quantize, options, quantization] of [
    [wide, "int8", { type: "Q8_0" }, "Q8_0"],
    [small, "int8", { type: "Q8_0" }, "Q8_0"],
    [small, "int4", { type: "Q4_1" }, "Q4_1"],
  ]) {
    for (const precision of ["fast", "high"]) {
      const loaded = await results(source, { quantize, precision });
      const written = await results(await quantized(source, options), { precision });
      assert.equal(loaded.quantization, quantization);
      assert.deepEqual(loaded, written);
    }
  }
});

test("int4 takes 4-bit super-blocks where they fit, and every source of floats gives the same", async () => {
  const half = await quantized(wide, { type: "F16" });
  const loaded = await results(half, { quantize: "int4" });
  assert.equal(loaded.quantization, "Q4_K");
  const exact = await results(wide, { precision: "high" });
  assert.ok(meanDistance(loaded.logprobs, exact.logprobs) < 0.5);
  const full = await results(await quantized(half, { type: "F32" }), { quantize: "int4" });
  assert.deepEqual(full.logprobs, loaded.logprobs);
});

test("quantized weights take less memory, and are engines of their own", async () => {
  const plain = await loadModel(wide);
  const int8 = await loadModel(wide, { quantize: "int8" });
  const int4 = await loadModel(wide, { quantize: "int4" });
  const bytes = [plain, int8, int4].map((model) => model.stats().bytes.weights);
  assert.ok(bytes[1] < bytes[0] / 3 && bytes[2] < bytes[1], String(bytes));
  assert.deepEqual(
    [plain, int8, int4].map((model) => model.info.quantization),
    ["F32", "Q8_0", "Q4_K"],
  );
  await Promise.all([plain, int8, int4].map((model) => model.dispose()));
});

test("files that are quantized already are not quantized while they load", async () => {
  const path = await quantized(wide, { type: "Q4_K_M" });
  const error = await failure(loadModel(path, { quantize: "int8" }), "InvalidArgument");
  assert.match(error.message, /quantized already.*F32, F16 or BF16.*Load it without `quantize`/s);
});

modelTest("the types of Gemma 3 270M are those of the published Q4_K_M file", gemma3, async (path) => {
  const floats = await quantized(path, { type: "F16", allowRequantize: true });
  const output = await quantized(floats, { type: "Q4_K_M" });
  rmSync(floats);
  assert.deepEqual(typesOf(output), typesOf(path));
  assert.deepEqual(native().inspectGguf(output).metadata, native().inspectGguf(path).metadata);
  rmSync(output);
});
