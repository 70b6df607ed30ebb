// Models whose layers see differently far: every pattern of windowed layers runs, also one without a kind.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { temporaryFile } from "../support/models.mjs";
import { float32, randomTensor, string, tinyLlama, uint32 } from "../unit/gguf/gguf-writer.mjs";

const dim = 64;
const headDim = 16;

/** A gemma3 of tinyLlama's sizes; rotary bases are the same for both kinds of layers. */
function tinyGemma3({ layers, pattern, window, context = 256 }) {
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
      },
      tensors: norms,
    }),
  );
}

async function score(options) {
  const model = await loadModel(tinyGemma3(options));
  const tokens = Array.from({ length: 60 }, (_, i) => (i * 37) % 256);
  const { logprobs } = await model.score(tokens);
  await model.dispose();
  return logprobs.slice(1);
}

test("layers that all see everything, all have a window, or are mixed", async () => {
  const everything = await score({ layers: 3, pattern: 1, window: 32 });
  assert.ok(everything.every(Number.isFinite));
  assert.deepEqual(await score({ layers: 3, pattern: 6, window: 256 }), everything);
  assert.deepEqual(await score({ layers: 3, pattern: 2, window: 256 }), everything);
  assert.notDeepEqual(await score({ layers: 3, pattern: 6, window: 32 }), everything);
});
