// Products with quantized weights over registers of four columns. Included by matmul_neon.cc and
// matmul_neon_i8mm.cc only, after simd_neon.h, their Dot and kSignedProducts: whether it takes levels as signed.

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/levels_impl.h"

namespace tokenmill::cpu {
namespace {

constexpr int kQuad = 4;  // columns of a register

// How far ahead weights are asked for: about a pair of strips.
constexpr int kPrefetchBytes = 12 * 1024;

TM_INLINE float32x4_t LoadF16Quad(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
TM_INLINE uint8x8_t LoadFour(const uint8_t* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return vreinterpret_u8_u32(vdup_n_u32(four));
}
TM_INLINE float32x4_t LoadU8Quad(const uint8_t* p) {
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(LoadFour(p)))));
}
TM_INLINE float32x4_t LoadI8Quad(const uint8_t* p) {
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(LoadFour(p))))));
}

// Levels of 4 columns: those of k = 8 * eight … + 3 and of the next four, each [4 columns][4 k].
struct Nibbles : LevelsOf<4> {
  static constexpr bool kOffsetInLevels = false;
  TM_INLINE uint8x16x2_t LoadEight(const uint8_t* levels, int eight) {
    const uint8x16_t both = vld1q_u8(levels + 64 * eight);
    return {{vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8(both, 4)}};
  }
};
template <class Source>
struct SmallLevels : Source {
  static constexpr bool kOffsetInLevels = false;
  TM_INLINE uint8x16x2_t LoadEight(const uint8_t* levels, int eight) {
    return {{Source::Load(levels, 2 * eight), Source::Load(levels, 2 * eight + 1)}};
  }
};
// Levels of 8 bits. Where products are signed, their values: the offset of 128 is gone.
struct Bytes : SmallLevels<ByteLevels> {
  static constexpr bool kOffsetInLevels = kSignedProducts;
  TM_INLINE uint8x16x2_t LoadEight(const uint8_t* levels, int eight) {
    const uint8x16x2_t tiles = SmallLevels::LoadEight(levels, eight);
    if constexpr (!kSignedProducts) return tiles;
    const uint8x16_t highest = vdupq_n_u8(128);
    return {{veorq_u8(tiles.val[0], highest), veorq_u8(tiles.val[1], highest)}};
  }
};

// Scales of one block and 4 columns: sum += d * (level sum - offset * sum of activations) + m * sum.
struct ScaleD {
  TM_INLINE float32x4_t D(const uint8_t*, const uint8_t* scales, int column) {
    return LoadF16Quad(scales + 2 * column);
  }
};
struct ScaleDM : ScaleD {
  TM_INLINE float32x4_t M(const uint8_t*, const uint8_t* scales, int column) {
    return LoadF16Quad(scales + 64 + 2 * column);
  }
};
// The products are exact: 11 + 6 bits.
struct ScaleK {
  TM_INLINE float32x4_t D(const uint8_t* header, const uint8_t* scales, int column) {
    return vmulq_f32(LoadF16Quad(header + 2 * column), LoadU8Quad(scales + column));
  }
  TM_INLINE float32x4_t M(const uint8_t* header, const uint8_t* scales, int column) {
    const float32x4_t dmin = LoadF16Quad(header + 64 + 2 * column);
    return vsubq_f32(vdupq_n_f32(0), vmulq_f32(dmin, LoadU8Quad(scales + 32 + column)));
  }
};

template <PackedFormat kPacked, class LevelsType, class ScalesType, bool kMins>
struct Format {
  using Levels = LevelsType;
  using Scales = ScalesType;
  static constexpr PackedLayout kLayout = LayoutWith(kPacked, 2 * Levels::kStripBytes);
  static constexpr int kOffset = Levels::kOffsetInLevels ? 0 : kLayout.offset;
  static constexpr int kTileRows = 4;
  static constexpr int kBlocks = kLayout.group_k / kBlock;
  static constexpr int kBlockBytes = kLayout.level_bytes + kLayout.scale_bytes;

  // sum += d * scale * (level sum - offset * sum of activations) for one register of columns and one row.
  TM_INLINE void AddScaled(float32x4_t d, int32x4_t dot, float scale, int32_t input_sum, float32x4_t& sum) {
    if constexpr (kOffset != 0) dot = vsubq_s32(dot, vdupq_n_s32(kOffset * input_sum));
    sum = vfmaq_f32(sum, vmulq_n_f32(d, scale), vcvtq_f32_s32(dot));
  }

  template <int kRows, int kQuads>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, int quad, float32x4_t (&sums)[kRows][kQuads]) {
    const uint8_t* scales = block + kLayout.level_bytes;
    int32x4_t dots[kRows][kQuads];
    Dot<Levels, 0, 2>(block + Levels::Place(quad), a, stride, dots);
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      const int column = kQuad * (quad + q);
      const float32x4_t d = Scales::D(header, scales, column);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        AddScaled(d, dots[r][q], a[r * stride].scale, a[r * stride].sum, sums[r][q]);
      }
      if constexpr (kMins) {
        const float32x4_t m = Scales::M(header, scales, column);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          sums[r][q] = vfmaq_n_f32(sums[r][q], m, a[r * stride].scaled_sum);
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
using FormatFiveD = Format<PackedFormat::kFiveD, SmallLevels<Source>, ScaleD, false>;
template <class Source>
using FormatFiveDM = Format<PackedFormat::kFiveDM, SmallLevels<Source>, ScaleDM, true>;
template <class Source>
using FormatFiveK = Format<PackedFormat::kFiveK, SmallLevels<Source>, ScaleK, true>;

// A scale per 16 k: the halves of a block are added one after the other.
template <class Source>
struct FormatSixK16 : Format<PackedFormat::kSixK16, SmallLevels<Source>, ScaleD, false> {
  using Levels = SmallLevels<Source>;
  using FormatSixK16::Format::AddScaled;
  using FormatSixK16::Format::kLayout;
  template <int kHalf, int kRows, int kQuads>
  TM_INLINE void AddHalf(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                         int64_t stride, int quad, float32x4_t (&sums)[kRows][kQuads]) {
    const uint8_t* scales = block + kLayout.level_bytes + 32 * kHalf;
    int32x4_t dots[kRows][kQuads];
    Dot<Levels, kHalf, kHalf + 1>(block + Levels::Place(quad), a, stride, dots);
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      const int column = kQuad * (quad + q);
      const float32x4_t d = vmulq_f32(LoadF16Quad(header + 2 * column), LoadI8Quad(scales + column));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const ActivationBlock& input = a[r * stride];
        const int32_t sum = kHalf == 0 ? input.first_half : input.sum - input.first_half;
        AddScaled(d, dots[r][q], input.scale, sum, sums[r][q]);
      }
    }
  }

  template <int kRows, int kQuads>
  TM_INLINE void AddBlock(const uint8_t* header, const uint8_t* block, const ActivationBlock* a,
                          int64_t stride, int quad, float32x4_t (&sums)[kRows][kQuads]) {
    AddHalf<0>(header, block, a, stride, quad, sums);
    AddHalf<1>(header, block, a, stride, quad, sums);
  }
};

TM_INLINE void PrefetchBlock(const uint8_t* p, int bytes) {
#pragma GCC unroll 32
  for (int i = 0; i < bytes; i += 64) Prefetch(p + kPrefetchBytes + i);
}

// kQuads registers of columns from `quad` on, of rows row … row + kRows - 1.
template <class F, int kRows, int kQuads, bool kPrefetch>
void Tile(const MatmulArgs& args, int row, int quad) {
  const uint8_t* group = args.weights;
  const ActivationBlock* a = args.blocks + row * args.stride;
  const ActivationBlock* a_end = a + args.k / kBlock;
  float* out = args.out + row * kPairColumns + kQuad * quad;
  float32x4_t sums[kRows][kQuads];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) {
      sums[r][q] = args.resume ? vld1q_f32(out + r * kPairColumns + kQuad * q) : vdupq_n_f32(0);
    }
  }
  for (; a < a_end; group += F::kLayout.group_bytes) {
    const uint8_t* block = group + F::kLayout.header_bytes;
#pragma GCC unroll 1
    for (int b = 0; b < F::kBlocks; ++b, ++a, block += F::kBlockBytes) {
      if constexpr (kPrefetch) PrefetchBlock(block, F::kBlockBytes);
      F::template AddBlock<kRows, kQuads>(group, block, a, args.stride, quad, sums);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) vst1q_f32(out + r * kPairColumns + kQuad * q, sums[r][q]);
  }
}

// Integer and float sums stay in registers: 8 to 16 of the 32.
template <class F, int kRows>
void Rows(const MatmulArgs& args, int row) {
  constexpr int kQuads = kRows == 1 ? 8 : kRows == 2 ? 4 : 2;
  int quad = 0;
  if (args.prefetch && row == 0) {
    Tile<F, kRows, kQuads, true>(args, row, 0);
    quad = kQuads;
  }
  for (; quad < 8; quad += kQuads) Tile<F, kRows, kQuads, false>(args, row, quad);
}
}  // namespace
}  // namespace tokenmill::cpu

// After the formats and rows that it is written in.
#include "kernels/cpu/matmul_table_impl.h"
