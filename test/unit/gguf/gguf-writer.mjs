// Writes GGUF files for tests, bad ones too: nothing is checked, and every field can be set to anything.

import { tinyVocabulary } from "./tiny-vocabulary.mjs";

/** GGUF's numbers of metadata types. */
export const valueTypes = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
};

/** GGUF's numbers of the tensor types that tests use. */
export const tensorTypes = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ2_XS: 17,
  I32: 26,
  BF16: 30,
};

// Metadata values: `type` is a name or a number.
export const uint32 = (value) => ({ type: "uint32", value });
export const int32 = (value) => ({ type: "int32", value });
export const float32 = (value) => ({ type: "float32", value });
export const bool = (value) => ({ type: "bool", value: value ? 1 : 0 });
export const string = (value) => ({ type: "string", value });
export const array = (elementType, value) => ({ type: "array", elementType, value });

const numberOf = (type) => (typeof type === "number" ? type : valueTypes[type]);

function scalar(bytes, write) {
  const buffer = Buffer.alloc(bytes);
  write(buffer);
  return buffer;
}

export const u32 = (value) => scalar(4, (buffer) => buffer.writeUInt32LE(value));
export const u64 = (value) => scalar(8, (buffer) => buffer.writeBigUInt64LE(BigInt(value)));

/** A length and the bytes; `value` may be a Buffer of any bytes, or `{ length, text }` with a false length. */
export function text(value) {
  if (value !== null && typeof value === "object" && !Buffer.isBuffer(value)) {
    return Buffer.concat([u64(value.length), Buffer.from(value.text)]);
  }
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

const encoders = {
  uint8: (value) => scalar(1, (buffer) => buffer.writeUInt8(value)),
  int8: (value) => scalar(1, (buffer) => buffer.writeInt8(value)),
  uint16: (value) => scalar(2, (buffer) => buffer.writeUInt16LE(value)),
  int16: (value) => scalar(2, (buffer) => buffer.writeInt16LE(value)),
  uint32: u32,
  int32: (value) => scalar(4, (buffer) => buffer.writeInt32LE(value)),
  float32: (value) => scalar(4, (buffer) => buffer.writeFloatLE(value)),
  bool: (value) => scalar(1, (buffer) => buffer.writeUInt8(value)),
  string: text,
  uint64: u64,
  int64: (value) => scalar(8, (buffer) => buffer.writeBigInt64LE(BigInt(value))),
  float64: (value) => scalar(8, (buffer) => buffer.writeDoubleLE(value)),
};

/** The bytes of a value after its type. A Buffer as the value is written as it is. */
function encodeValue({ type, elementType, count, value }) {
  if (Buffer.isBuffer(value)) return value;
  if (type !== "array") return encoders[type](value);
  const elements = value.map((element) =>
    Buffer.isBuffer(element) && elementType !== "string" ? element : encoders[elementType](element),
  );
  return Buffer.concat([u32(numberOf(elementType)), u64(count ?? value.length), ...elements]);
}

const align = (size, alignment) => Math.ceil(size / alignment) * alignment;
const padded = (buffer, size) => Buffer.concat([buffer, Buffer.alloc(size - buffer.length)]);

/**
 * The bytes of a GGUF file.
 *
 * `metadata` is a list of [key, value]; `tensors` of { name, type, shape, data }, where `rank` and `offset` (in
 * the data) may be given to state something false. `tensorCount` and `metadataCount` default to the true ones.
 */
export function writeGguf({
  magic = "GGUF",
  version = 3,
  alignment = 32,
  metadata = [],
  tensors = [],
  tensorCount,
  metadataCount,
} = {}) {
  const parts = [
    Buffer.from(magic),
    u32(version),
    u64(tensorCount ?? tensors.length),
    u64(metadataCount ?? metadata.length),
  ];
  for (const [key, value] of metadata) parts.push(text(key), u32(numberOf(value.type)), encodeValue(value));
  const data = [];
  let dataBytes = 0;
  for (const tensor of tensors) {
    const type = typeof tensor.type === "number" ? tensor.type : tensorTypes[tensor.type];
    parts.push(
      text(tensor.name),
      u32(tensor.rank ?? tensor.shape.length),
      ...tensor.shape.map(u64),
      u32(type),
      u64(tensor.offset ?? dataBytes),
    );
    const isLast = tensor === tensors.at(-1);
    data.push(isLast ? tensor.data : padded(tensor.data, align(tensor.data.length, alignment)));
    dataBytes += data.at(-1).length;
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([
    padded(header, tensors.length > 0 ? align(header.length, alignment) : header.length),
    ...data,
  ]);
}

/** Numbers in [0, 1) that depend on the seed and their position alone. */
function random(seed, index) {
  let bits = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
}

/** An F32 tensor of uniform values with this mean and standard deviation; shape[0] is contiguous. */
export function randomTensor(name, shape, { seed = 0, mean = 0, deviation = 1 } = {}) {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float32Array.from(
    { length: count },
    (_, i) => mean + (random(seed, i) - 0.5) * deviation * Math.sqrt(12),
  );
  return { name, type: "F32", shape, data: Buffer.from(values.buffer) };
}

const chatTemplate =
  "{% for message in messages %}" +
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

function llamaMetadata({ layers, dim, feedForward, heads, kvHeads, context }, { tokens, types, merges }) {
  return new Map([
    ["general.architecture", string("llama")],
    ["general.name", string("tiny llama for tests")],
    ["llama.block_count", uint32(layers)],
    ["llama.context_length", uint32(context)],
    ["llama.embedding_length", uint32(dim)],
    ["llama.feed_forward_length", uint32(feedForward)],
    ["llama.attention.head_count", uint32(heads)],
    ["llama.attention.head_count_kv", uint32(kvHeads)],
    ["llama.attention.layer_norm_rms_epsilon", float32(1e-5)],
    ["llama.rope.freq_base", float32(10000)],
    ["llama.rope.dimension_count", uint32(dim / heads)],
    ["llama.vocab_size", uint32(tokens.length)],
    ["tokenizer.ggml.model", string("gpt2")],
    ["tokenizer.ggml.pre", string("smollm")],
    ["tokenizer.ggml.tokens", array("string", tokens)],
    ["tokenizer.ggml.token_type", array("int32", types)],
    ["tokenizer.ggml.merges", array("string", merges)],
    ["tokenizer.ggml.bos_token_id", uint32(1)],
    ["tokenizer.ggml.eos_token_id", uint32(2)],
    ["tokenizer.ggml.unknown_token_id", uint32(0)],
    ["tokenizer.ggml.padding_token_id", uint32(2)],
    ["tokenizer.ggml.add_bos_token", bool(false)],
    ["tokenizer.chat_template", string(chatTemplate)],
  ]);
}

function llamaTensors({ layers, dim, feedForward, heads, kvHeads, tied, seed }, vocabulary) {
  const kvDim = (dim / heads) * kvHeads;
  const shapes = [["token_embd.weight", [dim, vocabulary]]];
  for (let layer = 0; layer < layers; ++layer) {
    const block = (name, shape) => shapes.push([`blk.${layer}.${name}.weight`, shape]);
    block("attn_norm", [dim]);
    block("attn_q", [dim, dim]);
    block("attn_k", [dim, kvDim]);
    block("attn_v", [dim, kvDim]);
    block("attn_output", [dim, dim]);
    block("ffn_norm", [dim]);
    block("ffn_gate", [dim, feedForward]);
    block("ffn_up", [dim, feedForward]);
    block("ffn_down", [feedForward, dim]);
  }
  shapes.push(["output_norm.weight", [dim]]);
  if (!tied) shapes.push(["output.weight", [dim, vocabulary]]);
  return new Map(
    shapes.map(([name, shape], i) => {
      const isNorm = shape.length === 1;
      const spread = isNorm ? { mean: 1, deviation: 0.1 } : { deviation: 1 / Math.sqrt(shape[0]) };
      return [name, randomTensor(name, shape, { ...spread, seed: seed * 1000 + i })];
    }),
  );
}

/**
 * The file of a llama model with random F32 weights: 2 layers of width 64, feed-forward width 192, 4 heads of
 * 16 and 2 key-value heads, 320 tokens (byte-level BPE, ChatML template), context 256. The same options give the
 * same bytes.
 *
 * `metadata` and `tensors` replace entries by key or name (a tensor is { type, shape, data }); null removes one.
 */
export function tinyLlama({ metadata = {}, tensors = {}, ...sizes } = {}) {
  const shape = {
    layers: 2,
    dim: 64,
    feedForward: 192,
    heads: 4,
    kvHeads: 2,
    context: 256,
    tied: true,
    seed: 0,
    ...sizes,
  };
  const vocabulary = tinyVocabulary();
  const allMetadata = llamaMetadata(shape, vocabulary);
  const allTensors = llamaTensors(shape, vocabulary.tokens.length);
  for (const [key, value] of Object.entries(metadata)) {
    value === null ? allMetadata.delete(key) : allMetadata.set(key, value);
  }
  for (const [name, tensor] of Object.entries(tensors)) {
    tensor === null ? allTensors.delete(name) : allTensors.set(name, { name, ...tensor });
  }
  return writeGguf({ metadata: [...allMetadata], tensors: [...allTensors.values()] });
}
