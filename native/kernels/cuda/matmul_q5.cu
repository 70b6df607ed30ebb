#include "kernels/cuda/matmul_tiles.h"

// Levels of 5 bits × f16.

namespace tokenmill::cuda {

MATMUL_KERNELS(q5_0, WeightForm::kQ5_0, LevelsProduct<WeightForm::kQ5_0>)
MATMUL_KERNELS(q5_1, WeightForm::kQ5_1, LevelsProduct<WeightForm::kQ5_1>)
MATMUL_KERNELS(q5_k, WeightForm::kQ5_K, LevelsProduct<WeightForm::kQ5_K>)

}  // namespace tokenmill::cuda
