#include "kernels/cuda/matmul_tiles.h"

// Levels of 6 bits × f16, of 8 bits × s8 and × f16.

namespace tokenmill::cuda {

MATMUL_KERNELS(q6_k, WeightForm::kQ6_K, LevelsProduct<WeightForm::kQ6_K>)
MATMUL_KERNELS(q8_0_s8, WeightForm::kQ8_0, BytesProduct)
MATMUL_KERNELS(q8_0_f16, WeightForm::kQ8_0, LevelsProduct<WeightForm::kQ8_0>)

}  // namespace tokenmill::cuda
