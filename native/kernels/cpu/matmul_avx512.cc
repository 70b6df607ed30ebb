#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_avx512.h"

namespace tokenmill::cpu {
namespace {
constexpr int kPlainRows = 8, kPlainStrips = 2;
constexpr int kPlainPrefetchBytes = 12 * 1024;  // how far ahead weights are asked for
}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/levels_impl.h"
#include "kernels/cpu/plain_matmul_impl.h"

// dpbusd adds four products of an unsigned level and an activation to each column. The sums of a block start
// at -offset * (sum of activations). Tiles are some rows × both strips: with four, 8 integer and 8 float sums in
// registers; where levels need no unpacking and there are no mins, six rows fit as well.

namespace tokenmill::cpu {
namespace {

// How far ahead weights are asked for: about a pair of strips.
constexpr int kPrefetchBytes = 12 * 1024;

TM_INLINE __m512i Broadcast4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return _mm512_set1_epi32(four);
}

TM_INLINE __m512 LoadF16Columns(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TM_INLINE __m512 LoadU8Columns(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
TM_INLINE __m512 LoadI8Columns(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// Sums over 16 k of level * activation, for kRows rows and both strips. `part` is which half of the block.
struct Nibbles : LevelsOf<4> {
  template <int kRows>
  TM_INLINE void AddHalf(const uint8_t* levels, const ActivationBlock* a, int64_t stride, int part,
                         __m512i (&sums)[kRows][2]) {
    const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int tile = 2 * part + i;
      const __m512i both0 = LoadBits(levels + 64 * tile), both1 = LoadBits(levels + Place(1) + 64 * tile);
      const __m512i low0 = _mm512_and_si512(both0, mask), low1 = _mm512_and_si512(both1, mask);
      const __m512i high0 = _mm512_and_si512(_mm512_srli_epi16(both0, 4), mask);
      const __m512i high1 = _mm512_and_si512(_mm512_srli_epi16(both1, 4), mask);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i input = Broadcast4(a[r * stride].quants + 8 * tile);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], low0, input);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], low1, input);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i input = Broadcast4(a[r * stride].quants + 8 * tile + 4);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], high0, input);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], high1, input);
      }
    }
  }
};

template <class Source>
struct AllLevels : Source {
  template <int kRows>
  TM_INLINE void AddHalf(const uint8_t* levels, const ActivationBlock* a, int64_t stride, int part,
                         __m512i (&sums)[kRows][2]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int tile = 4 * part + i;
      const __m512i levels0 = Source::Load(levels, tile),
                    levels1 = Source::Load(levels + Source::Place(1), tile);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i input = Broadcast4(a[r * stride].quants + 4 * tile);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], levels0, input);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], levels1, input);
      }
    }
  }
};

// Scales of one block and strip.
struct ScaleD {
  TM_INLINE __m512 D(const uint8_t*, const uint8_t* scales, int strip) {
    return LoadF16Columns(scales + 32 * strip);
  }
};
struct ScaleDM : ScaleD {
  TM_INLINE __m512 M(const uint8_t*, const uint8_t* scales, int strip) {
    return LoadF16Columns(scales + 64 + 32 * strip);
  }
};
// The products are exact: 11 + 6 bits.
struct ScaleK {
  TM_INLINE __m512 D(const uint8_t* header, const uint8_t* scales, int strip) {
    return _mm512_mul_ps(LoadF16Columns(header + 32 * strip), LoadU8Columns(scales + 16 * strip));
  }
  TM_INLINE __m512 M(const uint8_t* header, const uint8_t* scales, int strip) {
    const __m512 dmin = LoadF16Columns(header + 64 + 32 * strip);
    return _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(dmin, LoadU8Columns(scales + 32 + 16 * strip)));
  }
};

template <PackedFormat kPacked, class LevelsType, class ScalesType, bool kMins>
struct Format {
  using Levels = LevelsType;
  using Scales = ScalesType;
  static constexpr PackedLayout kLayout = LayoutWith(kPacked, 2 * Levels::kStripBytes);
  static constexpr int kTileRows = kLayout.level_bytes == 1024 && !kMins ? 6 : 4;
  static constexpr int kBlocks = kLayout.group_k / kBlock;
  static constexpr int kBlockBytes = kLayout.level_bytes + kLayout.scale_bytes;

  template <int kRows>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, __m512 (&sums)[kRows][2]) {
    const uint8_t* scales = block + kLayout.level_bytes;
    __m512i dots[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if constexpr (kLayout.offset != 0) {
        dots[r][0] = dots[r][1] = _mm512_set1_epi32(-kLayout.offset * a[r * stride].sum);
      } else {
        dots[r][0] = dots[r][1] = _mm512_setzero_si512();
      }
    }
    Levels::template AddHalf<kRows>(block, a, stride, 0, dots);
    Levels::template AddHalf<kRows>(block, a, stride, 1, dots);
#pragma GCC unroll 2
    for (int s = 0; s < 2; ++s) {
      const __m512 d = Scales::D(header, scales, s);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(a[r * stride].scale));
        sums[r][s] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[r][s]), sums[r][s]);
      }
      if constexpr (kMins) {
        const __m512 m = Scales::M(header, scales, s);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          sums[r][s] = _mm512_fmadd_ps(m, _mm512_set1_ps(a[r * stride].scaled_sum), sums[r][s]);
        }
      }
    }
  }
};

using FormatNibbleD = Format<PackedFormat::kNibbleD, Nibbles, ScaleD, false>;
using FormatNibbleDM = Format<PackedFormat::kNibbleDM, Nibbles, ScaleDM, true>;
using FormatNibbleK = Format<PackedFormat::kNibbleK, Nibbles, ScaleK, true>;
using FormatByteD = Format<PackedFormat::kByteD, AllLevels<ByteLevels>, ScaleD, false>;
template <class Source>
using FormatFiveD = Format<PackedFormat::kFiveD, AllLevels<Source>, ScaleD, false>;
template <class Source>
using FormatFiveDM = Format<PackedFormat::kFiveDM, AllLevels<Source>, ScaleDM, true>;
template <class Source>
using FormatFiveK = Format<PackedFormat::kFiveK, AllLevels<Source>, ScaleK, true>;

// A scale per 16 k: the halves of a block are added one after the other.
template <class Source>
struct FormatSixK16 : Format<PackedFormat::kSixK16, AllLevels<Source>, ScaleD, false> {
  using Levels = AllLevels<Source>;
  using FormatSixK16::Format::kLayout;
  static constexpr int kTileRows = 4;
  template <int kRows>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, __m512 (&sums)[kRows][2]) {
    const uint8_t* scales = block + kLayout.level_bytes;
#pragma GCC unroll 2
    for (int part = 0; part < 2; ++part) {
      __m512i dots[kRows][2];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const ActivationBlock& input = a[r * stride];
        const int32_t sum = part == 0 ? input.first_half : input.sum - input.first_half;
        dots[r][0] = dots[r][1] = _mm512_set1_epi32(-kLayout.offset * sum);
      }
      Levels::template AddHalf<kRows>(block, a, stride, part, dots);
#pragma GCC unroll 2
      for (int s = 0; s < 2; ++s) {
        const __m512 scale = LoadI8Columns(scales + 32 * part + 16 * s);
        const __m512 d = _mm512_mul_ps(LoadF16Columns(header + 32 * s), scale);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512 factor = _mm512_mul_ps(d, _mm512_set1_ps(a[r * stride].scale));
          sums[r][s] = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(dots[r][s]), sums[r][s]);
        }
      }
    }
  }
};

TM_INLINE void PrefetchBlock(const uint8_t* p, int bytes) {
#pragma GCC unroll 32
  for (int i = 0; i < bytes; i += 64) Prefetch(p + kPrefetchBytes + i);
}

// Rows row … row + kRows - 1 of both strips.
template <class F, int kRows, bool kPrefetch>
void Tile(const MatmulArgs& args, int row) {
  const uint8_t* group = args.weights;
  const ActivationBlock* a = args.blocks + row * args.stride;
  const ActivationBlock* a_end = a + args.k / kBlock;
  float* out = args.out + row * kPairColumns;
  __m512 sums[kRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = args.resume ? _mm512_loadu_ps(out + r * kPairColumns) : _mm512_setzero_ps();
    sums[r][1] = args.resume ? _mm512_loadu_ps(out + r * kPairColumns + 16) : _mm512_setzero_ps();
  }
  for (; a < a_end; group += F::kLayout.group_bytes) {
    const uint8_t* block = group + F::kLayout.header_bytes;
#pragma GCC unroll 1
    for (int b = 0; b < F::kBlocks; ++b, ++a, block += F::kBlockBytes) {
      if constexpr (kPrefetch) PrefetchBlock(block, F::kBlockBytes);
      F::template AddBlock<kRows>(group, block, a, args.stride, sums);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(out + r * kPairColumns, sums[r][0]);
    _mm512_storeu_ps(out + r * kPairColumns + 16, sums[r][1]);
  }
}

// As many lines as a core can wait for at once.
constexpr int kSoonLines = 48;
TM_INLINE void PrefetchSoon(SoonRead* soon) {
  if (soon == nullptr) return;
  const int end = soon->next + kSoonLines < soon->count ? soon->next + kSoonLines : soon->count;
  for (; soon->next < end; ++soon->next) Prefetch(soon->lines[soon->next]);
}

template <class F, int kRows>
void Rows(const MatmulArgs& args, int row) {
  PrefetchSoon(args.soon);
  if (args.prefetch && row == 0) return Tile<F, kRows, true>(args, row);
  Tile<F, kRows, false>(args, row);
}

}  // namespace
}  // namespace tokenmill::cpu

// After the formats and rows that it is written in.
#include "kernels/cpu/matmul_table_impl.h"

namespace tokenmill::cpu {

void SetMatmulKernelsAvx512(CpuKernels* kernels) { SetMatmulKernels(kernels); }

}  // namespace tokenmill::cpu
