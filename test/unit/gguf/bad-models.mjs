// Models that are sound as GGUF files and cannot be run. Rows as in bad-files.mjs, built on tinyLlama.

import {
  array,
  bool,
  float32,
  int32,
  randomTensor,
  string,
  tensorTypes,
  tinyLlama,
  uint32,
} from "./gguf-writer.mjs";
import { tinyVocabulary } from "./tiny-vocabulary.mjs";

const withKey = (key, value) => () => tinyLlama({ metadata: { [key]: value } });
const withTensor = (name, tensor) => () => tinyLlama({ tensors: { [name]: tensor } });
const shaped = (name, shape) => withTensor(name, randomTensor(name, shape));

/** A llama with another vocabulary: `change` gets tokens, types and merges, and may alter them. */
function withVocabulary(change) {
  return () => {
    const vocabulary = tinyVocabulary();
    change(vocabulary);
    return tinyLlama({
      metadata: {
        "tokenizer.ggml.tokens": array("string", vocabulary.tokens),
        "tokenizer.ggml.token_type": array("int32", vocabulary.types),
        "tokenizer.ggml.merges": array("string", vocabulary.merges),
      },
    });
  };
}

const architecture = [
  ["no architecture", withKey("general.architecture", null), /general\.architecture/],
  ["an architecture that is a number", withKey("general.architecture", uint32(1)), /general\.architecture/],
  [
    "an unknown architecture",
    withKey("general.architecture", string("no-such-family")),
    /no-such-family/,
    "UnsupportedModel",
  ],
];

const sizes = [
  ["no layer count", withKey("llama.block_count", null), /llama\.block_count/],
  ["a layer count of zero", withKey("llama.block_count", uint32(0)), /llama\.block_count/],
  ["a negative layer count", withKey("llama.block_count", int32(-2)), /llama\.block_count/],
  ["a layer count that is a string", withKey("llama.block_count", string("2")), /llama\.block_count/],
  ["one layer more than there are", withKey("llama.block_count", uint32(3)), /blk\.2\./],
  ["2^32 - 1 layers", withKey("llama.block_count", uint32(0xffffffff)), /llama\.block_count/],
  ["no width", withKey("llama.embedding_length", null), /llama\.embedding_length/],
  ["a width of zero", withKey("llama.embedding_length", uint32(0)), /llama\.embedding_length/],
  [
    "a width that the tensors do not have",
    withKey("llama.embedding_length", uint32(128)),
    /token_embd\.weight/,
  ],
  ["no feed-forward width", withKey("llama.feed_forward_length", null), /llama\.feed_forward_length/],
  [
    "a feed-forward width of zero",
    withKey("llama.feed_forward_length", uint32(0)),
    /llama\.feed_forward_length/,
  ],
  [
    "a feed-forward width that the tensors do not have",
    withKey("llama.feed_forward_length", uint32(256)),
    /blk\.0\.ffn_/,
  ],
  ["no context length", withKey("llama.context_length", null), /llama\.context_length/],
  ["a context length of zero", withKey("llama.context_length", uint32(0)), /llama\.context_length/],
];

const attention = [
  ["no head count", withKey("llama.attention.head_count", null), /llama\.attention\.head_count/],
  ["a head count of zero", withKey("llama.attention.head_count", uint32(0)), /llama\.attention\.head_count/],
  [
    "a head count that does not divide the width",
    withKey("llama.attention.head_count", uint32(3)),
    /llama\.attention\.head_count/,
  ],
  [
    "no key-value heads",
    withKey("llama.attention.head_count_kv", uint32(0)),
    /llama\.attention\.head_count_kv/,
  ],
  [
    "more key-value heads than heads",
    withKey("llama.attention.head_count_kv", uint32(8)),
    /llama\.attention\.head_count_kv/,
  ],
  [
    "key-value heads that do not divide the heads",
    withKey("llama.attention.head_count_kv", uint32(3)),
    /llama\.attention\.head_count_kv/,
  ],
  [
    "a key length that the tensors do not have",
    withKey("llama.attention.key_length", uint32(24)),
    /blk\.0\.attn_|llama\.attention\.key_length/,
  ],
  [
    "an epsilon of NaN",
    withKey("llama.attention.layer_norm_rms_epsilon", float32(NaN)),
    /llama\.attention\.layer_norm_rms_epsilon/,
  ],
  [
    "a negative epsilon",
    withKey("llama.attention.layer_norm_rms_epsilon", float32(-1)),
    /llama\.attention\.layer_norm_rms_epsilon/,
  ],
  [
    "no epsilon",
    withKey("llama.attention.layer_norm_rms_epsilon", null),
    /llama\.attention\.layer_norm_rms_epsilon/,
  ],
  [
    "more rotary dimensions than a head has",
    withKey("llama.rope.dimension_count", uint32(32)),
    /llama\.rope\.dimension_count/,
  ],
  [
    "an odd number of rotary dimensions",
    withKey("llama.rope.dimension_count", uint32(15)),
    /llama\.rope\.dimension_count/,
  ],
  ["a rotary base of zero", withKey("llama.rope.freq_base", float32(0)), /llama\.rope\.freq_base/],
  ["a rotary base of infinity", withKey("llama.rope.freq_base", float32(Infinity)), /llama\.rope\.freq_base/],
];

const tensors = [
  ["no embedding", withTensor("token_embd.weight", null), /token_embd\.weight/],
  ["no matrix in the last layer", withTensor("blk.1.ffn_up.weight", null), /blk\.1\.ffn_up\.weight/],
  ["no output norm", withTensor("output_norm.weight", null), /output_norm\.weight/],
  ["a matrix with too few rows", shaped("blk.1.attn_q.weight", [64, 32]), /blk\.1\.attn_q\.weight/],
  ["a matrix with too many rows", shaped("blk.0.attn_k.weight", [64, 64]), /blk\.0\.attn_k\.weight/],
  ["a transposed matrix", shaped("blk.0.ffn_down.weight", [64, 192]), /blk\.0\.ffn_down\.weight/],
  ["a matrix in three dimensions", shaped("blk.0.attn_q.weight", [64, 64, 2]), /blk\.0\.attn_q\.weight/],
  ["a norm of another width", shaped("output_norm.weight", [32]), /output_norm\.weight/],
  [
    "a bias that the family does not have",
    withTensor("blk.1.ffn_gate.bias", randomTensor("blk.1.ffn_gate.bias", [192])),
    /blk\.1\.ffn_gate\.bias/,
    "UnsupportedModel",
  ],
  [
    "a bias of the output",
    withTensor("output.bias", randomTensor("output.bias", [320])),
    /output\.bias/,
    "UnsupportedModel",
  ],
  [
    "integer weights",
    withTensor("blk.0.attn_q.weight", { type: "I32", shape: [64, 64], data: Buffer.alloc(16384) }),
    /I32/,
    "UnsupportedQuantization",
  ],
  [
    "weights in IQ2_XS",
    () =>
      tinyLlama({
        feedForward: 256,
        tensors: {
          "blk.0.ffn_down.weight": {
            type: tensorTypes.IQ2_XS,
            shape: [256, 64],
            data: Buffer.alloc(74 * 64),
          },
        },
      }),
    /IQ2_XS/,
    "UnsupportedQuantization",
  ],
];

const vocabulary = [
  [
    "an unknown tokenizer",
    withKey("tokenizer.ggml.model", string("no-such-tokenizer")),
    /no-such-tokenizer/,
    "UnsupportedModel",
  ],
  [
    "an unknown pre-tokenizer",
    withKey("tokenizer.ggml.pre", string("no-such-rules")),
    /no-such-rules/,
    "UnsupportedModel",
  ],
  ["no tokens", withKey("tokenizer.ggml.tokens", null), /tokenizer\.ggml\.tokens/],
  [
    "tokens that are numbers",
    withKey("tokenizer.ggml.tokens", array("uint32", [1, 2, 3])),
    /tokenizer\.ggml\.tokens/,
  ],
  ["no merges", withKey("tokenizer.ggml.merges", null), /merges/],
  [
    "fewer tokens than embedding rows",
    withVocabulary(({ tokens, types, merges }) => {
      tokens.pop();
      types.pop();
      merges.pop();
    }),
    /token/,
  ],
  [
    "more tokens than embedding rows",
    withVocabulary(({ tokens, types }) => {
      tokens.push("<extra>");
      types.push(1);
    }),
    /token/,
  ],
  [
    "token types for some tokens only",
    withVocabulary(({ types }) => {
      types.pop();
    }),
    /token_type/,
  ],
  [
    "a merge without a space",
    withVocabulary(({ merges }) => {
      merges[5] = "nospace";
    }),
    /merge/,
  ],
  [
    "a merge of unknown tokens",
    withVocabulary(({ merges }) => {
      merges[5] = "zzz qqq";
    }),
    /zzz/,
  ],
  [
    "a repeated token",
    withVocabulary(({ tokens }) => {
      tokens[300] = tokens[10];
    }),
    /token/,
  ],
  [
    "no token for a byte",
    withVocabulary(({ tokens }) => {
      tokens[tokens.indexOf("q")] = "<unused>";
    }),
    /byte/,
  ],
  ["an end token beyond the vocabulary", withKey("tokenizer.ggml.eos_token_id", uint32(320)), /eos_token_id/],
  ["a BOS flag that is a number", withKey("tokenizer.ggml.add_bos_token", uint32(1)), /add_bos_token/],
];

/** The valid models that the rows differ from. */
export const validModels = [
  tinyLlama,
  () => tinyLlama({ tied: false }),
  () => tinyLlama({ feedForward: 256, metadata: { "tokenizer.ggml.add_bos_token": bool(true) } }),
];

/** Every row's `stage` is "model". */
export const badModels = [...architecture, ...sizes, ...attention, ...tensors, ...vocabulary].map(
  ([name, bytes, message, code = "CorruptFile"]) => ({ name, bytes, code, message, stage: "model" }),
);
