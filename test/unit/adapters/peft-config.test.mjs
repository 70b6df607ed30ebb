// adapter_config.json against what PEFT makes of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePeftConfig, scalesOf } from "../../../dist/adapters/peft-config.js";
import { parseStrictJson } from "../../../dist/adapters/strict-json.js";
import { peftConfig } from "../../support/adapters.mjs";

const parse = (settings) => parsePeftConfig(Buffer.from(JSON.stringify(peftConfig(settings))));
const module = (layer, name) => `model.layers.${layer}.${name}`;

/** [rank, alpha] of a module, with r = 4 and alpha = 8 where no pattern matches. */
function ranked(settings, name) {
  const [{ rank, scale }] = scalesOf(parse(settings), [name]);
  return [rank, scale * rank];
}

test("alpha is divided by the rank, or by its root", () => {
  const names = [module(0, "self_attn.q_proj")];
  assert.deepEqual(scalesOf(parse({ r: 16, lora_alpha: 8 }), names), [{ rank: 16, scale: 0.5 }]);
  assert.deepEqual(scalesOf(parse({ r: 16, lora_alpha: 8, use_rslora: true }), names), [
    { rank: 16, scale: 2 },
  ]);
});

test("a pattern matches a path, or its end behind a dot, and nothing else", () => {
  const name = module(12, "self_attn.q_proj");
  const matches = (pattern) => ranked({ rank_pattern: { [pattern]: 2 } }, name)[0] === 2;
  for (const pattern of [
    ...["q_proj", "self_attn.q_proj", "12.self_attn.q_proj", name, `^${name}`, "model.*q_proj", ".*"],
    ...[
      "(q|k)_proj",
      "layers\\.\\d+\\.self_attn\\.q_proj",
      "1[0-2].self_attn.[qk]_proj",
      "q_proj$",
      "q_proj|v_proj",
    ],
  ]) {
    assert.ok(matches(pattern), pattern);
  }
  for (const pattern of [
    "proj",
    "_proj",
    "2.self_attn.q_proj",
    "self_attn",
    "model.layers",
    "Q_proj",
    "^q_proj ",
  ]) {
    assert.ok(!matches(pattern), pattern);
  }
});

test("the first pattern that matches counts, in the file's order, also where keys are numbers", () => {
  const text = (patterns) =>
    parsePeftConfig(
      Buffer.from(
        `{"peft_type":"LORA","r":4,"lora_alpha":8,"rank_pattern":{${patterns}},"alpha_pattern":{}}`,
      ),
    );
  const rank = (patterns, name) => scalesOf(text(patterns), [name])[0].rank;
  assert.equal(rank('"q_proj":2,"0.q_proj":3', "layers.0.q_proj"), 2);
  assert.equal(rank('"0.q_proj":3,"q_proj":2', "layers.0.q_proj"), 3);
  assert.equal(rank('".*":2,"1":3', "layers.1"), 2);
});

test("ranks and alphas have patterns of their own", () => {
  const settings = { rank_pattern: { q_proj: 2 }, alpha_pattern: { "0.self_attn.q_proj": 32 } };
  assert.deepEqual(ranked(settings, module(0, "self_attn.q_proj")), [2, 32]);
  assert.deepEqual(ranked(settings, module(1, "self_attn.q_proj")), [2, 8]);
  assert.deepEqual(ranked(settings, module(0, "self_attn.v_proj")), [4, 8]);
});

test("settings of the training alone are passed over, and so is fan_in_fan_out", () => {
  const settings = { lora_dropout: 0.1, loftq_config: {}, eva_config: null, init_lora_weights: "gaussian" };
  assert.equal(parse({ ...settings, fan_in_fan_out: true, runtime_config: { x: true } }).rank, 4);
});

test("strict JSON takes what JSON.parse takes, but no key twice", () => {
  for (const text of [
    ...[
      "null",
      " [1, -2.5e-3 ,0] ",
      '{"a":{"b":[true,false,null]},"c":"\\u00e9\\n\\"/"}',
      '""',
      "{}",
      "[]",
      "[[]]",
    ],
    ...['"\\\\"', '{"a\\\\":1}', '{"__proto__":1,"constructor":{}}', '"\\ud83d\\ude00"', "1e999"],
  ]) {
    const plain = (value) =>
      value instanceof Map
        ? Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
        : Array.isArray(value)
          ? value.map(plain)
          : value;
    assert.deepEqual(plain(parseStrictJson(Buffer.from(text), "x")), plain(JSON.parse(text)), text);
  }
  for (const text of [
    ...[
      "",
      "[1,]",
      "{,}",
      '{"a":1,}',
      "01",
      "+1",
      ".5",
      "1.",
      "nul",
      "NaN",
      "Infinity",
      "-",
      "'a'",
      '{"a" 1}',
      "[1 2]",
    ],
    ...[
      '"\n"',
      '"\\x"',
      '"\\',
      '"',
      "[",
      "{",
      '{"a"',
      '{"a":',
      "{a:1}",
      "1 2",
      "\ufeff{}",
      "[".repeat(50) + "]".repeat(50),
    ],
    ...['{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', '{"a":1,"\\u0061":2}', "// x\n1"],
  ]) {
    assert.throws(() => parseStrictJson(Buffer.from(text), "x"), { code: "CorruptFile" }, text);
  }
});
