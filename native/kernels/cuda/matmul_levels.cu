#include "kernels/cuda/matmul_tiles.h"

namespace tokenmill::cuda {

#define LEVELS_KERNELS(name, form)                                                                  \
  GPU_KERNEL(matmul_##name##_decode8, MatmulParams, 256) {                                          \
    MatmulDecode<LevelsProduct<WeightForm::form>, WeightForm::form, 1, 1>(p);                       \
  }                                                                                                 \
  GPU_KERNEL(matmul_##name##_decode16, MatmulParams, 256) {                                         \
    MatmulDecode<LevelsProduct<WeightForm::form>, WeightForm::form, 2, 2>(p);                       \
  }                                                                                                 \
  GPU_KERNEL(matmul_##name##_decode32, MatmulParams, 256) {                                         \
    MatmulDecode<LevelsProduct<WeightForm::form>, WeightForm::form, 2, 4>(p);                       \
  }                                                                                                 \
  GPU_KERNEL(matmul_##name##_prefill, MatmulParams, 128) {                                          \
    MatmulPrefill<LevelsProduct<WeightForm::form>, WeightForm::form>(p);                            \
  }

LEVELS_KERNELS(q4_0, kQ4_0)
LEVELS_KERNELS(q4_1, kQ4_1)
LEVELS_KERNELS(q4_k, kQ4_K)
LEVELS_KERNELS(q5_0, kQ5_0)
LEVELS_KERNELS(q5_1, kQ5_1)
LEVELS_KERNELS(q5_k, kQ5_K)
LEVELS_KERNELS(q6_k, kQ6_K)
LEVELS_KERNELS(q8_0_f16, kQ8_0)

#undef LEVELS_KERNELS

}  // namespace tokenmill::cuda
