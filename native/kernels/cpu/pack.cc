#include "kernels/cpu/pack.h"

#include <cstring>

#include "core/float16.h"
#include "kernels/cpu/packed_levels.h"
#include "quant/k_scales.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace tokenmill::cpu {
namespace {

// A group of one row: levels as packed, f16 words for the header or the block, and bytes for the block.
struct Group {
  uint8_t levels[256];
  uint16_t d = 0;
  uint16_t m = 0;     // or dmin
  uint8_t scale[16];  // per 32 k, or per 16
  uint8_t min[8];
};

template <class Block>
void ExpandFives(const Block& block, Group* group) {
  for (int i = 0; i < 32; ++i) {
    const int nibble = block.qs[i % 16] >> i / 16 * 4 & 0x0f;
    group->levels[i] = static_cast<uint8_t>(nibble | (block.qh[i / 8] >> i % 8 & 1) << 4);
  }
}

template <class Block>
void ExpandFours(const Block& block, Group* group) {
  for (int i = 0; i < 16; ++i) {
    group->levels[i] = block.qs[i] & 0x0f;
    group->levels[i + 16] = block.qs[i] >> 4;
  }
}

template <class Block>
void ExpandKScales(const Block& block, Group* group) {
  const KScales scales = UnpackKScales(block.scales);
  std::memcpy(group->scale, scales.scale, 8);
  std::memcpy(group->min, scales.min, 8);
  group->d = block.d;
  group->m = block.dmin;
}

void Expand(const BlockQ4_0& block, Group* group) {
  group->d = block.d;
  ExpandFours(block, group);
}

void Expand(const BlockQ4_1& block, Group* group) {
  group->d = block.d;
  group->m = block.m;
  ExpandFours(block, group);
}

void Expand(const BlockQ5_0& block, Group* group) {
  group->d = block.d;
  ExpandFives(block, group);
}

void Expand(const BlockQ5_1& block, Group* group) {
  group->d = block.d;
  group->m = block.m;
  ExpandFives(block, group);
}

void Expand(const BlockQ8_0& block, Group* group) {
  group->d = block.d;
  for (int i = 0; i < 32; ++i) group->levels[i] = static_cast<uint8_t>(block.qs[i] + 128);
}

void Expand(const BlockQ4_K& block, Group* group) {
  ExpandKScales(block, group);
  for (int i = 0; i < 128; ++i) {
    uint8_t* levels = group->levels + i / 32 * 64 + i % 32;
    levels[0] = block.qs[i] & 0x0f;
    levels[32] = block.qs[i] >> 4;
  }
}

void Expand(const BlockQ5_K& block, Group* group) {
  ExpandKScales(block, group);
  for (int i = 0; i < 128; ++i) {
    const int pair = i / 32, bits = block.qh[i % 32] >> 2 * pair;
    uint8_t* levels = group->levels + pair * 64 + i % 32;
    levels[0] = static_cast<uint8_t>((block.qs[i] & 0x0f) | (bits & 1) << 4);
    levels[32] = static_cast<uint8_t>(block.qs[i] >> 4 | (bits >> 1 & 1) << 4);
  }
}

void Expand(const BlockQ6_K& block, Group* group) {
  group->d = block.d;
  std::memcpy(group->scale, block.scales, 16);
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t first = block.ql[64 * half + i], second = block.ql[64 * half + 32 + i];
      const int upper = block.qh[32 * half + i];
      uint8_t* levels = group->levels + 128 * half + i;
      levels[0] = static_cast<uint8_t>((first & 0x0f) | (upper & 3) << 4);
      levels[32] = static_cast<uint8_t>((second & 0x0f) | (upper >> 2 & 3) << 4);
      levels[64] = static_cast<uint8_t>(first >> 4 | (upper >> 4 & 3) << 4);
      levels[96] = static_cast<uint8_t>(second >> 4 | (upper >> 6) << 4);
    }
  }
}

void PutHalf(uint16_t half, int column, uint8_t* halves) {
  std::memcpy(halves + 2 * column, &half, sizeof(half));
}

float TakeHalf(const uint8_t* halves, int column) {
  uint16_t half;
  std::memcpy(&half, halves + 2 * column, sizeof(half));
  return F16ToF32(half);
}

float TakeBf16(const uint8_t* elements, int64_t index) {
  uint16_t value;
  std::memcpy(&value, elements + 2 * index, sizeof(value));
  return Bf16ToF32(value);
}

bool HasMins(PackedFormat format) {
  return format == PackedFormat::kNibbleDM || format == PackedFormat::kFiveDM ||
         format == PackedFormat::kNibbleK || format == PackedFormat::kFiveK;
}

template <int kBits>
void PutGroup(PackedFormat format, const Group& group, int column, uint8_t* out) {
  const PackedLayout& layout = LayoutOf(format);
  if (layout.header_bytes != 0) {
    PutHalf(group.d, column, out);
    if (HasMins(format)) PutHalf(group.m, column, out + 64);
  }
  uint8_t* block = out + layout.header_bytes;
  for (int b = 0; b < layout.group_k / kBlock; ++b, block += layout.level_bytes + layout.scale_bytes) {
    PutLevels<kBits>(group.levels + kBlock * b, column, block);
    uint8_t* scales = block + layout.level_bytes;
    if (format == PackedFormat::kSixK16) {
      scales[column] = group.scale[2 * b];
      scales[32 + column] = group.scale[2 * b + 1];
    } else if (layout.header_bytes != 0) {
      scales[column] = group.scale[b];
      scales[32 + column] = group.min[b];
    } else {
      PutHalf(group.d, column, scales);
      if (HasMins(format)) PutHalf(group.m, column, scales + 64);
    }
  }
}

template <class Block, int kBits>
void PackQuantized(PackedFormat format, const void* source, int rows, int64_t k, uint8_t* pair) {
  const Block* blocks = static_cast<const Block*>(source);
  const int64_t groups = k / Block::kElements;
  const int group_bytes = LayoutOf(format).group_bytes;
  for (int row = 0; row < rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      Group group;
      Expand(blocks[row * groups + g], &group);
      PutGroup<kBits>(format, group, row, pair + g * group_bytes);
    }
  }
}

template <class T>
void PackPlain(const void* source, int rows, int64_t k, uint8_t* pair) {
  const T* values = static_cast<const T*>(source);
  T* out = reinterpret_cast<T*>(pair);
  for (int row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) out[kPairColumns * i + row] = values[row * k + i];
  }
}

// Where k = i of a column is, in elements.
int64_t K2Place(int64_t i, int column) { return 2 * (kPairColumns * (i / 2) + column) + i % 2; }

void PackBf16K2(const void* source, int rows, int64_t k, uint8_t* pair) {
  const uint16_t* values = static_cast<const uint16_t*>(source);
  uint16_t* out = reinterpret_cast<uint16_t*>(pair);
  for (int row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) out[K2Place(i, row)] = values[row * k + i];
  }
}

// d and m of a block's 32 k (or of 16 where `part` says which) as DequantizeBlock has them.
void TakeScales(PackedFormat format, const uint8_t* group, const uint8_t* block, int column, int part,
                float* d, float* m) {
  const PackedLayout& layout = LayoutOf(format);
  const uint8_t* scales = block + layout.level_bytes;
  *m = 0;
  if (format == PackedFormat::kSixK16) {
    *d = TakeHalf(group, column) * static_cast<float>(static_cast<int8_t>(scales[32 * part + column]));
  } else if (layout.header_bytes != 0) {
    *d = TakeHalf(group, column) * static_cast<float>(scales[column]);
    *m = -(TakeHalf(group + 64, column) * static_cast<float>(scales[32 + column]));
  } else {
    *d = TakeHalf(scales, column);
    if (HasMins(format)) *m = TakeHalf(scales + 64, column);
  }
}

void UnpackQuantized(PackedFormat format, const uint8_t* pair, int column, int64_t k, float* out) {
  const PackedLayout& layout = LayoutOf(format);
  const bool mins = HasMins(format);
  const uint8_t* group = pair;
  for (int64_t begin = 0; begin < k; begin += layout.group_k, group += layout.group_bytes) {
    const uint8_t* block = group + layout.header_bytes;
    for (int b = 0; b < layout.group_k / kBlock; ++b, block += layout.level_bytes + layout.scale_bytes) {
      uint8_t levels[kBlock];
      TakeLevels(layout, block, column, levels);
      for (int part = 0; part < 2; ++part) {
        float d, m;
        TakeScales(format, group, block, column, part, &d, &m);
        for (int i = 16 * part; i < 16 * part + 16; ++i, ++out) {
          const float product = d * static_cast<float>(levels[i] - layout.offset);
          *out = mins ? product + m : product;
        }
      }
    }
  }
}

}  // namespace

PackedFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return PackedFormat::kNibbleD;
    case DType::kQ4_1:
      return PackedFormat::kNibbleDM;
    case DType::kQ4_K:
      return PackedFormat::kNibbleK;
    case DType::kQ8_0:
      return PackedFormat::kByteD;
    case DType::kQ5_0:
      return PackedFormat::kFiveD;
    case DType::kQ5_1:
      return PackedFormat::kFiveDM;
    case DType::kQ5_K:
      return PackedFormat::kFiveK;
    case DType::kQ6_K:
      return PackedFormat::kSixK16;
    case DType::kF16:
      return PackedFormat::kPlainF16;
    case DType::kBF16:
      return PackedFormat::kPlainBf16;
    default:
      return PackedFormat::kPlainF32;
  }
}

void PackPair(PackedFormat format, DType dtype, const void* source, int rows, int64_t k, uint8_t* pair) {
  if (format == PackedFormat::kBf16K2) return PackBf16K2(source, rows, k, pair);
  switch (dtype) {
    case DType::kQ4_0:
      return PackQuantized<BlockQ4_0, 4>(format, source, rows, k, pair);
    case DType::kQ4_1:
      return PackQuantized<BlockQ4_1, 4>(format, source, rows, k, pair);
    case DType::kQ4_K:
      return PackQuantized<BlockQ4_K, 4>(format, source, rows, k, pair);
    case DType::kQ5_0:
      return PackQuantized<BlockQ5_0, 5>(format, source, rows, k, pair);
    case DType::kQ5_1:
      return PackQuantized<BlockQ5_1, 5>(format, source, rows, k, pair);
    case DType::kQ5_K:
      return PackQuantized<BlockQ5_K, 5>(format, source, rows, k, pair);
    case DType::kQ6_K:
      return PackQuantized<BlockQ6_K, 6>(format, source, rows, k, pair);
    case DType::kQ8_0:
      return PackQuantized<BlockQ8_0, 8>(format, source, rows, k, pair);
    case DType::kF16:
    case DType::kBF16:
      return PackPlain<uint16_t>(source, rows, k, pair);
    default:
      return PackPlain<float>(source, rows, k, pair);
  }
}

void UnpackColumn(PackedFormat format, const uint8_t* pair, int column, int64_t k, float* out) {
  switch (format) {
    case PackedFormat::kPlainF32:
      for (int64_t i = 0; i < k; ++i) std::memcpy(out + i, pair + 4 * (kPairColumns * i + column), 4);
      return;
    case PackedFormat::kPlainF16:
      for (int64_t i = 0; i < k; ++i) out[i] = TakeHalf(pair + 64 * i, column);
      return;
    case PackedFormat::kPlainBf16:
      for (int64_t i = 0; i < k; ++i) out[i] = TakeBf16(pair, kPairColumns * i + column);
      return;
    case PackedFormat::kBf16K2:
      for (int64_t i = 0; i < k; ++i) out[i] = TakeBf16(pair, K2Place(i, column));
      return;
    default:
      return UnpackQuantized(format, pair, column, k, out);
  }
}

}  // namespace tokenmill::cpu
