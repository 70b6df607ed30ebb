#pragma once

namespace tokenmill {

struct BlockF32 {
  static constexpr int kElements = 1;
  float value;
};
static_assert(sizeof(BlockF32) == 4);

static inline void DequantizeBlock(const BlockF32& block, float* out) { *out = block.value; }

static inline void QuantizeBlock(const float* value, BlockF32* block) { block->value = *value; }

}  // namespace tokenmill
