#pragma once

#include <algorithm>
#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// 32 values: d * level + m, levels of 4 bits.
struct BlockQ4_1 {
  static constexpr int kElements = 32;
  uint16_t d;      // f16
  uint16_t m;      // f16
  uint8_t qs[16];  // byte i: level i in the low nibble, level i + 16 in the high one
};
static_assert(sizeof(BlockQ4_1) == 20);

static inline void DequantizeBlock(const BlockQ4_1& block, float* out) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(block.qs[i] & 0x0f) + m;
    out[i + 16] = d * static_cast<float>(block.qs[i] >> 4) + m;
  }
}

static inline void PutLevels(const uint8_t levels[32], BlockQ4_1* block) {
  for (int i = 0; i < 16; ++i) block->qs[i] = static_cast<uint8_t>(levels[i] | levels[i + 16] << 4);
}

static inline void QuantizeBlock(const float* values, BlockQ4_1* block) {
  const float m = *std::min_element(values, values + 32);
  const float d = (*std::max_element(values, values + 32) - m) / 15;
  const float inverse = InverseOrZero(d);
  block->d = F32ToF16(d);
  block->m = F32ToF16(m);
  uint8_t levels[32];
  for (int i = 0; i < 32; ++i)
    levels[i] = static_cast<uint8_t>(TruncateToLevel((values[i] - m) * inverse + 0.5f, 15));
  PutLevels(levels, block);
}

}  // namespace tokenmill
