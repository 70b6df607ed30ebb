#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/packed_format.h"
#include "kernels/cpu/simd_neon.h"

// usmmla multiplies 2 columns of 8 unsigned levels by 2 rows of 8 activations: twice the products of usdot.
// Two tiles that follow each other, [4 columns][4 k], are zipped to such pairs of columns. A single row goes
// through usdot, as in matmul_neon.cc.

namespace tokenmill::cpu {
namespace {

constexpr bool kSignedProducts = false;

template <class Levels, int kPart, int kQuads>
TM_INLINE void AddEightOfRow(const uint8_t* levels, int eight, int8x16_t input,
                             int32x4_t (&sums)[1][kQuads]) {
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q) {
    const uint8x16x2_t tiles = Levels::LoadEight(levels + Levels::Place(q), eight);
    sums[0][q] = vusdotq_laneq_s32(sums[0][q], tiles.val[0], input, 2 * kPart);
    sums[0][q] = vusdotq_laneq_s32(sums[0][q], tiles.val[1], input, 2 * kPart + 1);
  }
}

template <class Levels, int kFirst, int kLast, int kQuads>
TM_INLINE void DotRow(const uint8_t* levels, const ActivationBlock* a, int32x4_t (&sums)[1][kQuads]) {
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q) sums[0][q] = vdupq_n_s32(0);
#pragma GCC unroll 2
  for (int half = kFirst; half < kLast; ++half) {
    const int8x16_t input = vld1q_s8(a->quants + 16 * half);
    AddEightOfRow<Levels, 0>(levels, 2 * half, input, sums);
    AddEightOfRow<Levels, 1>(levels, 2 * half + 1, input, sums);
  }
}

TM_INLINE uint8x16_t ZipLow(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
TM_INLINE uint8x16_t ZipHigh(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

// Sums of level * activation over the halves kFirst … kLast - 1 of a block, 16 k each. An odd last row is paired
// with itself.
template <class Levels, int kFirst, int kLast, int kRows, int kQuads>
TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                   int32x4_t (&sums)[kRows][kQuads]) {
  if constexpr (kRows == 1) {
    DotRow<Levels, kFirst, kLast>(levels, a, sums);
  } else {
    constexpr int kPairs = (kRows + 1) / 2;
    int32x4_t squares[kPairs][2 * kQuads];  // [2 columns][2 rows]
#pragma GCC unroll 2
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 8
      for (int i = 0; i < 2 * kQuads; ++i) squares[p][i] = vdupq_n_s32(0);
    }
#pragma GCC unroll 4
    for (int eight = 2 * kFirst; eight < 2 * kLast; ++eight) {
      int8x16_t inputs[kPairs];
#pragma GCC unroll 2
      for (int p = 0; p < kPairs; ++p) {
        const int second = 2 * p + 1 < kRows ? 2 * p + 1 : 2 * p;
        inputs[p] = vcombine_s8(vld1_s8(a[2 * p * stride].quants + 8 * eight),
                                vld1_s8(a[second * stride].quants + 8 * eight));
      }
#pragma GCC unroll 4
      for (int q = 0; q < kQuads; ++q) {
        const uint8x16x2_t tiles = Levels::LoadEight(levels + Levels::Place(q), eight);
        const uint8x16_t low = ZipLow(tiles.val[0], tiles.val[1]);
        const uint8x16_t high = ZipHigh(tiles.val[0], tiles.val[1]);
#pragma GCC unroll 2
        for (int p = 0; p < kPairs; ++p) {
          squares[p][2 * q] = vusmmlaq_s32(squares[p][2 * q], low, inputs[p]);
          squares[p][2 * q + 1] = vusmmlaq_s32(squares[p][2 * q + 1], high, inputs[p]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int q = 0; q < kQuads; ++q) {
        const int32x4_t low = squares[r / 2][2 * q], high = squares[r / 2][2 * q + 1];
        sums[r][q] = r % 2 == 0 ? vuzp1q_s32(low, high) : vuzp2q_s32(low, high);
      }
    }
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

void SetMatmulKernelsNeonI8mm(CpuKernels* kernels) { SetMatmulKernels(kernels); }

}  // namespace tokenmill::cpu
