// Writes GGUF models of real shapes with random weights: speed depends on shapes and types alone, and such a file
// can be had where the real model cannot. What it says is noise.
import { open } from "node:fs/promises";
import { halfOf } from "./half.mjs";

export const shapes = {
  "llama-1b": {
    layers: 16,
    width: 2048,
    hidden: 8192,
    heads: 32,
    kvHeads: 8,
    headLength: 64,
    vocabulary: 128256,
    context: 131072,
  },
  tiny: {
    layers: 2,
    width: 256,
    hidden: 512,
    heads: 8,
    kvHeads: 4,
    headLength: 32,
    vocabulary: 512,
    context: 1024,
  },
};

/** Type number, file type, elements and bytes of a block; `scaled` blocks start with a scale in f16. */
const formats = {
  F32: { id: 0, fileType: 0, elements: 1, bytes: 4 },
  F16: { id: 1, fileType: 1, elements: 1, bytes: 2 },
  Q4_0: { id: 2, fileType: 2, elements: 32, bytes: 18, deviation: 4.61 },
  Q8_0: { id: 8, fileType: 7, elements: 32, bytes: 34, deviation: 73.9 },
  BF16: { id: 30, fileType: 32, elements: 1, bytes: 2 },
};

const alignment = 32;
const fillBytes = 1 << 20;

class Header {
  #parts = [];

  bytes() {
    return Buffer.concat(this.#parts);
  }

  u32(value) {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    this.#parts.push(part);
  }

  u64(value) {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    this.#parts.push(part);
  }

  f32(value) {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    this.#parts.push(part);
  }

  string(text) {
    const part = Buffer.from(text, "utf8");
    this.u64(part.length);
    this.#parts.push(part);
  }

  array(type, values) {
    this.u32(9);
    this.u32(type);
    this.u64(values.length);
    for (const value of values) this.#plain(type, value);
  }

  /** A key with a whole number, `{ f32 }`, a text, or an array of numbers or texts. */
  entry(key, value) {
    this.string(key);
    if (Array.isArray(value)) return this.array(typeof value[0] === "string" ? 8 : 5, value);
    const isFloat = value.f32 !== undefined;
    const type = typeof value === "string" ? 8 : isFloat ? 6 : 4;
    this.u32(type);
    if (isFloat) this.f32(value.f32);
    else this.#plain(type, value);
  }

  #plain(type, value) {
    if (type === 8) this.string(value);
    else this.u32(value);
  }
}

/** The characters that byte-level BPE writes bytes with: the printable ones stand for themselves. */
function byteCharacters() {
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : 256 + others++),
  );
}

/** Every byte is a token, the rest are control tokens that no text gives. */
function vocabularyEntries(size) {
  const bytes = byteCharacters();
  const fillers = Array.from({ length: size - 258 }, (_, i) => `<unused_${i}>`);
  const [normal, control, unused] = [1, 3, 4];
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": [...bytes, ...fillers, "<begin>", "<end>"],
    "tokenizer.ggml.token_type": [...bytes.map(() => normal), ...fillers.map(() => unused), control, control],
    "tokenizer.ggml.merges": [`${bytes[32]} ${bytes[97]}`],
    "tokenizer.ggml.bos_token_id": size - 2,
    "tokenizer.ggml.eos_token_id": size - 1,
  };
}

function metadataOf(name, shape, type) {
  return {
    "general.architecture": "llama",
    "general.name": `synthetic ${name}`,
    "general.file_type": formats[type].fileType,
    "general.alignment": alignment,
    "llama.block_count": shape.layers,
    "llama.context_length": shape.context,
    "llama.embedding_length": shape.width,
    "llama.feed_forward_length": shape.hidden,
    "llama.attention.head_count": shape.heads,
    "llama.attention.head_count_kv": shape.kvHeads,
    "llama.attention.key_length": shape.headLength,
    "llama.attention.value_length": shape.headLength,
    "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
    "llama.rope.dimension_count": shape.headLength,
    "llama.rope.freq_base": { f32: 500000 },
    "llama.vocab_size": shape.vocabulary,
    ...vocabularyEntries(shape.vocabulary),
  };
}

/** Tensors as [name, type, columns, rows]; vectors have no rows. */
function tensorsOf({ layers, width, hidden, heads, kvHeads, headLength, vocabulary }, type) {
  const block = (i) => [
    [`blk.${i}.attn_norm.weight`, "F32", width],
    [`blk.${i}.attn_q.weight`, type, width, heads * headLength],
    [`blk.${i}.attn_k.weight`, type, width, kvHeads * headLength],
    [`blk.${i}.attn_v.weight`, type, width, kvHeads * headLength],
    [`blk.${i}.attn_output.weight`, type, heads * headLength, width],
    [`blk.${i}.ffn_norm.weight`, "F32", width],
    [`blk.${i}.ffn_gate.weight`, type, width, hidden],
    [`blk.${i}.ffn_up.weight`, type, width, hidden],
    [`blk.${i}.ffn_down.weight`, type, hidden, width],
  ];
  const blocks = Array.from({ length: layers }, (_, i) => block(i)).flat();
  return [
    ["token_embd.weight", type, width, vocabulary],
    ...blocks,
    ["output_norm.weight", "F32", width],
  ].map(([name, format, columns, rows]) => {
    const { elements, bytes } = formats[format];
    return { name, format, columns, rows, bytes: ((columns * (rows ?? 1)) / elements) * bytes };
  });
}

/** Numbers below 2^32, the same for the same seed. */
function randomWords(seed) {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}

/** Whole blocks of random weights whose deviation keeps activations of `columns` inputs near 1. */
function fillerOf(format, columns) {
  const { bytes, deviation } = formats[format];
  const filler = Buffer.alloc(Math.floor(fillBytes / bytes) * bytes);
  const wanted = 0.7 / Math.sqrt(columns);
  const next = randomWords(columns);
  if (deviation !== undefined) {
    for (let at = 0; at + 4 <= filler.length; at += 4) filler.writeUInt32LE(next(), at);
    const scale = halfOf(wanted / deviation);
    for (let at = 0; at < filler.length; at += bytes) filler.writeUInt16LE(scale, at);
    return filler;
  }
  for (let at = 0; at < filler.length; at += bytes) {
    const value = (next() / 2 ** 31 - 1) * wanted * Math.sqrt(3);
    if (format === "F32") filler.writeFloatLE(value, at);
    else if (format === "F16") filler.writeUInt16LE(halfOf(value), at);
    else filler.writeUInt16LE(new Uint32Array(Float32Array.of(value).buffer)[0] >>> 16, at);
  }
  return filler;
}

const aligned = (offset) => Math.ceil(offset / alignment) * alignment;

function headerOf(name, shape, type, tensors) {
  const header = new Header();
  const metadata = Object.entries(metadataOf(name, shape, type));
  header.u32(0x46554747); // "GGUF"
  header.u32(3);
  header.u64(tensors.length);
  header.u64(metadata.length);
  for (const [key, value] of metadata) header.entry(key, value);
  let offset = 0;
  for (const { name: tensor, format, columns, rows, bytes } of tensors) {
    header.string(tensor);
    const sizes = rows === undefined ? [columns] : [columns, rows];
    header.u32(sizes.length);
    for (const size of sizes) header.u64(size);
    header.u32(formats[format].id);
    header.u64(offset);
    offset = aligned(offset + bytes);
  }
  return header.bytes();
}

/** Vectors are norms: ones. Matrices repeat one megabyte of random blocks. */
function contentOf({ format, columns, rows }) {
  if (rows === undefined) return Buffer.from(new Float32Array(columns).fill(1).buffer);
  return fillerOf(format, columns);
}

/**
 * Writes a model with a shape of `shapes` and matrices of one type: F16, BF16, Q4_0 or Q8_0.
 * @param {string} path
 * @param {keyof typeof shapes} name
 * @param {"F16" | "BF16" | "Q4_0" | "Q8_0"} type
 */
export async function writeSyntheticModel(path, name, type) {
  const shape = shapes[name];
  const tensors = tensorsOf(shape, type);
  const header = headerOf(name, shape, type, tensors);
  const padding = (length) => Buffer.alloc(aligned(length) - length);
  const file = await open(path, "w");
  try {
    await file.writeFile(Buffer.concat([header, padding(header.length)]));
    for (const tensor of tensors) {
      const content = contentOf(tensor);
      for (let left = tensor.bytes; left > 0; left -= content.length) {
        await file.writeFile(left < content.length ? content.subarray(0, left) : content);
      }
      await file.writeFile(padding(tensor.bytes));
    }
  } finally {
    await file.close();
  }
}
