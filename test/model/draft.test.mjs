// Guessing ahead changes nothing but the number of steps.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { gemma3, smollm2, tinyModel } from "../support/models.mjs";

const variants = {
  greedy: {},
  "seeded, from the best few": { temperature: 0.5, topK: 8, seed: 3 },
  "seeded, from whole rows": { temperature: 0.4, topP: 0.9, seed: 4 },
  "repetition penalty": { repetitionPenalty: 1.02 },
  "frequency and presence penalties": {
    frequencyPenalty: 0.02,
    presencePenalty: 0.1,
    temperature: 0.3,
    seed: 5,
  },
  "log-probabilities": { logprobs: 3 },
};

function essence({ text, tokens, logprobs, finishReason }) {
  return { text, tokens, logprobs, finishReason };
}

/** Replies with and without guesses, alone and together, and the guesses that came true. */
async function check(model, prompt, options) {
  const plain = essence(await model.generate(prompt, { ...options }));
  const { acceptedTokens } = model.stats().draft;
  const drafted = { ...options, draft: "promptLookup" };
  assert.deepEqual(essence(await model.generate(prompt, drafted)), plain);
  const crowd = await Promise.all([drafted, options, drafted].map((own) => model.generate(prompt, own)));
  for (const completion of crowd) assert.deepEqual(essence(completion), plain);
  return model.stats().draft.acceptedTokens - acceptedTokens;
}

function checkModel(name, open, prompt) {
  describe(name, () => {
    let model;
    before(async () => {
      model = await open();
    });
    after(() => model?.dispose());
    for (const [variant, options] of Object.entries(variants)) {
      test(variant, async () => {
        const accepted = await check(model, prompt, { maxTokens: 120, ignoreEos: true, ...options });
        if (variant === "greedy") assert.ok(accepted > 20, `${accepted} guesses came true`);
      });
    }
    test("stop strings and the end of the context", async () => {
      const { text } = await model.generate(prompt, { maxTokens: 60 });
      const stop = [...text].slice(20, 26).join("");
      await check(model, prompt, { maxTokens: 120, stop });
      await check(model, prompt, { ignoreEos: true });
    });
  });
}

const words = "one two three four one two three five one two three four six one two three four ";
checkModel(
  "tiny llama",
  () => loadModel(tinyModel({ context: 256 }), { prefixCache: false }),
  words.repeat(2),
);

const text = "The lighthouse at Cape Merrow was built in 1868 by Elias Thorne, an engineer from Halden. ";
for (const [name, path] of Object.entries({ SmolLM2: smollm2, "Gemma 3": gemma3 })) {
  if (!path) continue;
  checkModel(
    name,
    () => loadModel(path, { contextLength: 320, prefixCache: false }),
    `${text.repeat(2)}The lighthouse at Cape`,
  );
}
