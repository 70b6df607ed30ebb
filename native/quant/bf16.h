#pragma once

#include <cstdint>

#include "core/float16.h"

namespace tokenmill {

/// bfloat16: the upper half of an f32.
struct BlockBF16 {
  static constexpr int kElements = 1;
  uint16_t bits;
};
static_assert(sizeof(BlockBF16) == 2);

static inline void DequantizeBlock(const BlockBF16& block, float* out) { *out = Bf16ToF32(block.bits); }

static inline void QuantizeBlock(const float* value, BlockBF16* block) { block->bits = F32ToBf16(*value); }

}  // namespace tokenmill
