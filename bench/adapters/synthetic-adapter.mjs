// Adapters of a model's shapes with random factors, as PEFT saves them.
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { native } = createRequire(import.meta.url)("../../dist/native.js");

/** What checkpoints call the matrices that GGUF files call "blk.N.NAME.weight". */
const modules = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/** The linear layers of a GGUF file: { module, rows, cols }. */
export function linearLayers(path) {
  const layers = [];
  for (const { name, shape } of native().inspectGguf(path).tensors) {
    const [, layer, matrix] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    if (matrix === undefined || !Object.hasOwn(modules, matrix)) continue;
    layers.push({ module: `model.layers.${layer}.${modules[matrix]}`, rows: shape[1], cols: shape[0] });
  }
  return layers;
}

/** Small f16 numbers, about 1/256 to 1/64 with either sign, that a seed determines. */
function randomHalves(count, next) {
  return Uint16Array.from({ length: count }, () => {
    const random = next();
    return 0x1c00 + (random & 0x0bff) + (random & 0x8000);
  });
}

/**
 * Writes an adapter of this rank on these layers; the same seed gives the same. What it adds is far below what the
 * model computes, unless `alpha` is large. Returns its folder.
 */
export function writeAdapter(folder, layers, { rank, seed, alpha = rank / 64 }) {
  let state = (Math.imul(seed + 1, 2654435761) ^ 0x9e3779b9) >>> 0;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 8) & 0xffff;
  };
  const header = {};
  const parts = [];
  let end = 0;
  const add = (name, shape) => {
    const data = randomHalves(shape[0] * shape[1], next);
    header[name] = { dtype: "F16", shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
    parts.push(Buffer.from(data.buffer));
  };
  for (const { module, rows, cols } of layers) {
    add(`base_model.model.${module}.lora_A.weight`, [rank, cols]);
    add(`base_model.model.${module}.lora_B.weight`, [rows, rank]);
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "adapter_model.safetensors"), Buffer.concat([length, text, ...parts]));
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    r: rank,
    lora_alpha: alpha,
    target_modules: Object.values(modules).map((name) => name.split(".")[1]),
  };
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  return folder;
}
