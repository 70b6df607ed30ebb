#include "kernels/cuda/matmul_tiles.h"

// Weights of 16 bits × activations of 16 bits.

namespace tokenmill::cuda {

MATMUL_KERNELS(f16, WeightForm::kF16, PlainProduct<false, 1>)
MATMUL_KERNELS(bf16, WeightForm::kBF16, PlainProduct<true, 1>)
MATMUL_KERNELS(bf16_two, WeightForm::kBF16, PlainProduct<true, 2>)

}  // namespace tokenmill::cuda
