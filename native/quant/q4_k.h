#pragma once

#include <cstdint>

#include "core/float16.h"
#include "quant/k_scales.h"

namespace tokenmill {

/// 256 values in eight groups of 32: (d * scale) * level - dmin * min, levels of 4 bits.
struct BlockQ4_K {
  static constexpr int kElements = 256;
  uint16_t d;          // f16
  uint16_t dmin;       // f16
  uint8_t scales[12];  // KScales, packed
  uint8_t qs[128];  // 32 bytes a pair of groups: the even group in the low nibbles, the odd one in the high
};
static_assert(sizeof(BlockQ4_K) == 144);

static inline void DequantizeBlock(const BlockQ4_K& block, float* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  const KScales scales = UnpackKScales(block.scales);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * static_cast<float>(scales.scale[group]);
    const float min = dmin * static_cast<float>(scales.min[group]);
    for (int i = 0; i < 32; ++i) {
      const int level = block.qs[group / 2 * 32 + i] >> group % 2 * 4 & 0x0f;
      out[32 * group + i] = scale * static_cast<float>(level) - min;
    }
  }
}

static inline void PutLevels(const uint8_t levels[256], BlockQ4_K* block) {
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t* level = levels + 64 * pair + i;
      block->qs[32 * pair + i] = static_cast<uint8_t>(level[0] | level[32] << 4);
    }
  }
}

static inline void QuantizeBlock(const float* values, BlockQ4_K* block) {
  uint8_t levels[256];
  QuantizeK(values, 15, &block->d, &block->dmin, block->scales, levels);
  PutLevels(levels, block);
}

}  // namespace tokenmill
