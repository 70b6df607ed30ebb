#pragma once

#include <vector>

#include "kernels/cpu/adapter_rows.h"
#include "kernels/cpu/kernels.h"

namespace tokenmill::cpu {

/// What adapters add to the matrices of one operation. A phase of its own makes the inner rows, A times the input;
/// the tasks of the operation's products add B times these to their tiles.
class AdapterProducts {
 public:
  AdapterProducts(const CpuKernels* kernels, const AdapterRows* rows, std::vector<WeightId> matrices)
      : kernels_(kernels), rows_(rows), matrices_(std::move(matrices)) {}

  /// None where no adapter of the step has one of the matrices.
  int ShrinkTasks(int threads) const;
  /// `in` [rows][width of the matrices]; only rows with adapters are read.
  void Shrink(int task, int threads, const float* in) const;

  /// Adds to a tile [rows][32] of rows row … row + rows - 1, at most AdapterRows::kRowsMost: of the matrix with
  /// this index, one pair of strips.
  void Expand(size_t index, int64_t pair, int row, int rows, float* tile) const {
    if (!rows_->empty()) ExpandTile(index, pair, row, rows, tile);
  }
  /// What Expand will read, in `list`; nullptr for nothing.
  SoonRead* ReadSoon(size_t index, int64_t pair, int row, int rows, SoonRead* list) const {
    return rows_->empty() ? nullptr : ListTile(index, pair, row, rows, list);
  }

 private:
  int Parts(int threads) const;
  int Groups(const CpuAdapter& adapter) const;
  int Offset(const CpuAdapter& adapter, size_t index) const;
  void ShrinkMatrix(const AdapterRows::Chunk& chunk, const PackedFactors& factors, int begin, int end,
                    int offset, const float* in) const;
  void ExpandTile(size_t index, int64_t pair, int row, int rows, float* tile) const;
  SoonRead* ListTile(size_t index, int64_t pair, int row, int rows, SoonRead* list) const;

  const CpuKernels* kernels_;
  const AdapterRows* rows_;
  const std::vector<WeightId> matrices_;
};

}  // namespace tokenmill::cpu
