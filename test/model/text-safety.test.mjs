// Special tokens come from the template alone: whatever a message spells out reaches the model as plain text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { modelTest, smollm2, temporaryFile } from "../support/models.mjs";
import { array, string, tinyLlama } from "../unit/gguf/gguf-writer.mjs";
import { tinyVocabulary } from "../unit/gguf/tiny-vocabulary.mjs";

// Templates in the manner of the common families, with the control tokens they use.
const families = {
  chatml: {
    special: ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    template:
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
  },
  llama3: {
    special: ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    template:
      "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
  },
  gemma: {
    special: ["<bos>", "<start_of_turn>", "<end_of_turn>"],
    template:
      "<bos>{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n",
  },
  mistral: {
    special: ["<s>", "</s>", "[INST]", "[/INST]"],
    template:
      "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}",
  },
};

function familyModel({ special, template }) {
  const { tokens, types, merges } = vocabularyWith(special);
  return temporaryFile(
    tinyLlama({
      metadata: {
        "tokenizer.chat_template": string(template),
        "tokenizer.ggml.tokens": array("string", tokens),
        "tokenizer.ggml.token_type": array("int32", types),
        "tokenizer.ggml.merges": array("string", merges),
      },
    }),
  );
}

/** The tiny vocabulary with these control tokens instead of its own; further ones replace its last merges. */
function vocabularyWith(special) {
  const { tokens, types, merges } = tinyVocabulary();
  for (const [i, token] of special.entries()) {
    const id = types[i] === 3 ? i : tokens.indexOf(merges.pop().replace(" ", ""));
    tokens[id] = token;
    types[id] = 3;
  }
  return { tokens, types, merges };
}

/** The prompt's ids as the model reads them: a greedy reply's prompt cannot be seen, so they are scored. */
async function promptTokens(model, messages) {
  const { renderChat } = await import("../../dist/chat/render-chat.js").then(
    (module) => module.default ?? module,
  );
  const special = controlTexts(model);
  const pieces = await renderChat({ template: model.info.chatTemplate, messages, specialTokens: special });
  return pieces.flatMap(({ text, special: isSpecial }) =>
    model.tokenize(text, { special: isSpecial, bos: false }),
  );
}

const controls = new WeakMap();
function controlTexts(model) {
  if (!controls.has(model)) {
    const texts = [];
    for (let id = 0; id < model.vocabularySize; id++) {
      if (model.detokenize([id]) === "" && model.detokenize([id], { special: true }) !== "") {
        texts.push(model.detokenize([id], { special: true }));
      }
    }
    controls.set(model, texts);
  }
  return controls.get(model);
}

async function checkFamily(model) {
  const texts = controlTexts(model);
  assert.ok(texts.length >= 3);
  const ids = new Set(texts.map((text) => model.tokenize(text, { special: true, bos: false })[0]));
  const count = (tokens) => tokens.filter((token) => ids.has(token)).length;
  const plain = await promptTokens(model, [{ role: "user", content: "hello there" }]);
  assert.ok(count(plain) > 0, "the template itself uses special tokens");
  const halves = texts.flatMap((text) => [text.slice(0, 1), text.slice(0, -1), text.slice(1)]);
  for (const content of [
    ...texts,
    ...halves,
    texts.join(""),
    texts.join("\n"),
    `x${texts[0]}y ${texts[1]}`,
  ]) {
    const messages = [{ role: "user", content }];
    const tokens = await promptTokens(model, messages);
    assert.equal(count(tokens), count(plain), `a message of ${JSON.stringify(content)}`);
    assert.ok(
      model.detokenize(tokens, { special: true }).includes(content.trim()),
      "the text itself is kept",
    );
    const reply = await model.chat(messages, { maxTokens: 1, ignoreEos: true });
    const added = reply.usage.promptTokens - tokens.length;
    assert.ok(added === 0 || added === 1, `chat reads these very tokens (and a BOS): ${added}`);
  }
}

for (const [name, family] of Object.entries(families)) {
  test(`${name}: special tokens in messages are plain text`, async () => {
    const model = await loadModel(familyModel(family));
    await checkFamily(model);
    await model.dispose();
  });
}

test("special tokens that a file calls user-defined are plain text too", async () => {
  const { tokens, types, merges } = vocabularyWith(families.chatml.special);
  const path = temporaryFile(
    tinyLlama({
      metadata: {
        "tokenizer.chat_template": string(families.chatml.template),
        "tokenizer.ggml.tokens": array("string", tokens),
        "tokenizer.ggml.token_type": array(
          "int32",
          types.map((type) => (type === 3 ? 4 : type)),
        ),
        "tokenizer.ggml.merges": array("string", merges),
      },
    }),
  );
  const model = await loadModel(path);
  assert.ok(model.tokenize("<|im_end|>").length > 1);
  await checkFamily(model);
  await model.dispose();
});

modelTest("SmolLM2: special tokens in messages are plain text", smollm2, async (path) => {
  const model = await loadModel(path);
  const { usage } = await model.chat([{ role: "user", content: "a" }], { maxTokens: 1 });
  const spelled = await model.chat([{ role: "user", content: "a<|im_end|>" }], { maxTokens: 1 });
  const asText = model.tokenize("a<|im_end|>", { bos: false });
  assert.ok(asText.length > 2);
  assert.equal(spelled.usage.promptTokens - usage.promptTokens, asText.length - 1);
  await model.dispose();
});

const hostile = {
  "an endless loop": [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "UnsupportedModel",
  ],
  "a huge output": [
    "{% for a in range(100000) %}{% for b in range(1000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}",
    "UnsupportedModel",
  ],
  "an exception": ["{{ raise_exception('only pigs may speak') }}", "InvalidArgument"],
  "a syntax error": ["{% for %}", "UnsupportedModel"],
};

for (const [name, [template, code]] of Object.entries(hostile)) {
  test(`a template with ${name} fails alone`, async () => {
    const bad = await loadModel(
      temporaryFile(tinyLlama({ metadata: { "tokenizer.chat_template": string(template) } })),
    );
    const good = await loadModel(familyModel(families.chatml));
    const messages = [{ role: "user", content: "hi" }];
    const failing = bad.chat(messages).then(
      () => assert.fail("the template rendered"),
      (error) => assert.equal(error.code, code, error.message),
    );
    const stream = bad.generate("hi", { maxTokens: 30, ignoreEos: true });
    assert.equal((await good.chat(messages, { maxTokens: 5, ignoreEos: true })).tokens.length, 5);
    assert.equal((await stream).tokens.length, 30);
    await failing;
    assert.equal((await good.chat(messages, { maxTokens: 5, ignoreEos: true })).tokens.length, 5);
    await Promise.all([bad.dispose(), good.dispose()]);
  });
}
