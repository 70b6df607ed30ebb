#include "kernels/cpu/check.h"

#include "kernels/cpu/adapter.h"

namespace tokenmill::cpu {
namespace {

class ProgramChecker {
 public:
  explicit ProgramChecker(const Program& program) : program_(program) {}

  bool Check() {
    Expect(program_.kv_groups.size() <= kMaxKvGroups);
    for (const KvGroup& group : program_.kv_groups) Expect(group.layers > 0 && group.window >= 0);
    for (const KvLayer& layer : program_.kv_layers) CheckLayer(layer);
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
    Expect(layer.group >= 0 && static_cast<size_t>(layer.group) < program_.kv_groups.size());
    Expect(layer.kv_heads > 0 && layer.head_dim > 0 && layer.query_heads > 0);
    Expect(layer.kv_heads > 0 && layer.query_heads % layer.kv_heads == 0);
  }

  const KvLayer* Layer(int index) {
    const bool exists = index >= 0 && static_cast<size_t>(index) < program_.kv_layers.size();
    Expect(exists);
    return exists ? &program_.kv_layers[static_cast<size_t>(index)] : nullptr;
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
    Expect(Width(op.q) == layer->query_heads * layer->head_dim);
    Expect(Width(op.k) == layer->kv_heads * layer->head_dim);
    Expect(Width(op.v) == layer->kv_heads * layer->head_dim);
    CheckVector(op.q_norm.weight, layer->head_dim);
    CheckVector(op.k_norm.weight, layer->head_dim);
    const bool exists = op.rope >= 0 && static_cast<size_t>(op.rope) < program_.ropes.size();
    Expect(exists && program_.ropes[static_cast<size_t>(op.rope)].dims <= layer->head_dim);
  }

  void CheckOp(const PagedAttention& op) {
    const KvLayer* layer = Layer(op.kv_layer);
    if (layer == nullptr) return;
    Expect(Width(op.q) == layer->query_heads * layer->head_dim);
    Expect(Width(op.out) == layer->query_heads * layer->head_dim);
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

// Each adapter of the executor with this program, and once.
bool AdaptersFit(const Program& program, std::span<const AdapterUse> uses) {
  for (size_t i = 0; i < uses.size(); ++i) {
    const auto* adapter = dynamic_cast<const CpuAdapter*>(uses[i].adapter);
    if (adapter == nullptr || adapter->program() != &program) return false;
    for (size_t j = 0; j < i; ++j) {
      if (uses[j].adapter == uses[i].adapter) return false;
    }
  }
  return true;
}

Status BadStep(const char* what) { return Error(Code::kInternal, "a step has %s", what); }

}  // namespace

Status CheckProgram(const Program& program) {
  if (ProgramChecker(program).Check()) return {};
  return Error(Code::kInternal, "the operations of the program do not fit together");
}

Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input) {
  if (input.tokens.size() > static_cast<size_t>(options.max_rows)) return BadStep("too many rows");
  const int rows = static_cast<int>(input.tokens.size());
  for (const int32_t token : input.tokens) {
    if (token < 0 || token >= program.vocabulary) return BadStep("a token outside the vocabulary");
  }
  int next = 0;
  for (const StepSequence& sequence : input.sequences) {
    if (sequence.row_begin != next || sequence.rows < 0 || sequence.position < 0)
      return BadStep("a gap in its rows");
    if (sequence.rows > rows - next) return BadStep("more rows in its sequences than tokens");
    if (!AdaptersFit(program, sequence.adapters)) return BadStep("an adapter of another model, or one twice");
    next += sequence.rows;
  }
  if (next != rows) return BadStep("tokens that belong to no sequence");
  for (const HeadRow& head : input.head) {
    if (head.row < 0 || head.row >= rows) return BadStep("a head row that does not exist");
    const auto known = [&program](int32_t token) { return token >= 0 && token < program.vocabulary; };
    for (const LogitEdit& edit : head.edits) {
      if (!known(edit.token)) return BadStep("an edit outside the vocabulary");
    }
    for (const int32_t target : head.targets) {
      if (!known(target)) return BadStep("a target outside the vocabulary");
    }
  }
  return {};
}

}  // namespace tokenmill::cpu
