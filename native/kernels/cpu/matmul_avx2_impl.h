// Products with quantized weights over registers of 8 columns. Included by matmul_avx2.cc and matmul_avxvnni.cc
// only, after simd_avx2.h and their Nibbles, Bytes, Fives and Sixes, which multiply levels by activations.

#include <bit>

#include "kernels/cpu/kernels.h"

namespace tokenmill::cpu {
namespace {

constexpr int kHalf = 8;  // columns of a register

// How far ahead weights are asked for. Near, so that the lines that arrive keep the hardware's own streams going:
// on Zen 3, 1 to 2 KiB reach 94 % of a raw read, 8 KiB and more 85 %.
constexpr int kPrefetchBytes = 1536;

TM_INLINE __m256 LoadF16Half(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
TM_INLINE __m256 LoadU8Half(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
TM_INLINE __m256 LoadI8Half(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// By a shift: a product of numbers would have to come from the scalar registers.
template <int kFactor>
TM_INLINE __m256i Times(__m256i x) {
  static_assert(std::has_single_bit(unsigned{kFactor}));
  return _mm256_slli_epi32(x, std::countr_zero(unsigned{kFactor}));
}

// Scales of one block and 8 columns: sum += d * (level sum - offset * sum of activations) + m * sum.
struct ScaleD {
  TM_INLINE __m256 D(const uint8_t*, const uint8_t* scales, int column) {
    return LoadF16Half(scales + 2 * column);
  }
};
struct ScaleDM : ScaleD {
  TM_INLINE __m256 M(const uint8_t*, const uint8_t* scales, int column) {
    return LoadF16Half(scales + 64 + 2 * column);
  }
};
// The products are exact: 11 + 6 bits.
struct ScaleK {
  TM_INLINE __m256 D(const uint8_t* header, const uint8_t* scales, int column) {
    return _mm256_mul_ps(LoadF16Half(header + 2 * column), LoadU8Half(scales + column));
  }
  TM_INLINE __m256 M(const uint8_t* header, const uint8_t* scales, int column) {
    const __m256 dmin = LoadF16Half(header + 64 + 2 * column);
    return _mm256_sub_ps(_mm256_setzero_ps(), _mm256_mul_ps(dmin, LoadU8Half(scales + 32 + column)));
  }
};

template <PackedFormat kPacked, class LevelsType, class ScalesType, bool kMins>
struct Format {
  using Levels = LevelsType;
  using Scales = ScalesType;
  static constexpr PackedLayout kLayout = LayoutWith(kPacked, 2 * Levels::kStripBytes);
  static constexpr int kTileRows = 4;
  static constexpr int kBlocks = kLayout.group_k / kBlock;
  static constexpr int kBlockBytes = kLayout.level_bytes + kLayout.scale_bytes;

  // Adds one block: d * scale * (levels - offset * input sum), then mins.
  template <int kRows, int kHalves>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, int half, __m256 (&sums)[kRows][kHalves]) {
    const uint8_t* scales = block + kLayout.level_bytes;
    __m256i dots[kRows][kHalves];
    Levels::template Dot<kRows, kHalves>(block + Levels::Place(half), a, stride, dots);
#pragma GCC unroll 4
    for (int h = 0; h < kHalves; ++h) {
      const __m256 d = Scales::D(header, scales, kHalf * (half + h));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const ActivationBlock& input = a[r * stride];
        __m256i dot = dots[r][h];
        if constexpr (kLayout.offset != 0) {
          dot = _mm256_sub_epi32(dot, Times<kLayout.offset>(_mm256_set1_epi32(input.sum)));
        }
        const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(input.scale));
        sums[r][h] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), sums[r][h]);
      }
      if constexpr (kMins) {
        const __m256 m = Scales::M(header, scales, kHalf * (half + h));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          sums[r][h] = _mm256_fmadd_ps(m, _mm256_set1_ps(a[r * stride].scaled_sum), sums[r][h]);
        }
      }
    }
  }
};

using FormatNibbleD = Format<PackedFormat::kNibbleD, Nibbles, ScaleD, false>;
using FormatNibbleDM = Format<PackedFormat::kNibbleDM, Nibbles, ScaleDM, true>;
using FormatNibbleK = Format<PackedFormat::kNibbleK, Nibbles, ScaleK, true>;
using FormatByteD = Format<PackedFormat::kByteD, Bytes, ScaleD, false>;
template <class Source>
using FormatFiveD = Format<PackedFormat::kFiveD, Fives<Source>, ScaleD, false>;
template <class Source>
using FormatFiveDM = Format<PackedFormat::kFiveDM, Fives<Source>, ScaleDM, true>;
template <class Source>
using FormatFiveK = Format<PackedFormat::kFiveK, Fives<Source>, ScaleK, true>;

// A scale per 16 k: the halves of a block are added one after the other.
template <class Source>
struct FormatSixK16 : Format<PackedFormat::kSixK16, Sixes<Source>, ScaleD, false> {
  using Levels = Sixes<Source>;
  using FormatSixK16::Format::kLayout;
  template <int kPart, int kRows, int kHalves>
  TM_INLINE void AddPart(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                         int64_t stride, int half, __m256 (&sums)[kRows][kHalves]) {
    const uint8_t* scales = block + kLayout.level_bytes + 32 * kPart;
    __m256i dots[kRows][kHalves];
    Levels::template DotTiles<4 * kPart, 4 * kPart + 4>(block + Levels::Place(half), a, stride, dots);
#pragma GCC unroll 4
    for (int h = 0; h < kHalves; ++h) {
      const int column = kHalf * (half + h);
      const __m256 d = _mm256_mul_ps(LoadF16Half(header + 2 * column), LoadI8Half(scales + column));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const ActivationBlock& input = a[r * stride];
        const int32_t sum = kPart == 0 ? input.first_half : input.sum - input.first_half;
        const __m256i dot = _mm256_sub_epi32(dots[r][h], _mm256_set1_epi32(kLayout.offset * sum));
        const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(input.scale));
        sums[r][h] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), sums[r][h]);
      }
    }
  }

  template <int kRows, int kHalves>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, int half, __m256 (&sums)[kRows][kHalves]) {
    AddPart<0>(header, block, a, stride, half, sums);
    AddPart<1>(header, block, a, stride, half, sums);
  }
};

TM_INLINE void PrefetchBlock(const uint8_t* p, int bytes) {
#pragma GCC unroll 32
  for (int i = 0; i < bytes; i += 64) Prefetch(p + kPrefetchBytes + i);
}

// One block of one row, whose halves are added as many at a time as keep its lines in the order of memory.
template <class F>
TM_INLINE void AddHalves(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                         int64_t stride, int half, __m256 (&sums)[1][4]) {
  if constexpr (F::Levels::kStripAtOnce) {
    __m256 strips[2][1][2] = {{{sums[0][0], sums[0][1]}}, {{sums[0][2], sums[0][3]}}};
    F::template AddBlock<1, 2>(header, block, a, stride, half, strips[0]);
    F::template AddBlock<1, 2>(header, block, a, stride, half + 2, strips[1]);
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) sums[0][h] = strips[h / 2][0][h % 2];
  } else {
    F::template AddBlock<1, 4>(header, block, a, stride, half, sums);
  }
}

template <class F, int kRows, int kHalves>
TM_INLINE void AddHalves(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                         int64_t stride, int half, __m256 (&sums)[kRows][kHalves]) {
  F::template AddBlock<kRows, kHalves>(header, block, a, stride, half, sums);
}

// kHalves half-strips from `half` on, of rows row … row + kRows - 1.
template <class F, int kRows, int kHalves, bool kPrefetch>
void Tile(const MatmulArgs& args, int row, int half) {
  const uint8_t* group = args.weights;
  const ActivationBlock* a = args.blocks + row * args.stride;
  const ActivationBlock* a_end = a + args.k / kBlock;
  float* out = args.out + row * kPairColumns + kHalf * half;
  __m256 sums[kRows][kHalves];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int h = 0; h < kHalves; ++h) {
      sums[r][h] = args.resume ? _mm256_loadu_ps(out + r * kPairColumns + kHalf * h) : _mm256_setzero_ps();
    }
  }
  for (; a < a_end; group += F::kLayout.group_bytes) {
    const uint8_t* block = group + F::kLayout.header_bytes;
#pragma GCC unroll 1
    for (int b = 0; b < F::kBlocks; ++b, ++a, block += F::kBlockBytes) {
      if constexpr (kPrefetch) PrefetchBlock(block, F::kBlockBytes);
      AddHalves<F>(group, block, a, args.stride, half, sums);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int h = 0; h < kHalves; ++h) _mm256_storeu_ps(out + r * kPairColumns + kHalf * h, sums[r][h]);
  }
}

// As many lines as a core can wait for at once.
constexpr int kSoonLines = 24;
TM_INLINE void PrefetchSoon(SoonRead* soon) {
  if (soon == nullptr) return;
  const int end = soon->next + kSoonLines < soon->count ? soon->next + kSoonLines : soon->count;
  for (; soon->next < end; ++soon->next) Prefetch(soon->lines[soon->next]);
}

template <class F, int kRows>
void Rows(const MatmulArgs& args, int row) {
  constexpr int kHalves = kRows == 1 ? 4 : kRows == 2 ? 2 : F::Levels::kHalvesAtOnce;
  int half = 0;
  PrefetchSoon(args.soon);
  if (args.prefetch && row == 0) {
    Tile<F, kRows, kHalves, true>(args, row, 0);
    half = kHalves;
  }
  for (; half < 4; half += kHalves) {
    if (half > 0) PrefetchSoon(args.soon);
    Tile<F, kRows, kHalves, false>(args, row, half);
  }
}
}  // namespace
}  // namespace tokenmill::cpu

// After the formats and rows that it is written in.
#include "kernels/cpu/matmul_table_impl.h"
