#pragma once

#include <memory>
#include <vector>

#include "core/memory.h"
#include "kernels/cpu/kernels.h"
#include "ops/adapter.h"

namespace tokenmill::cpu {

/// What an adapter adds to one matrix, in the layout of the kernels.
struct PackedFactors {
  FactorType type = FactorType::kF32;
  int rank = 0;
  float scale = 1;
  int64_t rows = 0;  // of the matrix
  int64_t cols = 0;
  const std::byte* a = nullptr;  // as ShrinkArgs has it
  const std::byte* b = nullptr;  // [pairs of strips], each as ExpandArgs has it; zeros behind the last row

  size_t element_bytes() const { return type == FactorType::kF32 ? 4 : 2; }
  int pairs() const { return static_cast<int>((rows + kPairColumns - 1) / kPairColumns); }
  int groups() const { return (rank + kRankGroup - 1) / kRankGroup; }
  /// Of a whole group of ranks.
  size_t group_bytes() const {
    return static_cast<size_t>((cols + 15) / 16) * 16 * kRankGroup * element_bytes();
  }
  size_t a_bytes() const { return group_bytes() / kRankGroup * static_cast<size_t>(rank); }
  size_t pair_bytes() const { return static_cast<size_t>(rank) * kPairColumns * element_bytes(); }
  size_t b_bytes() const { return pair_bytes() * static_cast<size_t>(pairs()); }
};

/// An adapter for the steps of one executor. Besides its factors, which do not change, it has the memory for what
/// they make of the rows of the step under way, between the two products.
class CpuAdapter final : public LoadedAdapter {
 public:
  /// For steps, or chunks of head rows, of at most `rows` rows.
  static Result<std::shared_ptr<const LoadedAdapter>> Load(const Program& program,
                                                           const AdapterSource& source, int rows);

  size_t bytes() const override;

  /// The program of the executor that loaded it.
  const Program* program() const { return program_; }
  /// nullptr where the adapter does not have the matrix.
  const PackedFactors* factors(WeightId matrix) const {
    const int index = index_[static_cast<size_t>(matrix)];
    return index < 0 ? nullptr : &factors_[static_cast<size_t>(index)];
  }
  /// What a row's input becomes: for one operation at a time, the ranks of its matrices one after the other.
  float* inner(int row) const { return inner_.as<float>() + int64_t{row} * ranks_; }

 private:
  Status Allocate(std::span<const AdapterFactors> given, int rows);
  Status Pack(const AdapterSource& source);

  const Program* program_ = nullptr;
  std::vector<PackedFactors> factors_;  // as the source has them
  std::vector<int> index_;  // by WeightId, or -1
  int ranks_ = 0;  // of all matrices of an operation, the most
  size_t factor_bytes_ = 0;
  SystemBuffer memory_;  // of the factors, in the order in which the operations read them
  SystemBuffer inner_;  // [rows][ranks]
};

}  // namespace tokenmill::cpu
