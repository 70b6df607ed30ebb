#include <algorithm>

#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

void RowBuffer::Quantize(const CpuKernels& kernels, int64_t row, int first, const float* x, int n) const {
  ActivationBlock* high = row_blocks(row) + first;
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
