#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_avx2.h"

#if defined(TOKENMILL_EMULATE_AVX512)
#include "kernels/cpu/emulate_avxvnni.h"
#endif

// After the registers that it is written in.
#include "kernels/cpu/levels_impl.h"

// dpbusd adds four products of an unsigned level and an activation to each of eight columns.

namespace tokenmill::cpu {
namespace {

constexpr int kPlainRows = 4, kPlainStrips = 1;
constexpr int kPlainPrefetchBytes = 1024;  // how far ahead weights are asked for

// Sums over k of level * activation for 8 columns and kRows rows.
struct Nibbles : LevelsOf<4> {
  static constexpr int kHalvesAtOnce = 2;  // of three rows and more
  static constexpr bool kStripAtOnce = false;  // of one row

  template <int kRows, int kHalves>
  TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                     __m256i (&sums)[kRows][kHalves]) {
    const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int tile = 0; tile < 4; ++tile) {
      __m256i low[kHalves], high[kHalves];
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) {
        const __m256i both = LoadWords(levels + Place(h) + 64 * tile);
        low[h] = _mm256_and_si256(both, mask);
        high[h] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int8_t* quants = a[r * stride].quants + 8 * tile;
        const __m256i first = Broadcast4(quants), second = Broadcast4(quants + 4);
#pragma GCC unroll 4
        for (int h = 0; h < kHalves; ++h) {
          const __m256i before = tile == 0 ? _mm256_setzero_si256() : sums[r][h];
          sums[r][h] = _mm256_dpbusd_avx_epi32(before, low[h], first);
          sums[r][h] = _mm256_dpbusd_avx_epi32(sums[r][h], high[h], second);
        }
      }
    }
  }
};

template <class Source>
struct AllLevels : Source {
  static constexpr int kHalvesAtOnce = 2;
  static constexpr bool kStripAtOnce = false;

  template <int kFirst, int kLast, int kRows, int kHalves>
  TM_INLINE void DotTiles(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                          __m256i (&sums)[kRows][kHalves]) {
#pragma GCC unroll 8
    for (int tile = kFirst; tile < kLast; ++tile) {
      __m256i bytes[kHalves];
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) bytes[h] = Source::Load(levels + Source::Place(h), tile);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i input = Broadcast4(a[r * stride].quants + 4 * tile);
#pragma GCC unroll 4
        for (int h = 0; h < kHalves; ++h) {
          const __m256i before = tile == kFirst ? _mm256_setzero_si256() : sums[r][h];
          sums[r][h] = _mm256_dpbusd_avx_epi32(before, bytes[h], input);
        }
      }
    }
  }

  template <int kRows, int kHalves>
  TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                     __m256i (&sums)[kRows][kHalves]) {
    DotTiles<0, 8>(levels, a, stride, sums);
  }
};
using Bytes = AllLevels<ByteLevels>;
template <class Source>
using Fives = AllLevels<Source>;
template <class Source>
using Sixes = AllLevels<Source>;

}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/plain_matmul_impl.h"

#include "kernels/cpu/matmul_avx2_impl.h"

namespace tokenmill::cpu {

void SetMatmulKernelsAvxVnni(CpuKernels* kernels) { SetMatmulKernels(kernels); }

}  // namespace tokenmill::cpu
