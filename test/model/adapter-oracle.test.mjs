// Adapters on the executors, against PEFT + transformers: tiny models in full rows, and what a trained one does.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { modelTest, nativeTests, root, smollm2, temporaryFile } from "../support/models.mjs";

const adapters = join(root, "test/fixtures/adapter/tiny");
const models = join(root, "test/fixtures/model/tiny");
const { native } = (await import("../../dist/native.js")).default;

function specOf(adapter) {
  const text = execFileSync(process.execPath, [join(root, "scripts/adapter-spec.mjs"), adapter]);
  return temporaryFile(text, "spec");
}

/** Log-probabilities of all rows, [row][token]. */
function logProbabilities(isa, model, adapter, { tokens, vocab }) {
  const { stdout, status, stderr } = spawnSync(
    join(nativeTests, "logits_cli"),
    [model, "64", "f16", "none", specOf(adapter)],
    {
      input: `${JSON.stringify({ tokens })}\n`,
      env: { ...process.env, TOKENMILL_ISA: isa },
      maxBuffer: 1 << 28,
    },
  );
  assert.equal(status, 0, String(stderr));
  const data = stdout.subarray(stdout.indexOf("\n") + 1);
  assert.equal(data.length, 4 * tokens.length * vocab);
  return tokens.map((_, row) => {
    const logits = Array.from({ length: vocab }, (_, i) => data.readFloatLE(4 * (row * vocab + i)));
    const most = Math.max(...logits);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
    return logits.map((logit) => logit - most - Math.log(sum));
  });
}

for (const file of readdirSync(adapters).filter((name) => name.endsWith(".json"))) {
  const expected = JSON.parse(readFileSync(join(adapters, file), "utf8"));
  const rows = Buffer.from(expected.rows, "base64");
  for (const isa of native().availableIsas()) {
    test(`${file.replace(/\.json$/, "")}, ${isa}: log-probabilities are PEFT's`, () => {
      const model = join(models, expected.model);
      const ours = logProbabilities(isa, model, join(adapters, file.replace(/\.json$/, "")), expected);
      let worst = 0;
      for (const [i, position] of expected.positions.entries()) {
        for (let token = 0; token < expected.vocab; ++token) {
          const wanted = rows.readFloatLE(4 * (i * expected.vocab + token));
          worst = Math.max(worst, Math.abs(ours[position][token] - wanted));
        }
      }
      assert.ok(worst <= (isa === "reference" ? 2e-4 : 0.04), `the largest difference is ${worst}`);
    });
  }
}

for (const file of readdirSync(adapters).filter((name) => name.endsWith(".json"))) {
  const { model: modelFile, tokens, nextLogprobs } = JSON.parse(readFileSync(join(adapters, file), "utf8"));
  const folder = join(adapters, file.replace(/\.json$/, ""));
  for (const source of [folder, `${folder}.gguf`].filter(existsSync)) {
    test(`${basename(source)}: scores of a model with it are PEFT's`, async () => {
      const model = await loadModel(join(models, modelFile));
      const adapter = await model.loadAdapter(source);
      const { logprobs } = await model.score(tokens, { adapter });
      const plain = await model.score(tokens);
      const distance = (values) =>
        Math.max(...nextLogprobs.map((wanted, i) => Math.abs(values[i + 1] - wanted)));
      assert.ok(distance(logprobs) <= 0.04, `the largest difference is ${distance(logprobs)}`);
      assert.ok(distance(plain.logprobs) > 0.2, "without it the model says something else");
      await model.dispose();
    });
  }
}

modelTest(
  "an adapter that was trained for a JSON form makes a request answer in it, in one batch with others",
  smollm2,
  async (path) => {
    const source = join(root, "test/fixtures/adapter/smollm2-purchase-json");
    const { cases } = JSON.parse(readFileSync(join(source, "expected.json"), "utf8"));
    const model = await loadModel(path, { precision: "high", contextLength: 512 });
    const adapter = await model.loadAdapter(source);
    const ask = async ({ message }, options) => {
      const messages = [{ role: "user", content: message }];
      return (await model.chat(messages, { maxTokens: 48, temperature: 0, ...options })).text;
    };
    const [plain, adapted] = await Promise.all([
      Promise.all(cases.map((one) => ask(one, {}))),
      Promise.all(cases.map((one) => ask(one, { adapter }))),
    ]);
    await model.dispose();
    assert.ok(
      plain.every((text) => !text.startsWith("{")),
      "the base model answers in prose",
    );
    const right = adapted.filter((text, i) => text === cases[i].answer).length;
    assert.ok(right >= cases.length - 1, `${right} of ${cases.length}: ${adapted.join(" | ")}`);
  },
);
