// Adapters on the executors, against PEFT + transformers: tiny models in full rows, and what a trained one does.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { loadModel, mergeAdapter } from "../../dist/index.mjs";
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

modelTest(
  "an adapter that was trained for a JSON form makes the model answer in it",
  smollm2,
  async (path) => {
    const adapter = join(root, "test/fixtures/adapter/smollm2-purchase-json");
    const { cases } = JSON.parse(readFileSync(join(adapter, "expected.json"), "utf8"));
    const merged = join(dirname(temporaryFile("")), "smollm2-merged.gguf");
    await mergeAdapter(path, adapter, merged, { type: "Q8_0" });
    const answers = async (file) => {
      const model = await loadModel(file, { precision: "high", packedCache: false, contextLength: 512 });
      try {
        const replies = cases.map(({ message }) =>
          model.chat([{ role: "user", content: message }], { maxTokens: 48, temperature: 0 }),
        );
        return (await Promise.all(replies)).map(({ text }) => text);
      } finally {
        await model.dispose();
      }
    };
    const [plain, adapted] = [await answers(path), await answers(merged)];
    assert.ok(
      plain.every((text) => !text.startsWith("{")),
      "the base model answers in prose",
    );
    const right = adapted.filter((text, i) => text === cases[i].answer).length;
    assert.ok(right >= cases.length - 1, `${right} of ${cases.length}: ${adapted.join(" | ")}`);
  },
);
