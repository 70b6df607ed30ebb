#include "kernels/cuda/check.h"

#include <string>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/loaded_adapter.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/row_launch.h"
#include "ops/adapter_check.h"
#include "ops/step_check.h"

namespace tokenmill::cuda {
namespace {

Status CheckMatrix(const WeightDesc& desc) {
  auto form = WeightFormOf(desc.dtype);
  if (!form.ok()) {
    return Error(Code::kUnsupportedQuantization,
                 "tensor '%s' is %s, which the CUDA backend cannot multiply by", desc.name.c_str(),
                 InfoOf(desc.dtype).name);
  }
  const int multiple = KMultipleOf(form.value());
  if (desc.cols % multiple == 0) return {};
  return Error(Code::kUnsupportedModel,
               "tensor '%s' has rows of %lld; the CUDA backend needs a multiple of %d for %s",
               desc.name.c_str(), static_cast<long long>(desc.cols), multiple, InfoOf(desc.dtype).name);
}

}  // namespace

Status CheckKernels(const Program& program) {
  for (const KvLayer& layer : program.kv_layers) {
    if (HasAttention(layer.head_dim)) continue;
    return Error(Code::kUnsupportedModel, "the CUDA backend has no attention for heads of %d elements",
                 layer.head_dim);
  }
  for (const ValueDesc& value : program.values) {
    if (value.width <= kRowWidthMax) continue;
    return Error(Code::kUnsupportedModel,
                 "the model has activations of %d elements; the CUDA backend takes up to %d", value.width,
                 kRowWidthMax);
  }
  for (const Op& op : program.ops) {
    for (const WeightId matrix : LinearMatrices(op))
      TM_RETURN_IF_ERROR(CheckMatrix(program.weights[static_cast<size_t>(matrix)]));
  }
  return {};
}

Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input) {
  return tokenmill::CheckStep(program, options.max_rows, input, [&program](const LoadedAdapter* given) {
    const auto* adapter = dynamic_cast<const CudaAdapter*>(given);
    return adapter != nullptr && adapter->program() == &program;
  });
}

}  // namespace tokenmill::cuda
