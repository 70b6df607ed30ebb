#include <algorithm>

#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

void RowBuffer::Round(const CpuKernels& kernels, int64_t row, int first, const float* x, int n) const {
  if (floats == nullptr && adapted != nullptr && adapted[row] != 0) {
    std::copy_n(x, n, unrounded + row * width + first);
  }
  if (blocks != nullptr) Quantize(kernels, row, first / kBlock, x, n);
  if (bf16 != nullptr) kernels.to_bf16(x, row_bf16(row) + first, n);
}

void RowBuffer::Quantize(const CpuKernels& kernels, int64_t row, int first_block, const float* x,
                         int n) const {
  ActivationBlock* high = row_blocks(row) + first_block;
  kernels.quantize(x, n, high);
  if (terms == 1) return;
  ActivationBlock* low = high + width / kBlock;
  float rest[kBlock];
  for (int block = 0; block < n / kBlock; ++block) {
    for (int i = 0; i < kBlock; ++i)
      rest[i] = x[block * kBlock + i] - high[block].scale * high[block].quants[i];
    kernels.quantize(rest, kBlock, low + block);
  }
}

}  // namespace tokenmill::cpu
