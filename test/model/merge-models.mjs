// A model whose rows hold blocks of all types, and an adapter of it.
import { join } from "node:path";
import { quantizeModel } from "../../dist/index.mjs";
import { adapterFolder, factorsOf, layOut, peftConfig, safetensors } from "../support/adapters.mjs";
import { tinyModel } from "../support/models.mjs";

export async function quantizedModel(scratch) {
  const f32 = tinyModel({ dim: 256, feedForward: 512, heads: 8 });
  const q8 = join(scratch, "merge-base-q8.gguf");
  await quantizeModel(f32, q8, { type: "Q8_0" });
  const shapes = {};
  for (const layer of [0, 1]) {
    shapes[`model.layers.${layer}.self_attn.q_proj`] = [256, 256];
    shapes[`model.layers.${layer}.self_attn.v_proj`] = [64, 256];
    shapes[`model.layers.${layer}.mlp.down_proj`] = [256, 512];
  }
  const { header, data } = layOut(factorsOf(shapes, 16));
  const adapter = adapterFolder(scratch, {
    config: peftConfig({ r: 16, lora_alpha: 16 }),
    weights: safetensors(header, data),
  });
  return { adapter, base: (type) => (type === "F32" ? f32 : q8) };
}
