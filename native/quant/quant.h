#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace tokenmill {

/// Dequantizes `elements` consecutive values (a multiple of the type's block) from `blocks` to f32, in the
/// format's own definition: the oracle of every packed form. `dtype` must be one that runs.
void DequantizeRow(DType dtype, const void* blocks, float* out, int64_t elements);

/// Quantizes a row by round-to-nearest over each group's range, as the formats' reference quantizers do: what
/// EncodeRow (quant/encode.h) is never worse than.
void QuantizeRow(DType dtype, const float* values, void* blocks, int64_t elements);

}  // namespace tokenmill
