#pragma once

#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// 32 values: d * (level - 16), levels of 5 bits.
struct BlockQ5_0 {
  static constexpr int kElements = 32;
  uint16_t d;      // f16
  uint8_t qh[4];   // bit i % 8 of byte i / 8: the upper bit of level i
  uint8_t qs[16];  // byte i: the lower bits of level i in the low nibble, of level i + 16 in the high one
};
static_assert(sizeof(BlockQ5_0) == 22);

static inline void DequantizeBlock(const BlockQ5_0& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < 32; ++i) {
    const int nibble = block.qs[i % 16] >> i / 16 * 4 & 0x0f;
    const int upper = block.qh[i / 8] >> i % 8 & 1;
    out[i] = d * static_cast<float>((nibble | upper << 4) - 16);
  }
}

static inline void PutLevels(const uint8_t levels[32], BlockQ5_0* block) {
  uint32_t upper = 0;
  for (int i = 0; i < 32; ++i) upper |= static_cast<uint32_t>(levels[i] >> 4) << i;
  for (int i = 0; i < 4; ++i) block->qh[i] = static_cast<uint8_t>(upper >> 8 * i);
  for (int i = 0; i < 16; ++i) {
    block->qs[i] = static_cast<uint8_t>((levels[i] & 0x0f) | (levels[i + 16] & 0x0f) << 4);
  }
}

static inline void QuantizeBlock(const float* values, BlockQ5_0* block) {
  const float d = LargestMagnitude(values, 32) / -16;
  const float inverse = InverseOrZero(d);
  block->d = F32ToF16(d);
  uint8_t levels[32];
  for (int i = 0; i < 32; ++i) {
    levels[i] = static_cast<uint8_t>(TruncateToLevel(values[i] * inverse + 16.5f, 31));
  }
  PutLevels(levels, block);
}

}  // namespace tokenmill
