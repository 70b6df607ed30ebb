#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace tokenmill {

/// The largest magnitude that EncodeRow takes: what a half holds.
inline constexpr float kEncodableMax = 65504;

/// Encodes `elements` consecutive values (a multiple of the type's block) with the least squared error that a
/// search finds, in no block more than QuantizeRow's. The values must be finite and at most kEncodableMax.
/// The blocks depend on the values alone, not on the machine. `dtype` must be one that runs.
void EncodeRow(DType dtype, const float* values, void* blocks, int64_t elements);

}  // namespace tokenmill
