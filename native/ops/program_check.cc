#include "ops/program_check.h"

namespace tokenmill {
namespace {

// Far beyond any model: products of two such numbers are computed in 64 bits.
constexpr int64_t kMaxExtent = int64_t{1} << 26;

bool IsExtent(int64_t size) { return size > 0 && size <= kMaxExtent; }

class ProgramChecker {
 public:
  explicit ProgramChecker(const Program& program) : program_(program) {}

  bool Check() {
    Expect(program_.kv_groups.size() <= kMaxKvGroups);
    for (const KvGroup& group : program_.kv_groups)
      Expect(IsExtent(group.layers) && group.window >= 0);
    for (const KvLayer& layer : program_.kv_layers) CheckLayer(layer);
    for (const ValueDesc& value : program_.values) Expect(IsExtent(value.width));
    for (const WeightDesc& weight : program_.weights) CheckWeight(weight);
    for (const RopeTable& table : program_.ropes) {
      Expect(table.dims >= 0 && table.dims % 2 == 0 &&
             table.frequencies.size() == static_cast<size_t>(table.dims) / 2);
    }
    for (const Op& op : program_.ops) {
      std::visit([this](const auto& concrete) { CheckOp(concrete); }, op);
    }
    Expect(heads_ <= 1);
    return ok_;
  }

 private:
  void Expect(bool condition) { ok_ = ok_ && condition; }

  void CheckWeight(const WeightDesc& desc) {
    Expect(IsExtent(desc.rows) && IsExtent(desc.cols));
    Expect(desc.cols % InfoOf(desc.dtype).block_elements == 0);
  }

  // -1 for a value that does not exist.
  int Width(ValueId value) {
    const bool exists = value >= 0 && static_cast<size_t>(value) < program_.values.size();
    Expect(exists);
    return exists ? program_.values[static_cast<size_t>(value)].width : -1;
  }

  void CheckMatrix(WeightId weight, int rows, int cols) {
    Expect(weight >= 0 && static_cast<size_t>(weight) < program_.weights.size());
    if (!ok_) return;
    const WeightDesc& desc = program_.weights[static_cast<size_t>(weight)];
    Expect(desc.rows == rows && desc.cols == cols && InfoOf(desc.dtype).runs && rows > 0 && cols > 0);
  }

  void CheckVector(WeightId weight, int width) {
    if (weight != kNone) CheckMatrix(weight, 1, width);
  }

  void CheckLayer(const KvLayer& layer) {
    const bool exists = layer.group >= 0 && static_cast<size_t>(layer.group) < program_.kv_groups.size();
    Expect(exists && layer.index >= 0 &&
           layer.index < program_.kv_groups[static_cast<size_t>(layer.group)].layers);
    Expect(IsExtent(layer.kv_heads) && IsExtent(layer.head_dim) && IsExtent(layer.query_heads));
    Expect(layer.kv_heads > 0 && layer.query_heads % layer.kv_heads == 0);
  }

  const KvLayer* Layer(int index) {
    const bool exists = index >= 0 && static_cast<size_t>(index) < program_.kv_layers.size();
    Expect(exists);
    return exists ? &program_.kv_layers[static_cast<size_t>(index)] : nullptr;
  }

  void CheckHeads(ValueId value, int heads, int head_dim) {
    Expect(Width(value) == int64_t{heads} * head_dim);
  }

  void CheckOp(const Embed& op) { CheckMatrix(op.table, program_.vocabulary, Width(op.out)); }

  void CheckOp(const NormProject& op) {
    const int width = Width(op.in);
    CheckVector(op.norm.weight, width);
    for (const Projection& projection : op.projections) {
      CheckMatrix(projection.matrix, Width(projection.out), width);
      CheckVector(projection.bias, Width(projection.out));
    }
  }

  void CheckOp(const RopeWriteKv& op) {
    const KvLayer* layer = Layer(op.kv_layer);
    if (layer == nullptr) return;
    CheckHeads(op.q, layer->query_heads, layer->head_dim);
    CheckHeads(op.k, layer->kv_heads, layer->head_dim);
    CheckHeads(op.v, layer->kv_heads, layer->head_dim);
    CheckVector(op.q_norm.weight, layer->head_dim);
    CheckVector(op.k_norm.weight, layer->head_dim);
    const bool exists = op.rope >= 0 && static_cast<size_t>(op.rope) < program_.ropes.size();
    Expect(exists && program_.ropes[static_cast<size_t>(op.rope)].dims <= layer->head_dim);
  }

  void CheckOp(const PagedAttention& op) {
    const KvLayer* layer = Layer(op.kv_layer);
    if (layer == nullptr) return;
    CheckHeads(op.q, layer->query_heads, layer->head_dim);
    CheckHeads(op.out, layer->query_heads, layer->head_dim);
  }

  void CheckOp(const ProjectAdd& op) {
    CheckMatrix(op.matrix, Width(op.residual), Width(op.in));
    CheckVector(op.bias, Width(op.residual));
    CheckVector(op.post_norm.weight, Width(op.residual));
  }

  void CheckOp(const GatedMlp& op) {
    CheckVector(op.norm.weight, Width(op.in));
    CheckMatrix(op.gate, Width(op.out), Width(op.in));
    CheckMatrix(op.up, Width(op.out), Width(op.in));
  }

  void CheckOp(const Head& op) {
    ++heads_;
    Expect(op.norm.weight != kNone);
    CheckVector(op.norm.weight, Width(op.in));
    CheckMatrix(op.matrix, program_.vocabulary, Width(op.in));
  }

  const Program& program_;
  int heads_ = 0;
  bool ok_ = true;
};

}  // namespace

Status CheckProgram(const Program& program) {
  if (ProgramChecker(program).Check()) return {};
  return Error(Code::kInternal, "the operations of the program do not fit together");
}

}  // namespace tokenmill
