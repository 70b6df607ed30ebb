#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/packed_format.h"
#include "kernels/cpu/simd_neon.h"

// sdot adds four products of signed bytes to each of four columns, with one of four groups of a row's
// activations: a register of 16 activations serves four tiles. Levels below 128 are signed as they are; those
// of 8 bits become their values by turning the highest bit.

namespace tokenmill::cpu {
namespace {

constexpr bool kSignedProducts = true;

// 8 k of a half: their tiles have the activations kPart * 8 … of `inputs`.
template <class Levels, int kPart, int kRows, int kQuads>
TM_INLINE void AddEight(const uint8_t* levels, int eight, const int8x16_t (&inputs)[kRows],
                        int32x4_t (&sums)[kRows][kQuads]) {
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q) {
    const uint8x16x2_t tiles = Levels::LoadEight(levels + Levels::Place(q), eight);
    const int8x16_t first = vreinterpretq_s8_u8(tiles.val[0]), second = vreinterpretq_s8_u8(tiles.val[1]);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r][q] = vdotq_laneq_s32(sums[r][q], first, inputs[r], 2 * kPart);
      sums[r][q] = vdotq_laneq_s32(sums[r][q], second, inputs[r], 2 * kPart + 1);
    }
  }
}

// Sums of level * activation over the halves kFirst … kLast - 1 of a block, 16 k each.
template <class Levels, int kFirst, int kLast, int kRows, int kQuads>
TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                   int32x4_t (&sums)[kRows][kQuads]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) sums[r][q] = vdupq_n_s32(0);
  }
#pragma GCC unroll 2
  for (int half = kFirst; half < kLast; ++half) {
    int8x16_t inputs[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) inputs[r] = vld1q_s8(a[r * stride].quants + 16 * half);
    AddEight<Levels, 0>(levels, 2 * half, inputs, sums);
    AddEight<Levels, 1>(levels, 2 * half + 1, inputs, sums);
  }
}

constexpr int kPlainRows = 4, kPlainStrips = 1;
constexpr int kPlainPrefetchBytes = 12 * 1024;  // how far ahead weights are asked for

}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/plain_matmul_impl.h"

#include "kernels/cpu/matmul_neon_impl.h"

namespace tokenmill::cpu {

void SetMatmulKernelsNeon(CpuKernels* kernels) { SetMatmulKernels(kernels); }

}  // namespace tokenmill::cpu
