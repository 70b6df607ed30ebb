import { float32, randomTensor, string, tinyLlama, uint32 } from "../unit/gguf/gguf-writer.mjs";
import { temporaryFile } from "./models.mjs";

const dim = 64;
const headDim = 16;

/** A gemma3 of tinyLlama's sizes; rotary bases are the same for both kinds of layers. */
export function tinyGemma3({ layers, pattern, window, context = 256, metadata = {} }) {
  const llama = (key, value) => ({ [`llama.${key}`]: null, [`gemma3.${key}`]: value });
  const norms = {};
  for (let layer = 0; layer < layers; layer++) {
    const add = (block, width) => {
      const name = `blk.${layer}.${block}.weight`;
      norms[name] = randomTensor(name, [width], { mean: 1, deviation: 0.1, seed: layer });
    };
    add("attn_q_norm", headDim);
    add("attn_k_norm", headDim);
    add("post_attention_norm", dim);
    add("post_ffw_norm", dim);
  }
  return temporaryFile(
    tinyLlama({
      layers,
      metadata: {
        "general.architecture": string("gemma3"),
        ...llama("block_count", uint32(layers)),
        ...llama("context_length", uint32(context)),
        ...llama("embedding_length", uint32(dim)),
        ...llama("feed_forward_length", uint32(192)),
        ...llama("attention.head_count", uint32(dim / headDim)),
        ...llama("attention.head_count_kv", uint32(2)),
        ...llama("attention.layer_norm_rms_epsilon", float32(1e-5)),
        ...llama("rope.freq_base", float32(10000)),
        "gemma3.rope.freq_base_swa": float32(10000),
        "gemma3.attention.sliding_window": uint32(window),
        "gemma3.attention.sliding_window_pattern": uint32(pattern),
        ...metadata,
      },
      tensors: norms,
    }),
  );
}
