#include "kernels/cpu/forms.h"

#include <algorithm>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/pack.h"

namespace tokenmill::cpu {

Forms::Forms(const Program& program) : program_(program), values_(program.values.size()) {
  for (const Op& op : program.ops) {
    std::visit([this](const auto& concrete) { Visit(concrete); }, op);
  }
}

Forms::Form Forms::OfNorm(const std::vector<WeightId>& matrices) const {
  Form form;
  for (const WeightId matrix : matrices) {
    const bool quantized = LayoutOf(FormatOf(program_.weights[static_cast<size_t>(matrix)].dtype)).quantized;
    (quantized ? form.blocks : form.floats) = true;
  }
  return form;
}

void Forms::ReadByNorm(ValueId in, const std::vector<WeightId>& matrices) {
  values_[static_cast<size_t>(in)].floats = true;
  const Form form = OfNorm(matrices);
  norms_.floats = norms_.floats || form.floats;
  norms_.blocks = norms_.blocks || form.blocks;
  norm_width_ = std::max(norm_width_, program_.values[static_cast<size_t>(in)].width);
}

void Forms::Visit(const Embed& op) { values_[static_cast<size_t>(op.out)].floats = true; }

void Forms::Visit(const NormProject& op) {
  std::vector<WeightId> matrices;
  for (const Projection& projection : op.projections) {
    matrices.push_back(projection.matrix);
    values_[static_cast<size_t>(projection.out)].floats = true;
  }
  ReadByNorm(op.in, matrices);
}

void Forms::Visit(const RopeWriteKv& op) {
  for (const ValueId value : {op.q, op.k, op.v}) values_[static_cast<size_t>(value)].floats = true;
}

void Forms::Visit(const PagedAttention& op) {
  values_[static_cast<size_t>(op.q)].floats = true;
  const KvLayer& layer = program_.kv_layers[static_cast<size_t>(op.kv_layer)];
  if (!Attention::QuantizesItself(layer)) values_[static_cast<size_t>(op.out)].floats = true;
}

void Forms::Visit(const ProjectAdd& op) {
  const Form form = OfNorm({op.matrix});
  Form& in = values_[static_cast<size_t>(op.in)];
  in.floats = in.floats || form.floats;
  in.blocks = in.blocks || form.blocks;
  values_[static_cast<size_t>(op.residual)].floats = true;
}

void Forms::Visit(const GatedMlp& op) { ReadByNorm(op.in, {op.gate, op.up}); }

void Forms::Visit(const Head& op) { values_[static_cast<size_t>(op.in)].floats = true; }

}  // namespace tokenmill::cpu
