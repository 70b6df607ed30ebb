#include "ops/adapter_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tokenmill {
namespace {

struct Matrices {
  std::vector<WeightId> operator()(const NormProject& op) const {
    std::vector<WeightId> matrices;
    for (const Projection& projection : op.projections) matrices.push_back(projection.matrix);
    return matrices;
  }
  std::vector<WeightId> operator()(const ProjectAdd& op) const { return {op.matrix}; }
  std::vector<WeightId> operator()(const GatedMlp& op) const { return {op.gate, op.up}; }
  std::vector<WeightId> operator()(const Head& op) const { return {op.matrix}; }
  template <class Other>
  std::vector<WeightId> operator()(const Other&) const {
    return {};
  }
};

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

const char* NameOf(const Program& program, WeightId matrix) {
  return program.weights[static_cast<size_t>(matrix)].name.c_str();
}

Status CheckOne(const Program& program, const AdapterFactors& factors) {
  const char* name = NameOf(program, factors.matrix);
  if (factors.rank < 1 || factors.rank > kMaxAdapterRank) {
    return Error(Code::kInvalidArgument, "the adapter of '%s' has rank %d; ranks from 1 to %d can be used",
                 name, factors.rank, kMaxAdapterRank);
  }
  if (!IsFloat(factors.dtype)) {
    return Error(Code::kInvalidArgument, "the adapter of '%s' is %s; F32, F16 and BF16 can be used", name,
                 InfoOf(factors.dtype).name);
  }
  if (!std::isfinite(factors.scale)) {
    return Error(Code::kCorruptFile, "the adapter of '%s' has a scale that is not a finite number", name);
  }
  return {};
}

// Whether all exponents are below the one of infinities and NaN.
template <class Bits>
bool AllFinite(const void* values, int64_t count, Bits exponent) {
  const auto* bytes = static_cast<const unsigned char*>(values);
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<int64_t>(sizeof(bits)), sizeof(bits));
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

}  // namespace

std::vector<WeightId> LinearMatrices(const Op& op) { return std::visit(Matrices(), op); }

Status CheckAdapter(const Program& program, std::span<const AdapterFactors> factors) {
  enum Place : uint8_t { kNoLayer, kFree, kTaken };
  std::vector<Place> places(program.weights.size(), kNoLayer);
  for (const Op& op : program.ops) {
    for (const WeightId matrix : LinearMatrices(op)) places[static_cast<size_t>(matrix)] = kFree;
  }
  for (const AdapterFactors& one : factors) {
    const bool known = one.matrix >= 0 && static_cast<size_t>(one.matrix) < places.size();
    if (!known) {
      return Error(Code::kInvalidArgument, "an adapter names weight %d of a model that has %zu", one.matrix,
                   places.size());
    }
    Place& place = places[static_cast<size_t>(one.matrix)];
    if (place == kNoLayer) {
      return Error(Code::kInvalidArgument,
                   "'%s' is no linear layer of the model: an adapter cannot add to it",
                   NameOf(program, one.matrix));
    }
    if (place == kTaken) {
      return Error(Code::kCorruptFile, "the adapter has the factors of '%s' twice",
                   NameOf(program, one.matrix));
    }
    place = kTaken;
    TM_RETURN_IF_ERROR(CheckOne(program, one));
  }
  return {};
}

int64_t FactorElements(const Program& program, const AdapterFactors& factors, AdapterFactor which) {
  const WeightDesc& matrix = program.weights[static_cast<size_t>(factors.matrix)];
  return factors.rank * (which == AdapterFactor::kA ? matrix.cols : matrix.rows);
}

Status ReadFactor(const Program& program, const AdapterSource& source, size_t index, AdapterFactor which,
                  void* out) {
  TM_RETURN_IF_ERROR(source.Read(index, which, out));
  const AdapterFactors& factors = source.factors()[index];
  const int64_t count = FactorElements(program, factors, which);
  const bool finite = factors.dtype == DType::kF32   ? AllFinite<uint32_t>(out, count, 0x7f800000u)
                      : factors.dtype == DType::kF16 ? AllFinite<uint16_t>(out, count, 0x7c00u)
                                                     : AllFinite<uint16_t>(out, count, 0x7f80u);
  if (finite) return {};
  return Error(Code::kCorruptFile,
               "factor %s of the adapter of '%s' has elements that are not finite numbers",
               which == AdapterFactor::kA ? "A" : "B", NameOf(program, factors.matrix));
}

}  // namespace tokenmill
