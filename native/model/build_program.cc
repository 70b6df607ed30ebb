#include <set>
#include <string_view>
#include <unordered_map>

#include "model/decoder_spec.h"

namespace tokenmill {
namespace {

// Records a decoder's operations; the first failure sticks and is returned at the end.
class ProgramBuilder {
 public:
  ProgramBuilder(const DecoderSpec& spec, const GgufFile& file) : spec_(spec), file_(file) {}

  Result<Program> Build() {
    program_.ropes = spec_.ropes;
    const GgufTensor* embedding = file_.FindTensor("token_embd.weight");
    if (embedding == nullptr) return Missing("token_embd.weight");
    if (embedding->shape[1] == 0 || embedding->shape[1] > (1u << 24)) {
      return Error(Code::kCorruptFile, "tensor 'token_embd.weight' has %llu rows; expected 1 to %u",
                   static_cast<unsigned long long>(embedding->shape[1]), 1u << 24);
    }
    program_.vocabulary = static_cast<int>(embedding->shape[1]);
    residual_ = Value(spec_.width);
    q_ = Value(spec_.query_heads * spec_.head_dim);
    k_ = Value(spec_.kv_heads * spec_.head_dim);
    v_ = Value(spec_.kv_heads * spec_.head_dim);
    attended_ = Value(spec_.query_heads * spec_.head_dim);
    hidden_ = Value(spec_.ffn_width);

    const WeightId table = Weight("token_embd.weight", program_.vocabulary, spec_.width);
    program_.ops.push_back(Embed{table, spec_.embedding_scale, residual_});
    for (int layer = 0; layer < spec_.layers && failure_.ok(); ++layer) AddLayer(layer);
    const WeightId head = file_.FindTensor("output.weight") == nullptr
                              ? table
                              : Weight("output.weight", program_.vocabulary, spec_.width);
    program_.ops.push_back(
        Head{residual_, NormOf("output_norm.weight", spec_.width), head, spec_.logit_softcap});
    if (!failure_.ok()) return failure_;
    TM_RETURN_IF_ERROR(CheckAllTaken());
    return std::move(program_);
  }

 private:
  void AddLayer(int layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const LayerAttention attention = spec_.attention[static_cast<size_t>(layer)];
    const int group = GroupOf(attention);
    const int index = program_.kv_groups[static_cast<size_t>(group)].layers++;
    const int kv_layer = static_cast<int>(program_.kv_layers.size());
    program_.kv_layers.push_back({group, index, spec_.query_heads, spec_.kv_heads, spec_.head_dim});
    const int q_width = spec_.query_heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;

    program_.ops.push_back(NormProject{residual_,
                                       NormOf(prefix + "attn_norm.weight", spec_.width),
                                       {Project(prefix + "attn_q", q_width, spec_.width, q_),
                                        Project(prefix + "attn_k", kv_width, spec_.width, k_),
                                        Project(prefix + "attn_v", kv_width, spec_.width, v_)}});
    RopeWriteKv rope{q_, k_, v_, {}, {}, attention.rope, kv_layer};
    if (spec_.qk_norm) {
      rope.q_norm = NormOf(prefix + "attn_q_norm.weight", spec_.head_dim);
      rope.k_norm = NormOf(prefix + "attn_k_norm.weight", spec_.head_dim);
    }
    program_.ops.push_back(rope);
    program_.ops.push_back(
        PagedAttention{q_, attended_, kv_layer, spec_.attention_scale, spec_.attention_softcap});
    AddProjectAdd(prefix + "attn_output", attended_, q_width, prefix + "post_attention_norm.weight");
    program_.ops.push_back(GatedMlp{residual_, NormOf(prefix + "ffn_norm.weight", spec_.width),
                                    Weight(prefix + "ffn_gate.weight", spec_.ffn_width, spec_.width),
                                    Weight(prefix + "ffn_up.weight", spec_.ffn_width, spec_.width),
                                    spec_.activation, hidden_});
    AddProjectAdd(prefix + "ffn_down", hidden_, spec_.ffn_width, prefix + "post_ffw_norm.weight");
  }

  // The program's group for a layer, made at its first: one that no layer is in would have empty pages.
  int GroupOf(const LayerAttention& attention) {
    const int next = static_cast<int>(program_.kv_groups.size());
    const auto [found, added] = groups_.try_emplace(attention.group, next);
    if (added) program_.kv_groups.push_back(spec_.kv_groups[static_cast<size_t>(attention.group)]);
    return found->second;
  }

  void AddProjectAdd(const std::string& name, ValueId in, int in_width, const std::string& post_norm) {
    const Projection projection = Project(name, spec_.width, in_width, kNone);
    const Norm norm = spec_.post_norms ? NormOf(post_norm, spec_.width) : Norm{};
    program_.ops.push_back(ProjectAdd{in, projection.matrix, projection.bias, norm, residual_});
  }

  ValueId Value(int width) {
    program_.values.push_back({width});
    return static_cast<ValueId>(program_.values.size()) - 1;
  }

  Projection Project(const std::string& name, int rows, int cols, ValueId out) {
    const std::string bias = name + ".bias";
    return {Weight(name + ".weight", rows, cols),
            file_.FindTensor(bias) == nullptr ? kNone : Weight(bias, 1, rows), out};
  }

  Norm NormOf(const std::string& name, int width) { return {Weight(name, 1, width), spec_.norm_epsilon}; }

  // A weight that the family does not know would be missing from the results.
  Status CheckAllTaken() const {
    std::set<std::string_view> taken;
    for (const WeightDesc& weight : program_.weights) taken.insert(weight.name);
    for (const GgufTensor& tensor : file_.tensors()) {
      const bool counts = tensor.name.starts_with("blk.") || tensor.name.starts_with("output");
      if (!counts || taken.contains(tensor.name)) continue;
      return Error(Code::kUnsupportedModel,
                   "tensor '%s' has no place in this architecture yet; results without it would be wrong",
                   tensor.name.c_str());
    }
    return {};
  }

  Status Missing(const std::string& name) const {
    return Error(Code::kCorruptFile, "tensor '%s' is missing", name.c_str());
  }

  WeightId Weight(const std::string& name, int64_t rows, int64_t cols) {
    const GgufTensor* tensor = file_.FindTensor(name);
    if (tensor == nullptr) return Fail(Missing(name));
    const uint64_t planes = tensor->shape[2] * tensor->shape[3];
    if (tensor->shape[0] != static_cast<uint64_t>(cols) || tensor->shape[1] != static_cast<uint64_t>(rows) ||
        planes != 1) {
      return Fail(Error(Code::kCorruptFile, "tensor '%s' has shape [%llu, %llu, %llu]; expected [%lld, %lld]",
                        name.c_str(), static_cast<unsigned long long>(tensor->shape[0]),
                        static_cast<unsigned long long>(tensor->shape[1]),
                        static_cast<unsigned long long>(planes), static_cast<long long>(cols),
                        static_cast<long long>(rows)));
    }
    if (!InfoOf(tensor->dtype).runs) {
      return Fail(
          Error(Code::kUnsupportedQuantization,
                "tensor '%s' has type %s, which cannot run yet; use a file in Q4_K_M, Q8_0, F16 or the like",
                name.c_str(), InfoOf(tensor->dtype).name));
    }
    program_.weights.push_back({name, tensor->dtype, rows, cols});
    return static_cast<WeightId>(program_.weights.size()) - 1;
  }

  WeightId Fail(Status status) {
    if (failure_.ok()) failure_ = std::move(status);
    return 0;
  }

  const DecoderSpec& spec_;
  const GgufFile& file_;
  Program program_;
  std::unordered_map<int, int> groups_;  // of the spec to the program's
  Status failure_;
  ValueId residual_ = kNone, q_ = kNone, k_ = kNone, v_ = kNone, attended_ = kNone, hidden_ = kNone;
};

}  // namespace

Result<Program> BuildProgram(const DecoderSpec& spec, const GgufFile& file) {
  return ProgramBuilder(spec, file).Build();
}

}  // namespace tokenmill
