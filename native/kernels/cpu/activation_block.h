#pragma once

#include <cstdint>

namespace tokenmill::cpu {

/// 32 consecutive activations of a row as symmetric int8: value ≈ scale * quant. The sums let kernels use
/// weights as unsigned numbers and carry the mins of the weight formats. A block with a value that is not
/// finite has the scale NaN and the quants 0.
struct ActivationBlock {
  int8_t quants[32];   // -127 … 127
  float scale;         // largest magnitude / 127
  float scaled_sum;    // scale * sum
  int32_t sum;         // of all quants
  int32_t first_half;  // sum of quants 0 … 15
};
static_assert(sizeof(ActivationBlock) == 48);

}  // namespace tokenmill::cpu
