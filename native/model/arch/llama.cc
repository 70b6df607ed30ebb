// LLaMA 2 and 3, Mistral, SmolLM: RMS norms before each block, SwiGLU, rotation of neighbouring elements (the
// converters permute q and k for it).

#include "model/arch/arch.h"
#include "model/metadata.h"

namespace tokenmill {
namespace {

constexpr ModuleName kModules[] = {
    {"self_attn.q_proj", "attn_q", PairedRows::kQueryHeads},
    {"self_attn.k_proj", "attn_k", PairedRows::kKeyHeads},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

}  // namespace

std::span<const ModuleName> LlamaModules() { return kModules; }

Result<DecoderSpec> ReadLlamaSpec(const GgufFile& file) {
  const Metadata metadata(file, "llama");
  TM_ASSIGN_OR_RETURN(DecoderSpec spec, ReadCommonSpec(metadata));
  TM_ASSIGN_OR_RETURN(const int dims, metadata.Int("rope.dimension_count", 2, spec.head_dim, spec.head_dim));
  if (dims % 2 != 0) {
    return Error(Code::kCorruptFile, "'%s' is %d; rotary embedding needs pairs",
                 metadata.Key("rope.dimension_count").c_str(), dims);
  }
  TM_ASSIGN_OR_RETURN(const float base, metadata.Float("rope.freq_base", 1, 1e12, 10000));
  TM_ASSIGN_OR_RETURN(const float factor, ReadLinearRopeFactor(metadata));
  TM_ASSIGN_OR_RETURN(RopeTable rope, MakeRope(file, RopeStyle::kInterleaved, dims, base, factor));
  spec.ropes.push_back(std::move(rope));
  TM_ASSIGN_OR_RETURN(spec.kv_groups[0].window, metadata.Int("attention.sliding_window", 0, 1 << 24, 0));
  return spec;
}

}  // namespace tokenmill
