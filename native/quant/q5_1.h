#pragma once

#include <algorithm>
#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// 32 values: d * level + m, levels of 5 bits.
struct BlockQ5_1 {
  static constexpr int kElements = 32;
  uint16_t d;      // f16
  uint16_t m;      // f16
  uint8_t qh[4];   // bit i % 8 of byte i / 8: the upper bit of level i
  uint8_t qs[16];  // byte i: the lower bits of level i in the low nibble, of level i + 16 in the high one
};
static_assert(sizeof(BlockQ5_1) == 24);

static inline void DequantizeBlock(const BlockQ5_1& block, float* out) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  for (int i = 0; i < 32; ++i) {
    const int nibble = block.qs[i % 16] >> i / 16 * 4 & 0x0f;
    const int upper = block.qh[i / 8] >> i % 8 & 1;
    out[i] = d * static_cast<float>(nibble | upper << 4) + m;
  }
}

static inline void QuantizeBlock(const float* values, BlockQ5_1* block) {
  const float m = *std::min_element(values, values + 32);
  const float d = (*std::max_element(values, values + 32) - m) / 31;
  const float inverse = InverseOrZero(d);
  *block = {};
  block->d = F32ToF16(d);
  block->m = F32ToF16(m);
  for (int i = 0; i < 32; ++i) {
    const int level = TruncateToLevel((values[i] - m) * inverse + 0.5f, 31);
    block->qs[i % 16] |= static_cast<uint8_t>((level & 0x0f) << i / 16 * 4);
    block->qh[i / 8] |= static_cast<uint8_t>((level >> 4) << i % 8);
  }
}

}  // namespace tokenmill
