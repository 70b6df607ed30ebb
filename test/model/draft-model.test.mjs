// A draft model changes nothing but the number of steps.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { loadModel, quantizeModel, TokenmillError } from "../../dist/index.mjs";
import { root, smollm2, temporaryFile, tinyModel } from "../support/models.mjs";

process.env.TOKENMILL_INTEGRITY = "1";

const variants = {
  greedy: {},
  "seeded, from the best few": { temperature: 0.7, topK: 8, seed: 3 },
  "seeded, from whole rows": { temperature: 0.8, topP: 0.9, seed: 4 },
  "repetition penalty": { repetitionPenalty: 1.1 },
  "frequency and presence penalties": {
    frequencyPenalty: 0.1,
    presencePenalty: 0.1,
    temperature: 0.6,
    seed: 5,
  },
  "log-probabilities": { logprobs: 3 },
};

const tiny = (name) => join(root, `test/fixtures/model/tiny/${name}.gguf`);
const prompt = "one two three four one two three five one two three four six one two";

function essence({ text, tokens, logprobs, finishReason }) {
  return { text, tokens, logprobs, finishReason };
}

async function guessesOf(model, body) {
  const before = model.stats().draft;
  await body();
  const after = model.stats().draft;
  return {
    guessed: after.guessedTokens - before.guessedTokens,
    accepted: after.acceptedTokens - before.acceptedTokens,
  };
}

/** Replies with and without guesses, alone and in a crowd of all kinds; gives the guesses of the one alone. */
async function check(model, draft, options) {
  const plain = essence(await model.generate(prompt, options));
  const alone = await guessesOf(model, async () => {
    assert.deepEqual(essence(await model.generate(prompt, { ...options, draft })), plain);
  });
  const kinds = [draft, undefined, "promptLookup", draft, draft];
  const crowd = kinds.map((kind) => model.generate(prompt, { ...options, ...(kind ? { draft: kind } : {}) }));
  for (const completion of await Promise.all(crowd)) assert.deepEqual(essence(completion), plain);
  return alone;
}

for (const [name, targetName, draftName] of [
  ["the model itself", "llama-tied", "llama-tied"],
  ["a model that says something else", "llama-tied", "mistral"],
  ["a model with windows", "mistral", "gemma3"],
  ["a model that a draft with windows guesses for", "gemma3", "llama3-scaled-untied"],
]) {
  describe(`guessing with ${name}`, () => {
    let model;
    let draft;
    before(async () => {
      model = await loadModel(tiny(targetName), { prefixCache: false });
      draft = targetName === draftName ? model : await loadModel(tiny(draftName));
    });
    after(async () => {
      await model.dispose();
      await draft.dispose();
    });
    for (const [variant, options] of Object.entries(variants)) {
      test(variant, async () => {
        const { guessed, accepted } = await check(model, draft, {
          maxTokens: 200,
          ignoreEos: true,
          ...options,
        });
        assert.ok(guessed > 0, "nothing was guessed");
        if (draft === model) assert.ok(accepted >= 0.95 * guessed, `${accepted} of ${guessed} came true`);
      });
    }
    test("stop strings and the end of the context", async () => {
      const { text } = await model.generate(prompt, { maxTokens: 60 });
      const stop = [...text].slice(20, 26).join("");
      await check(model, draft, { maxTokens: 120, stop });
      await check(model, draft, { ignoreEos: true });
    });
  });
}

test("sessions, chats and batches take a draft; a snapshot does without it", async () => {
  const path = tinyModel({ context: 512 });
  const model = await loadModel(path);
  const draft = await loadModel(path, { contextLength: 200 });
  const options = { maxTokens: 40, ignoreEos: true };
  const session = model.session(options);
  const drafted = model.session({ ...options, draft });
  for (const turn of ["hello", "and then?"]) {
    assert.equal((await drafted.send(turn)).text, (await session.send(turn)).text);
  }
  const restored = await model.restore(await drafted.snapshot());
  assert.equal((await restored.send("more", { draft })).text, (await session.send("more")).text);
  const inputs = Array.from({ length: 12 }, (_, i) => `prompt ${i}`);
  const texts = async (kind) => {
    const all = [];
    for await (const { completion } of model.generateMany(inputs, { ...options, ...kind }))
      all.push(completion.text);
    return all;
  };
  assert.deepEqual(await texts({ draft }), await texts({}));
  const shared = { ...options, coalesce: true, draft };
  const [one, two] = await Promise.all([model.generate("equal", shared), model.generate("equal", shared)]);
  assert.equal(one.text, two.text);
  await Promise.all([model.dispose(), draft.dispose()]);
});

test("a draft that is disposed while it guesses lets replies go on", async () => {
  const path = tinyModel({ context: 512 });
  const model = await loadModel(path);
  const draft = await loadModel(path, { contextLength: 500 });
  const options = { maxTokens: 300, ignoreEos: true };
  const plain = await model.generate(prompt, options);
  const reply = model.generate(prompt, { ...options, draft });
  const parts = reply[Symbol.asyncIterator]();
  await parts.next();
  await draft.dispose();
  let tokens = 1;
  while (!(await parts.next()).done) tokens += 1;
  assert.equal((await reply).text, plain.text);
  assert.ok(tokens > 1);
  await assert.rejects(async () => model.generate(prompt, { draft }), {
    code: "Disposed",
    message: /the draft model was disposed/,
  });
  await model.dispose();
});

test("what cannot be a draft is refused", async () => {
  const model = await loadModel(tinyModel());
  const other = await loadModel(tiny("mistral"));
  for (const draft of ["prompt-lookup", {}, 7, null, { info: {} }]) {
    await assert.rejects(async () => model.generate("x", { draft }), {
      code: "InvalidArgument",
      message: /^draft is .*expected "promptLookup" or a model/,
    });
    assert.throws(() => model.session({ draft }), { code: "InvalidArgument" });
  }
  await assert.rejects(
    async () => model.generate("x", { draft: other }),
    (error) => {
      assert.ok(TokenmillError.isInstance(error));
      assert.equal(error.code, "Incompatible");
      assert.match(
        error.message,
        /draft model '.*' has 320 tokens, and the model has \d+|token \d+ of the draft model/,
      );
      return true;
    },
  );
  const short = { maxTokens: 3, ignoreEos: true, coalesce: true };
  const [wrong, none] = await Promise.allSettled(
    [{ draft: other }, {}].map((own) => model.generate("x", { ...short, ...own }).then()),
  );
  assert.equal(wrong.reason.code, "Incompatible");
  assert.equal(none.value?.tokens.length, 3, "who asks the same without it does not fail with it");
  await Promise.all([model.dispose(), other.dispose()]);
});

test("SmolLM2's F16 weights with the Q4_1 file as draft", { skip: !smollm2, timeout: 240_000 }, async () => {
  const path = temporaryFile("");
  await quantizeModel(smollm2, path, { type: "F16", allowRequantize: true, overwrite: true });
  const model = await loadModel(path, { contextLength: 512 });
  const draft = await loadModel(smollm2, { contextLength: 512 });
  const messages = [{ role: "user", content: "Why is the sky blue? Answer in three sentences." }];
  for (const options of [{}, { temperature: 0.6, topP: 0.9, seed: 7 }]) {
    const plain = essence(await model.chat(messages, { maxTokens: 80, ...options }));
    const { guessed, accepted } = await guessesOf(model, async () => {
      const reply = model.chat(messages, { maxTokens: 80, ...options, draft });
      assert.deepEqual(essence(await reply), plain);
    });
    // How many guesses are made depends on the machine's pace; where there are few, two may be wrong.
    assert.ok(guessed > 0 && accepted >= 0.7 * guessed - 2, `${accepted} of ${guessed} came true`);
  }
  await Promise.all([model.dispose(), draft.dispose()]);
});
