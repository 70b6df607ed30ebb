#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/cpu/packed_format.h"

namespace tokenmill::cpu {

/// The packed form of a type that runs, which every kernel table multiplies by.
PackedFormat FormatOf(DType dtype);

/// Packs up to 32 rows of `k` elements, as a file stores them, into one zeroed pair of strips; the columns
/// beyond `rows` stay zero. k is a multiple of the type's block. `format` is FormatOf(dtype), or kBf16K2 for BF16 and
/// an even k.
void PackPair(PackedFormat format, DType dtype, const void* source, int rows, int64_t k, uint8_t* pair);

/// The values of one column (0 … 31) of a pair: bit for bit what DequantizeRow gives for that row.
void UnpackColumn(PackedFormat format, const uint8_t* pair, int column, int64_t k, float* out);

}  // namespace tokenmill::cpu
