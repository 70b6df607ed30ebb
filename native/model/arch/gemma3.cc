// Gemma 3 (text): norms before and after each block, q/k norm, GeGLU, five layers with a sliding window to one
// that sees everything, with a rotary base each, embeddings scaled by sqrt(width). The files store norm weights
// with the 1 that the architecture adds.

#include <cmath>

#include "model/arch/arch.h"
#include "model/metadata.h"

namespace tokenmill {
namespace {

constexpr int kFull = 0, kWindow = 1;  // indices of groups and ropes alike
constexpr int kLayersOf27B = 62;  // the one size whose queries scale by width / heads

constexpr ModuleName kModules[] = {
    {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

}  // namespace

std::span<const ModuleName> Gemma3Modules() { return kModules; }

Result<DecoderSpec> ReadGemma3Spec(const GgufFile& file) {
  const Metadata metadata(file, "gemma3");
  TM_ASSIGN_OR_RETURN(DecoderSpec spec, ReadCommonSpec(metadata));
  spec.activation = Activation::kGeluTanh;
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.width));
  spec.qk_norm = true;
  spec.post_norms = true;
  if (spec.layers == kLayersOf27B) {
    spec.attention_scale =
        1.0f / std::sqrt(static_cast<float>(spec.width) / static_cast<float>(spec.query_heads));
  }
  TM_ASSIGN_OR_RETURN(spec.logit_softcap, metadata.Float("final_logit_softcapping", 0, 1e6, 0));
  TM_ASSIGN_OR_RETURN(const float base, metadata.Float("rope.freq_base", 1, 1e12, 1e6));
  TM_ASSIGN_OR_RETURN(const float window_base, metadata.Float("rope.freq_base_swa", 1, 1e12, 1e4));
  TM_ASSIGN_OR_RETURN(const float factor, ReadLinearRopeFactor(metadata));
  TM_ASSIGN_OR_RETURN(RopeTable full, MakeRope(file, RopeStyle::kHalves, spec.head_dim, base, factor));
  TM_ASSIGN_OR_RETURN(RopeTable windowed, MakeRope(file, RopeStyle::kHalves, spec.head_dim, window_base, 1));
  spec.ropes = {std::move(full), std::move(windowed)};
  TM_ASSIGN_OR_RETURN(const int window, metadata.Int("attention.sliding_window", 1, 1 << 24));
  TM_ASSIGN_OR_RETURN(const int pattern, metadata.Int("attention.sliding_window_pattern", 1, 1024, 6));
  spec.kv_groups = {KvGroup{}, KvGroup{window, 0}};
  for (int layer = 0; layer < spec.layers; ++layer) {
    const int kind = (layer + 1) % pattern == 0 ? kFull : kWindow;
    spec.attention[static_cast<size_t>(layer)] = {kind, kind};
  }
  return spec;
}

}  // namespace tokenmill
