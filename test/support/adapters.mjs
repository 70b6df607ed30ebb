// Writes adapters for tests, bad ones too: every field can be set to anything.
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomTensor } from "../unit/gguf/gguf-writer.mjs";

/** A header's length and text before the data. */
export function safetensors(header, data, length) {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(length ?? text.length));
  return Buffer.concat([size, text, data]);
}

/** Matrices ({ name, dtype, shape, data }) one after the other: { header, data }. */
export function layOut(tensors) {
  const header = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.length] };
    at += data.length;
  }
  return { header, data: Buffer.concat(tensors.map(({ data }) => data)) };
}

/** An F32 factor of random values. */
export function factor(module, side, rows, cols, seed) {
  const name = `base_model.model.${module}.lora_${side}.weight`;
  const { data } = randomTensor(name, [cols, rows], { seed, deviation: 1 / Math.sqrt(cols) });
  return { name, dtype: "F32", shape: [rows, cols], data };
}

/** The factors of modules: { [module]: [rows, cols] }. */
export function factorsOf(shapes, rank) {
  return Object.entries(shapes).flatMap(([module, [rows, cols]], i) => [
    factor(module, "A", rank, cols, 2 * i),
    factor(module, "B", rows, rank, 2 * i + 1),
  ]);
}

/** What PEFT writes of a plain LoRA adapter. */
export function peftConfig(settings = {}) {
  return {
    ...{ peft_type: "LORA", base_model_name_or_path: "example/tiny", bias: "none", fan_in_fan_out: false },
    ...{ r: 4, lora_alpha: 8, rank_pattern: {}, alpha_pattern: {}, use_rslora: false, use_dora: false },
    ...{ init_lora_weights: true, modules_to_save: null, target_modules: ["q_proj", "v_proj", "down_proj"] },
    ...settings,
  };
}

/** A folder with these files; undefined leaves one out. */
export function adapterFolder(parent, { config, weights, others = {} }) {
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, "adapter-"));
  const files = { "adapter_config.json": config, "adapter_model.safetensors": weights, ...others };
  for (const [name, content] of Object.entries(files)) {
    if (content === undefined) continue;
    const isBytes = typeof content === "string" || Buffer.isBuffer(content);
    writeFileSync(join(folder, name), isBytes ? content : JSON.stringify(content));
  }
  return folder;
}
