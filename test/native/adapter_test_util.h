#pragma once

// Adapters with random factors for programs of tests.

#include <cmath>
#include <cstring>
#include <vector>

#include "cpu_test_util.h"
#include "ops/adapter_check.h"
#include "quant/quant.h"

namespace cpu_test {

using namespace tokenmill;

class MemoryAdapter final : public AdapterSource {
 public:
  void Add(const AdapterFactors& factors, std::vector<uint8_t> a, std::vector<uint8_t> b) {
    factors_.push_back(factors);
    data_.push_back(std::move(a));
    data_.push_back(std::move(b));
  }
  std::span<const AdapterFactors> factors() const override { return factors_; }
  Status Read(size_t index, AdapterFactor which, void* out) const override {
    if (failing_ == static_cast<int>(index)) return Error(Code::kCorruptFile, "unreadable");
    const auto& data = data_[2 * index + (which == AdapterFactor::kB)];
    std::memcpy(out, data.data(), data.size());
    return {};
  }

  /// In f32.
  std::vector<float> Floats(size_t index, AdapterFactor which) const {
    const auto& data = data_[2 * index + (which == AdapterFactor::kB)];
    const DType dtype = factors_[index].dtype;
    std::vector<float> values(data.size() / (dtype == DType::kF32 ? 4 : 2));
    DequantizeRow(dtype, data.data(), values.data(), static_cast<int64_t>(values.size()));
    return values;
  }

  std::vector<AdapterFactors> factors_;
  std::vector<std::vector<uint8_t>> data_;  // A, B of each
  int failing_ = -1;
};

inline std::vector<uint8_t> RandomFactor(DType dtype, int64_t count, uint32_t seed, float sigma) {
  const std::vector<float> values = RandomFloats(static_cast<size_t>(count), seed, sigma);
  std::vector<uint8_t> data(RowBytes(dtype, count));
  QuantizeRow(dtype, values.data(), data.data(), count);
  return data;
}

/// Adds factors that make about half of what a matrix makes of its input.
inline void AddRandomFactors(const Program& program, WeightId matrix, int rank, DType dtype, uint32_t seed,
                             MemoryAdapter* adapter) {
  const WeightDesc& desc = program.weights[static_cast<size_t>(matrix)];
  const AdapterFactors factors = {matrix, rank, 0.5f, dtype};
  const auto sigma = [](int64_t terms) { return 1 / std::sqrt(static_cast<float>(terms)); };
  adapter->Add(factors, RandomFactor(dtype, rank * desc.cols, seed, sigma(desc.cols)),
               RandomFactor(dtype, rank * desc.rows, seed + 1, sigma(rank)));
}

/// On the linear layers of a program in turn: these ranks, none where one is 0, and all types of elements.
inline MemoryAdapter RandomAdapter(const Program& program, const std::vector<int>& ranks, uint32_t seed) {
  constexpr DType kTypes[] = {DType::kF16, DType::kF32, DType::kBF16};
  MemoryAdapter adapter;
  size_t place = 0;
  for (const Op& op : program.ops) {
    for (const WeightId matrix : LinearMatrices(op)) {
      const int rank = ranks[place % ranks.size()];
      const DType dtype = kTypes[(place + seed) % 3];
      ++place;
      if (rank > 0) {
        const uint32_t own = seed * 7717 + 2 * static_cast<uint32_t>(place);
        AddRandomFactors(program, matrix, rank, dtype, own, &adapter);
      }
    }
  }
  return adapter;
}

}  // namespace cpu_test
