#pragma once

#include <cstddef>
#include <cstdint>

// How a matrix lies in memory for the kernels. Its rows (the columns of the output) are cut into pairs of
// strips of 16 (rows that are missing are zeros), and each pair is one contiguous stream along k: group after
// group of 32 or 256 k, and in a group
//   header: `header_halves` × f16[32] (d, and for mins dmin), of groups of 256 only
//   per 32 k: levels of strip 0, levels of strip 1, then the scales of this block, each [32 columns]
// Levels of one strip and block: tiles of 64 bytes [16 columns][4 k]. Of levels in bytes there are eight, tile j for
// k = 4j … 4j + 3. Tighter formats have fewer, whose bytes hold (T0, T1 … are the eight tiles, lowest bits first)
//   4 bits  four:       T0 T1, T2 T3, T4 T5, T6 T7
//   5 bits  five:       T0 and bits 0-2 of T5; T1, bits 3-4 of T5, bit 3 of T7; T2 and bits 0-2 of T6;
//                       T3, bits 3-4 of T6, bit 4 of T7; T4 and bits 0-2 of T7
//   6 bits  two threes: T0 and bits 4-5 of T3; T1 and bits 2-3 of T3; T2 and bits 0-1 of T3; then T4 … T7 likewise
// so that most levels take one mask to unpack. Levels are unsigned: value = d * (level - offset) + m.
// Plain formats have no such groups: per k, 32 elements; kBf16K2 per two k, [32 columns][2 k].

namespace tokenmill::cpu {

inline constexpr int kStripColumns = 16;
inline constexpr int kPairColumns = 32;
inline constexpr int kBlock = 32;

enum class PackedFormat : uint8_t {
  kNibbleD,  // f16 d per 32; offset 8
  kNibbleDM,  // f16 d, m per 32
  kNibbleK,  // f16 d, dmin per 256; u8 scale, min per 32
  kByteD,  // f16 d per 32; offset 128
  kFiveD,  // levels below 32; f16 d per 32; offset 16
  kFiveDM,  // levels below 32; f16 d, m per 32
  kFiveK,  // levels below 32; f16 d, dmin per 256; u8 scale, min per 32
  kSixK16,  // levels below 64; f16 d per 256; i8 scale per 16; offset 32
  kPlainF32,
  kPlainF16,
  kPlainBf16,
  kBf16K2,  // of tables that multiply bf16 by bf16; an even k
};
inline constexpr int kPackedFormats = 12;

/// What a row's activations are for products with a format.
enum class InputForm : uint8_t { kFloats, kBlocks, kBf16 };

struct PackedLayout {
  InputForm input;
  int group_k;  // k of a group; of plain formats what lies together
  int header_bytes;  // of a group
  int level_bytes;  // of a pair and 32 k, both strips: 128 a bit; of plain formats a whole group
  int scale_bytes;  // of a pair and 32 k
  int group_bytes;
  int offset;  // what a level stands above its value
};

inline constexpr PackedLayout kPackedLayouts[kPackedFormats] = {
    {InputForm::kBlocks, 32, 0, 512, 64, 576, 8},  // kNibbleD
    {InputForm::kBlocks, 32, 0, 512, 128, 640, 0},  // kNibbleDM
    {InputForm::kBlocks, 256, 128, 512, 64, 4736, 0},  // kNibbleK
    {InputForm::kBlocks, 32, 0, 1024, 64, 1088, 128},  // kByteD
    {InputForm::kBlocks, 32, 0, 640, 64, 704, 16},  // kFiveD
    {InputForm::kBlocks, 32, 0, 640, 128, 768, 0},  // kFiveDM
    {InputForm::kBlocks, 256, 128, 640, 64, 5760, 0},  // kFiveK
    {InputForm::kBlocks, 256, 64, 768, 64, 6720, 32},  // kSixK16
    {InputForm::kFloats, 1, 0, 128, 0, 128, 0},  // kPlainF32
    {InputForm::kFloats, 1, 0, 64, 0, 64, 0},  // kPlainF16
    {InputForm::kFloats, 1, 0, 64, 0, 64, 0},  // kPlainBf16
    {InputForm::kBf16, 2, 0, 128, 0, 128, 0},  // kBf16K2
};

static constexpr const PackedLayout& LayoutOf(PackedFormat format) {
  return kPackedLayouts[static_cast<int>(format)];
}

// The layout of a format with levels of another size.
static constexpr PackedLayout LayoutWith(PackedFormat format, int level_bytes) {
  PackedLayout layout = LayoutOf(format);
  layout.group_bytes += layout.group_k / kBlock * (level_bytes - layout.level_bytes);
  layout.level_bytes = level_bytes;
  return layout;
}

// Internal linkage: the ISA files must not give their copies to the rest of the program.
/// Bytes of one pair of strips over `k` inputs.
static constexpr size_t PairBytes(PackedFormat format, int64_t k) {
  const PackedLayout& layout = LayoutOf(format);
  return static_cast<size_t>(k / layout.group_k) * static_cast<size_t>(layout.group_bytes);
}

}  // namespace tokenmill::cpu
