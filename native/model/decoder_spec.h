#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "io/gguf.h"
#include "ops/program.h"

namespace tokenmill {

/// Which block tables and which rotation a layer's attention uses.
struct LayerAttention {
  int group = 0;
  int rope = 0;
};

/// A decoder-only transformer as data: what a family's file (model/arch/) reads from metadata and
/// BuildProgram turns into operations. Shapes are checked against the tensors there.
struct DecoderSpec {
  int layers = 0;
  int width = 0;         // of the residual stream
  int ffn_width = 0;
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int context_length = 0;  // as trained
  float norm_epsilon = 0;
  Activation activation = Activation::kSilu;
  float embedding_scale = 1;
  float attention_scale = 0;
  float attention_softcap = 0;
  float logit_softcap = 0;
  bool qk_norm = false;     // attn_q_norm and attn_k_norm before the rotation
  bool post_norms = false;  // norms of attention's and MLP's output, before the residual is added
  std::vector<RopeTable> ropes;
  std::vector<KvGroup> kv_groups;  // BuildProgram counts the layers of each and leaves out those without
  std::vector<LayerAttention> attention;  // one a layer
};

/// Reads one family's metadata. CorruptFile or UnsupportedModel with the key at fault.
using ReadDecoderSpec = Result<DecoderSpec> (*)(const GgufFile& file);

/// Which rows of a matrix the files have in another order than checkpoints: within each head (2i, 2i + 1) rotate
/// together, where checkpoints have (i, i + head_dim / 2).
enum class PairedRows : uint8_t { kNone, kQueryHeads, kKeyHeads };

/// A layer's matrix, "blk.N.<tensor>.weight", and what checkpoints call its module, "model.layers.N.<module>".
struct ModuleName {
  const char* module;
  const char* tensor;
  PairedRows paired = PairedRows::kNone;
};

struct Architecture {
  const char* name;  // general.architecture
  ReadDecoderSpec read;
  std::span<const ModuleName> modules;  // that adapters can change, beside the head
};

/// The families that run: one row each.
const std::vector<Architecture>& Architectures();

/// The forward pass of a spec over the file's tensors. CorruptFile names a tensor that is absent or has
/// another shape; UnsupportedQuantization one whose type cannot run; UnsupportedModel one that would go unused.
Result<Program> BuildProgram(const DecoderSpec& spec, const GgufFile& file);

}  // namespace tokenmill
