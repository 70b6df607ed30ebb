#pragma once

#include <stddef.h>
#include <stdint.h>

// How a matrix [features][k] lies in device memory; for host and device.
//
// Strips of 16 features (missing ones are zeros), each one contiguous stream of records along k, a record of
// one or four chunks of 64 k (missing ones are zeros; k is a multiple of 32 for quantized forms):
//   levels of its chunks | upper bits of its chunks | scales of its chunks | header
//
// Levels are the A fragments of the tensor cores' m16n8k16 (8-bit ones: of m16n8k32), in the order of lanes,
// so that a warp reads them by 16-byte loads side by side and unpacks them in place. A chunk has four steps
// s of 16 k. In step s lane l (g = l / 4, t = l % 4) has in register r (0 to 3), half h (0, 1) the level of
//   feature g + 8 * (r % 2),   k = StepK(s, t) + 2 * (r / 2) + h.
// Which k of its block of 32 a lane has is free as long as activations are read alike: it has 8t to 8t + 7,
// so that one 16-byte load brings all f16 activations that a lane needs for a block. With a scale per 16,
// where a step must be one group, it has 4t to 4t + 3 of each 16.
//   4 bits   word [lane][s]: register r, half h in the nibble at bit 4r + 16h
//   5 bits   the lower four likewise; upper bit in word [lane], at bit (4r + 4) % 16 + s + 16h
//   6 bits   the lower four likewise; upper two in word [lane][s / 2], at bit (4r + 4) % 16 + 2 * (s % 2) +
//            16h
//   8 bits   word [s / 2][lane][2 * (s % 2) + r % 2]: byte 2 * (r / 2) + h; two's complement
//   16 bits  word [s][lane][r], half h
// 4, 5 and 6-bit levels are stored unsigned; the value's is stored - offset.
//
// Scales of a chunk, for each g 4-byte words of features g and g + 8 in turn; b = s / 2 is the block of 32:
//   kD    word [g][b]: f16 d, d
//   kDM   words [g][b]: f16 d, d; f16 m, m
//   kK    word [g][b]: bytes scale, scale, min, min; header [g]: f16 d, d; dmin, dmin
//   kK16  word [g][b]: bytes of scale + 128: of the first 16 both features, of the second 16; header [g]:
//         f16 d, d
//
// kF32 has no fragments: strips of 32 features, [k][32].

namespace tokenmill::cuda {

#ifdef __CUDACC__
#define WEIGHT_FN static __host__ __device__ __forceinline__
#else
#define WEIGHT_FN static inline
#endif

enum class WeightForm : int32_t { kQ4_0, kQ4_1, kQ4_K, kQ5_0, kQ5_1, kQ5_K, kQ6_K, kQ8_0, kF16, kBF16, kF32 };
inline constexpr int kWeightForms = 11;

/// value = d * level (kD, kK16 with d * scale for d), d * level + m (kDM), (d * scale) * level - dmin * min
/// (kK).
enum class WeightScales : int32_t { kNone, kD, kDM, kK, kK16 };

inline constexpr int kStripFeatures = 16;
inline constexpr int kChunkK = 64;
inline constexpr int kF32StripFeatures = 32;

/// Sizes in bytes, of one strip.
struct WeightLayout {
  int bits;  // of a level; 32: kF32
  WeightScales scales;
  int offset;         // what a stored level stands above the value's
  int record_chunks;  // 1 or 4
  int level_bytes;    // of a chunk, without the upper bits
  int high_bytes;     // of a chunk
  int scale_bytes;    // of a chunk
  int header_bytes;   // of a record
  int record_bytes;
};

WEIGHT_FN constexpr WeightLayout MakeWeightLayout(int bits, WeightScales scales, int offset) {
  const bool k = scales == WeightScales::kK || scales == WeightScales::kK16;
  WeightLayout layout = {bits, scales, offset, k ? 4 : 1, 0, 0, 0, 0, 0};
  const int lower = bits == 5 || bits == 6 ? 4 : bits;
  layout.level_bytes = kStripFeatures * kChunkK * lower / 8;
  layout.high_bytes = kStripFeatures * kChunkK * (bits - lower) / 8;
  layout.scale_bytes = scales == WeightScales::kNone ? 0 : scales == WeightScales::kDM ? 128 : 64;
  layout.header_bytes = scales == WeightScales::kK ? 64 : scales == WeightScales::kK16 ? 32 : 0;
  layout.record_bytes = layout.record_chunks * (layout.level_bytes + layout.high_bytes + layout.scale_bytes) +
                        layout.header_bytes;
  return layout;
}

WEIGHT_FN constexpr WeightLayout LayoutOf(WeightForm form) {
  switch (form) {
    case WeightForm::kQ4_0:
      return MakeWeightLayout(4, WeightScales::kD, 8);
    case WeightForm::kQ4_1:
      return MakeWeightLayout(4, WeightScales::kDM, 0);
    case WeightForm::kQ4_K:
      return MakeWeightLayout(4, WeightScales::kK, 0);
    case WeightForm::kQ5_0:
      return MakeWeightLayout(5, WeightScales::kD, 16);
    case WeightForm::kQ5_1:
      return MakeWeightLayout(5, WeightScales::kDM, 0);
    case WeightForm::kQ5_K:
      return MakeWeightLayout(5, WeightScales::kK, 0);
    case WeightForm::kQ6_K:
      return MakeWeightLayout(6, WeightScales::kK16, 32);
    case WeightForm::kQ8_0:
      return MakeWeightLayout(8, WeightScales::kD, 0);
    case WeightForm::kF16:
    case WeightForm::kBF16:
      return MakeWeightLayout(16, WeightScales::kNone, 0);
    default:
      return {32, WeightScales::kNone, 0, 0, 0, 0, 0, 0, 0};
  }
}
static_assert(LayoutOf(WeightForm::kQ4_K).record_bytes == 2368);  // 4.625 bits a weight
static_assert(LayoutOf(WeightForm::kQ6_K).record_bytes == 3360);  // 6.5625

/// The least multiple of k that a row has.
WEIGHT_FN constexpr int KMultipleOf(WeightForm form) {
  const WeightLayout layout = LayoutOf(form);
  return layout.bits > 8 ? 1 : layout.record_chunks == 4 ? 256 : 32;
}

/// From one strip to the next.
WEIGHT_FN int64_t StripBytes(const WeightLayout& layout, int32_t k) {
  if (layout.bits == 32) return int64_t{k} * kF32StripFeatures * 4;
  const int32_t record_k = layout.record_chunks * kChunkK;
  return int64_t{(k + record_k - 1) / record_k} * layout.record_bytes;
}

/// The whole matrix.
WEIGHT_FN int64_t WeightBytes(const WeightLayout& layout, int32_t features, int32_t k) {
  const int32_t strip = layout.bits == 32 ? kF32StripFeatures : kStripFeatures;
  return int64_t{(features + strip - 1) / strip} * StripBytes(layout, k);
}

/// A chunk's parts, of one record or apart from each other.
struct ChunkParts {
  const uint8_t *levels, *high, *scales, *header;
};
WEIGHT_FN ChunkParts PartsOfChunk(const WeightLayout& layout, const uint8_t* strip, int32_t chunk) {
  const int in_record = layout.record_chunks == 1 ? 0 : chunk % 4;
  const uint8_t* levels =
      strip + int64_t{layout.record_chunks == 1 ? chunk : chunk / 4} * layout.record_bytes;
  const uint8_t* high = levels + layout.record_chunks * layout.level_bytes;
  const uint8_t* scales = high + layout.record_chunks * layout.high_bytes;
  return {levels + in_record * layout.level_bytes, high + in_record * layout.high_bytes,
          scales + in_record * layout.scale_bytes, scales + layout.record_chunks * layout.scale_bytes};
}

/// The first k that lanes with l % 4 = t have in step s of a chunk.
WEIGHT_FN int StepK(const WeightLayout& layout, int s, int t) {
  return layout.scales == WeightScales::kK16 ? 16 * s + 4 * t : 32 * (s / 2) + 8 * t + 4 * (s % 2);
}

/// One weight in its format's parts; of plain forms `bits` alone.
struct WeightParts {
  int level;      // the value's
  int scale;      // 1 where the format has none
  int min;        // -1 for kDM
  uint16_t d, m;  // f16
  uint32_t bits;
};

WEIGHT_FN uint32_t ReadBits16(const uint8_t* at) { return at[0] | static_cast<uint32_t>(at[1]) << 8; }
WEIGHT_FN uint32_t ReadBits32(const uint8_t* at) { return ReadBits16(at) | ReadBits16(at + 2) << 16; }

/// The level at `k` of the chunk and feature `f` of the strip.
WEIGHT_FN int ReadLevel(const WeightLayout& layout, const ChunkParts& parts, int f, int k) {
  const bool per16 = layout.scales == WeightScales::kK16;
  const int t = per16 ? k % 16 / 4 : k % 32 / 8;
  const int s = per16 ? k / 16 : k / 32 * 2 + k % 8 / 4;
  const int r = f / 8 + k % 4 / 2 * 2, h = k % 2, lane = f % 8 * 4 + t;
  if (layout.bits == 16)
    return static_cast<int>(ReadBits16(parts.levels + s * 512 + lane * 16 + r * 4 + h * 2));
  if (layout.bits == 8) {
    const int word = 2 * (s % 2) + r % 2;
    return static_cast<int8_t>(parts.levels[s / 2 * 512 + lane * 16 + word * 4 + 2 * (r / 2) + h]);
  }
  int level = static_cast<int>(ReadBits32(parts.levels + lane * 16 + s * 4) >> (4 * r + 16 * h) & 15);
  if (layout.bits == 5) {
    const uint32_t high = ReadBits32(parts.high + lane * 4);
    level |= static_cast<int>(high >> ((4 * r + 4) % 16 + s + 16 * h) & 1) << 4;
  } else if (layout.bits == 6) {
    const uint32_t high = ReadBits32(parts.high + lane * 8 + s / 2 * 4);
    level |= static_cast<int>(high >> ((4 * r + 4) % 16 + 2 * (s % 2) + 16 * h) & 3) << 4;
  }
  return level - layout.offset;
}

/// Element [feature][k] of a matrix of `row_k` inputs: for gathering single rows.
WEIGHT_FN WeightParts ReadWeight(const WeightLayout& layout, const uint8_t* weights, int32_t row_k,
                                 int32_t feature, int32_t k) {
  WeightParts parts = {0, 1, 0, 0, 0, 0};
  if (layout.bits == 32) {
    const uint8_t* strip = weights + feature / kF32StripFeatures * StripBytes(layout, row_k);
    parts.bits = ReadBits32(strip + (int64_t{k} * kF32StripFeatures + feature % kF32StripFeatures) * 4);
    return parts;
  }
  const uint8_t* strip = weights + feature / kStripFeatures * StripBytes(layout, row_k);
  const ChunkParts from = PartsOfChunk(layout, strip, k / kChunkK);
  const int f = feature % kStripFeatures, g = f % 8, upper = f / 8, block = k % kChunkK / 32;
  parts.level = ReadLevel(layout, from, f, k % kChunkK);
  parts.bits = static_cast<uint32_t>(parts.level);
  switch (layout.scales) {
    case WeightScales::kNone:
      break;
    case WeightScales::kD:
      parts.d = static_cast<uint16_t>(ReadBits16(from.scales + g * 8 + block * 4 + upper * 2));
      break;
    case WeightScales::kDM:
      parts.d = static_cast<uint16_t>(ReadBits16(from.scales + g * 16 + block * 8 + upper * 2));
      parts.m = static_cast<uint16_t>(ReadBits16(from.scales + g * 16 + block * 8 + 4 + upper * 2));
      parts.min = -1;
      break;
    case WeightScales::kK:
      parts.d = static_cast<uint16_t>(ReadBits16(from.header + g * 8 + upper * 2));
      parts.m = static_cast<uint16_t>(ReadBits16(from.header + g * 8 + 4 + upper * 2));
      parts.scale = from.scales[g * 8 + block * 4 + upper];
      parts.min = from.scales[g * 8 + block * 4 + 2 + upper];
      break;
    case WeightScales::kK16:
      parts.d = static_cast<uint16_t>(ReadBits16(from.header + g * 4 + upper * 2));
      parts.scale = from.scales[g * 8 + block * 4 + k % 32 / 16 * 2 + upper] - 128;
      break;
  }
  return parts;
}

}  // namespace tokenmill::cuda
