#pragma once

#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// 256 values in sixteen groups of 16: (d * scale) * (level - 32), levels of 6 bits. The arrays are in two
/// halves, each for 128 values in four runs of 32.
struct BlockQ6_K {
  static constexpr int kElements = 256;
  uint8_t ql[128];    // lower 4 bits: runs 0 and 1 in the low nibbles, runs 2 and 3 in the high ones
  uint8_t qh[64];     // upper 2 bits: run r in bits 2r and 2r + 1
  int8_t scales[16];  // one a group
  uint16_t d;         // f16
};
static_assert(sizeof(BlockQ6_K) == 210);

/// Where the level of value i (0 to 255) is.
struct PlaceQ6_K {
  explicit PlaceQ6_K(int i)
      : low(i / 128 * 64 + i % 64),
        low_shift(i % 128 / 64 * 4),
        high(i / 128 * 32 + i % 32),
        high_shift(i % 128 / 32 * 2) {}
  int low, low_shift;    // in ql
  int high, high_shift;  // in qh
};

static inline void DequantizeBlock(const BlockQ6_K& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < 256; ++i) {
    const PlaceQ6_K place(i);
    const int lower = block.ql[place.low] >> place.low_shift & 0x0f;
    const int upper = block.qh[place.high] >> place.high_shift & 0x03;
    const float scale = d * static_cast<float>(block.scales[i / 16]);
    out[i] = scale * static_cast<float>((lower | upper << 4) - 32);
  }
}

static inline void PutLevels(const uint8_t levels[256], BlockQ6_K* block) {
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t* level = levels + 128 * half + i;  // of run 0; the others are 32 apart
      block->ql[64 * half + i] = static_cast<uint8_t>((level[0] & 0x0f) | (level[64] & 0x0f) << 4);
      block->ql[64 * half + 32 + i] = static_cast<uint8_t>((level[32] & 0x0f) | (level[96] & 0x0f) << 4);
      block->qh[32 * half + i] = static_cast<uint8_t>(level[0] >> 4 | level[32] >> 4 << 2 |
                                                      level[64] >> 4 << 4 | level[96] >> 4 << 6);
    }
  }
}

static inline void QuantizeBlock(const float* values, BlockQ6_K* block) {
  float group_scales[16];
  for (int group = 0; group < 16; ++group)
    group_scales[group] = LargestMagnitude(values + 16 * group, 16) / -32;
  block->d = F32ToF16(LargestMagnitude(group_scales, 16) / -128);
  const float inverse_d = InverseOrZero(F16ToF32(block->d));
  uint8_t levels[256];
  for (int group = 0; group < 16; ++group) {
    block->scales[group] = static_cast<int8_t>(RoundToLevel(group_scales[group] * inverse_d, -128, 127));
    const float inverse = InverseOrZero(F16ToF32(block->d) * static_cast<float>(block->scales[group]));
    for (int i = 16 * group; i < 16 * group + 16; ++i) {
      levels[i] = static_cast<uint8_t>(RoundToLevel(values[i] * inverse, -32, 31) + 32);
    }
  }
  PutLevels(levels, block);
}

}  // namespace tokenmill
