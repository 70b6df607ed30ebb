#pragma once

#include <cstdint>

#include "core/float16.h"

namespace tokenmill {

/// IEEE binary16.
struct BlockF16 {
  static constexpr int kElements = 1;
  uint16_t bits;
};
static_assert(sizeof(BlockF16) == 2);

static inline void DequantizeBlock(const BlockF16& block, float* out) { *out = F16ToF32(block.bits); }

static inline void QuantizeBlock(const float* value, BlockF16* block) { block->bits = F32ToF16(*value); }

}  // namespace tokenmill
