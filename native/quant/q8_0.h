#pragma once

#include <cmath>
#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// 32 values: d * level, levels of 8 bits with a sign.
struct BlockQ8_0 {
  static constexpr int kElements = 32;
  uint16_t d;  // f16
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

static inline void DequantizeBlock(const BlockQ8_0& block, float* out) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(block.qs[i]);
}

static inline void QuantizeBlock(const float* values, BlockQ8_0* block) {
  const float d = std::fabs(LargestMagnitude(values, 32)) / 127;
  const float inverse = InverseOrZero(d);
  block->d = F32ToF16(d);
  for (int i = 0; i < 32; ++i) {
    block->qs[i] = static_cast<int8_t>(RoundToLevel(values[i] * inverse, -127, 127));
  }
}

}  // namespace tokenmill
