#pragma once

#include <cstdint>

#include "core/float16.h"
#include "quant/k_scales.h"

namespace tokenmill {

/// 256 values in eight groups of 32: (d * scale) * level - dmin * min, levels of 5 bits.
struct BlockQ5_K {
  static constexpr int kElements = 256;
  uint16_t d;          // f16
  uint16_t dmin;       // f16
  uint8_t scales[12];  // KScales, packed
  uint8_t qh[32];      // bit g of byte i: the upper bit of level i of group g
  uint8_t qs[128];  // 32 bytes a pair of groups: the even group in the low nibbles, the odd one in the high
};
static_assert(sizeof(BlockQ5_K) == 176);

static inline void DequantizeBlock(const BlockQ5_K& block, float* out) {
  const float d = F16ToF32(block.d);
  const float dmin = F16ToF32(block.dmin);
  const KScales scales = UnpackKScales(block.scales);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * static_cast<float>(scales.scale[group]);
    const float min = dmin * static_cast<float>(scales.min[group]);
    for (int i = 0; i < 32; ++i) {
      const int nibble = block.qs[group / 2 * 32 + i] >> group % 2 * 4 & 0x0f;
      const int upper = block.qh[i] >> group & 1;
      out[32 * group + i] = scale * static_cast<float>(nibble | upper << 4) - min;
    }
  }
}

static inline void PutLevels(const uint8_t levels[256], BlockQ5_K* block) {
  for (int i = 0; i < 32; ++i) block->qh[i] = 0;
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const int even = levels[64 * pair + i], odd = levels[64 * pair + 32 + i];
      block->qs[32 * pair + i] = static_cast<uint8_t>((even & 0x0f) | (odd & 0x0f) << 4);
      block->qh[i] |= static_cast<uint8_t>((even >> 4 | odd >> 4 << 1) << 2 * pair);
    }
  }
}

static inline void QuantizeBlock(const float* values, BlockQ5_K* block) {
  uint8_t levels[256];
  QuantizeK(values, 31, &block->d, &block->dmin, block->scales, levels);
  PutLevels(levels, block);
}

}  // namespace tokenmill
