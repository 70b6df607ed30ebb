#pragma once

#include <vector>

#include "kernels/cpu/adapter_products.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// out (+)= matrix * row + bias
struct Product {
  const PackedMatrix* matrix = nullptr;
  const float* bias = nullptr;
  bool add = false;
  float* out = nullptr;
  int64_t out_stride = 0;
};

/// How the pairs of strips of some matrices and the rows of a step are cut into tasks: rows in blocks of whole
/// tiles whose activations stay in a core's cache, block by block, and each block's pairs in runs.
struct Grid {
  Grid(int rows, const RowBuffer& in, int pairs, int tile_rows, int threads);

  int tasks() const { return row_blocks * runs; }

  int row_block;  // rows of a block
  int row_blocks;
  int run_pairs;  // pairs of a run
  int runs;
};

/// Several matrices times the same rows; `adapters` of these matrices in this order.
class Products {
 public:
  Products(const StepState* state, RowBuffer in, std::vector<Product> products, AdapterProducts adapters);

  int Tasks(int rows) const;
  void Run(int task, int rows) const;

 private:
  Grid GridOf(int rows) const;

  const StepState* state_;
  RowBuffer in_;
  std::vector<Product> products_;
  AdapterProducts adapters_;
  int pairs_ = 0;
  int tile_rows_ = 1;
};

/// out = activation(gate * row) * (up * row), a pair of strips at a time; `adapters` of gate and up.
class GatedProduct {
 public:
  GatedProduct(const StepState* state, RowBuffer in, const PackedMatrix* gate, const PackedMatrix* up,
               Activation activation, RowBuffer out, AdapterProducts adapters);

  int Tasks(int rows) const;
  void Run(int task, int rows) const;

 private:
  Grid GridOf(int rows) const;
  void RunPair(int pair, int row_begin, int row_end) const;

  const StepState* state_;
  RowBuffer in_;
  const PackedMatrix* gate_;
  const PackedMatrix* up_;
  Activation activation_;
  RowBuffer out_;
  AdapterProducts adapters_;
  int tile_rows_;
};

/// Most terms of a RowBuffer.
inline constexpr int kTermsMax = 2;

/// One pair of strips times rows row … row + rows - 1: tile [rows][32], with room for kTermsMax times the
/// rows. `first` where the pair's weights have not been used for other rows just before. `soon` may be null.
void MultiplyPair(const CpuKernels& kernels, const PackedMatrix& matrix, int64_t pair, const RowBuffer& in,
                  int row, int rows, bool first, SoonRead* soon, float* tile);

}  // namespace tokenmill::cpu
