#include "kernels/reference/adapter.h"

#include <new>

#include "ops/adapter_check.h"
#include "quant/quant.h"

namespace tokenmill::reference {
namespace {

Status ReadFloats(const Program& program, const AdapterSource& source, size_t index, AdapterFactor which,
                  std::vector<float>* out) {
  const AdapterFactors& factors = source.factors()[index];
  const int64_t count = FactorElements(program, factors, which);
  std::vector<std::byte> raw(RowBytes(factors.dtype, count));
  TM_RETURN_IF_ERROR(ReadFactor(program, source, index, which, raw.data()));
  out->resize(static_cast<size_t>(count));
  DequantizeRow(factors.dtype, raw.data(), out->data(), count);
  return {};
}

}  // namespace

Result<std::shared_ptr<const LoadedAdapter>> ReferenceAdapter::Load(const Program& program,
                                                                    const AdapterSource& source) {
  TM_RETURN_IF_ERROR(CheckAdapter(program, source.factors()));
  try {
    auto adapter = std::make_shared<ReferenceAdapter>();
    adapter->index_.assign(program.weights.size(), -1);
    for (size_t i = 0; i < source.factors().size(); ++i) {
      const AdapterFactors& given = source.factors()[i];
      const WeightDesc& matrix = program.weights[static_cast<size_t>(given.matrix)];
      Factors factors = {matrix.rows, matrix.cols, given.rank, given.scale, {}, {}};
      TM_RETURN_IF_ERROR(ReadFloats(program, source, i, AdapterFactor::kA, &factors.a));
      TM_RETURN_IF_ERROR(ReadFloats(program, source, i, AdapterFactor::kB, &factors.b));
      adapter->index_[static_cast<size_t>(given.matrix)] = static_cast<int>(i);
      adapter->factors_.push_back(std::move(factors));
    }
    return std::shared_ptr<const LoadedAdapter>(std::move(adapter));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory for the adapter's factors");
  }
}

size_t ReferenceAdapter::bytes() const {
  size_t floats = 0;
  for (const Factors& factors : factors_) floats += factors.a.size() + factors.b.size();
  return floats * sizeof(float) + index_.size() * sizeof(int);
}

void ReferenceAdapter::AddTo(WeightId matrix, float use_scale, const float* in, float* out) const {
  const int index = index_[static_cast<size_t>(matrix)];
  if (index < 0) return;
  const Factors& factors = factors_[static_cast<size_t>(index)];
  std::vector<float> inner(static_cast<size_t>(factors.rank));
  const float* a = factors.a.data();
  for (float& sum : inner) {
    for (int64_t k = 0; k < factors.cols; ++k) sum += *a++ * in[k];
    sum *= use_scale * factors.scale;
  }
  const float* b = factors.b.data();
  for (int64_t o = 0; o < factors.rows; ++o) {
    float sum = 0;
    for (const float value : inner) sum += *b++ * value;
    out[o] += sum;
  }
}

void AddAdapters(std::span<const AdapterUse> uses, WeightId matrix, const float* in, float* out) {
  for (const AdapterUse& use : uses) {
    static_cast<const ReferenceAdapter*>(use.adapter)->AddTo(matrix, use.scale, in, out);
  }
}

}  // namespace tokenmill::reference
