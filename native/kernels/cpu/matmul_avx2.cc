#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_avx2.h"

// After the registers that it is written in.
#include "kernels/cpu/levels_impl.h"

// Without VNNI: maddubs multiplies unsigned levels by activations into sums of two in 16 bits. With 4 bits eight
// such sums, a whole block, stay below 2^15 (8 * 2 * 15 * 127), with 5 bits four, with 6 bits two. Levels of 8
// bits are split into nibbles.

namespace tokenmill::cpu {
namespace {

constexpr int kPlainRows = 6, kPlainStrips = 1;
constexpr int kPlainPrefetchBytes = 1024;  // how far ahead weights are asked for

// Sums stay in their registers, added in the order written: else GCC builds trees of them and spills.
TM_INLINE void AddWords(__m256i& sum, __m256i product) {
  sum = _mm256_add_epi16(sum, product);
  asm("" : "+x"(sum));
}

// factor * (sums of pairs), in 32 bits.
TM_INLINE __m256i AddPairs(__m256i words, int16_t factor) {
  return _mm256_madd_epi16(words, _mm256_set1_epi16(factor));
}

// The levels of a pair's block: sums over k of level * activation for 8 columns and kRows rows.
struct Nibbles : LevelsOf<4> {
  static constexpr int kHalvesAtOnce = 2;  // of three rows and more
  static constexpr bool kStripAtOnce = false;  // of one row

  template <int kRows, int kHalves>
  TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                     __m256i (&sums)[kRows][kHalves]) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i words[kRows][kHalves];
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
          const __m256i product = _mm256_maddubs_epi16(low[h], first);
          if (tile == 0) words[r][h] = product;
          else AddWords(words[r][h], product);
          AddWords(words[r][h], _mm256_maddubs_epi16(high[h], second));
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) sums[r][h] = AddPairs(words[r][h], 1);
    }
  }
};

struct Bytes : ByteLevels {
  static constexpr int kHalvesAtOnce = 1;
  static constexpr bool kStripAtOnce = true;

  template <int kRows, int kHalves>
  TM_INLINE void Dot(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                     __m256i (&sums)[kRows][kHalves]) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i low_words[kRows][kHalves], high_words[kRows][kHalves];
#pragma GCC unroll 8
    for (int tile = 0; tile < 8; ++tile) {
      __m256i low[kHalves], high[kHalves];
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) {
        const __m256i both = LoadWords(levels + Place(h) + 64 * tile);
        low[h] = _mm256_and_si256(both, mask);
        high[h] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i input = Broadcast4(a[r * stride].quants + 4 * tile);
#pragma GCC unroll 4
        for (int h = 0; h < kHalves; ++h) {
          const __m256i low_product = _mm256_maddubs_epi16(low[h], input);
          const __m256i high_product = _mm256_maddubs_epi16(high[h], input);
          if (tile == 0) {
            low_words[r][h] = low_product;
            high_words[r][h] = high_product;
          } else {
            AddWords(low_words[r][h], low_product);
            AddWords(high_words[r][h], high_product);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) {
        sums[r][h] = _mm256_add_epi32(AddPairs(low_words[r][h], 1), AddPairs(high_words[r][h], 16));
      }
    }
  }
};

// Levels of which the products of kTilesInWords tiles can be added in 16 bits.
template <int kTilesInWords, class Source>
struct SmallLevels : Source {
  static constexpr int kHalvesAtOnce = 2;
  static constexpr bool kStripAtOnce = false;

  template <int kFirst, int kLast, int kRows, int kHalves>
  TM_INLINE void DotTiles(const uint8_t* levels, const ActivationBlock* a, int64_t stride,
                          __m256i (&sums)[kRows][kHalves]) {
    __m256i words[kRows][kHalves];
#pragma GCC unroll 8
    for (int tile = kFirst; tile < kLast; ++tile) {
      const bool begins = tile % kTilesInWords == 0, ends = tile % kTilesInWords == kTilesInWords - 1;
      __m256i bytes[kHalves];
#pragma GCC unroll 4
      for (int h = 0; h < kHalves; ++h) bytes[h] = Source::Load(levels + Source::Place(h), tile);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i input = Broadcast4(a[r * stride].quants + 4 * tile);
#pragma GCC unroll 4
        for (int h = 0; h < kHalves; ++h) {
          const __m256i product = _mm256_maddubs_epi16(bytes[h], input);
          if (begins) words[r][h] = product;
          else AddWords(words[r][h], product);
          if (!ends) continue;
          const __m256i pairs = AddPairs(words[r][h], 1);
          sums[r][h] = tile < kFirst + kTilesInWords ? pairs : _mm256_add_epi32(sums[r][h], pairs);
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
template <class Source>
using Fives = SmallLevels<4, Source>;
template <class Source>
using Sixes = SmallLevels<2, Source>;

}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/plain_matmul_impl.h"

#include "kernels/cpu/matmul_avx2_impl.h"

namespace tokenmill::cpu {

void SetMatmulKernelsAvx2(CpuKernels* kernels) { SetMatmulKernels(kernels); }

}  // namespace tokenmill::cpu
