#include "kernels/cpu/forms.h"

#include <algorithm>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/pack.h"

namespace tokenmill::cpu {

namespace {

PackedFormat FormatFor(const WeightDesc& weight, bool rounds_to_bf16) {
  const bool twos = rounds_to_bf16 && weight.dtype == DType::kBF16 && weight.cols % 2 == 0;
  return twos ? PackedFormat::kBf16K2 : FormatOf(weight.dtype);
}

}  // namespace

void Forms::Form::Add(InputForm form) {
  (form == InputForm::kFloats ? floats : form == InputForm::kBlocks ? blocks : bf16) = true;
}

void Forms::Form::Add(const Form& other) {
  floats = floats || other.floats;
  blocks = blocks || other.blocks;
  bf16 = bf16 || other.bf16;
}

Forms::Forms(const Program& program, const CpuKernels& kernels, int activation_terms)
    : program_(program), values_(program.values.size()) {
  const bool rounds_to_bf16 = kernels.to_bf16 != nullptr && activation_terms == 1;
  for (const WeightDesc& weight : program.weights) formats_.push_back(FormatFor(weight, rounds_to_bf16));
  for (const Op& op : program.ops) {
    std::visit([this](const auto& concrete) { Visit(concrete); }, op);
  }
}

Forms::Form Forms::OfNorm(const std::vector<WeightId>& matrices) const {
  Form form;
  for (const WeightId matrix : matrices) form.Add(LayoutOf(formats_[static_cast<size_t>(matrix)]).input);
  return form;
}

void Forms::ReadByNorm(ValueId in, const std::vector<WeightId>& matrices) {
  values_[static_cast<size_t>(in)].floats = true;
  norms_.Add(OfNorm(matrices));
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
  if (!Attention::RoundsItself(layer)) values_[static_cast<size_t>(op.out)].floats = true;
}

void Forms::Visit(const ProjectAdd& op) {
  values_[static_cast<size_t>(op.in)].Add(OfNorm({op.matrix}));
  values_[static_cast<size_t>(op.residual)].floats = true;
}

void Forms::Visit(const GatedMlp& op) { ReadByNorm(op.in, {op.gate, op.up}); }

void Forms::Visit(const Head& op) { values_[static_cast<size_t>(op.in)].floats = true; }

}  // namespace tokenmill::cpu
