#include "kernels/cuda/matmul_tiles.h"

// Levels of 4 bits × f16.

namespace tokenmill::cuda {

MATMUL_KERNELS(q4_0, WeightForm::kQ4_0, LevelsProduct<WeightForm::kQ4_0>)
MATMUL_KERNELS(q4_1, WeightForm::kQ4_1, LevelsProduct<WeightForm::kQ4_1>)
MATMUL_KERNELS(q4_k, WeightForm::kQ4_K, LevelsProduct<WeightForm::kQ4_K>)

}  // namespace tokenmill::cuda
