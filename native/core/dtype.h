#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tokenmill {

enum class DType : uint8_t {
#define TM_DTYPE(name, gguf_id, block_elements, block_bytes, runs) k##name = gguf_id,
#include "core/dtypes.def"
#undef TM_DTYPE
};

struct DTypeInfo {
  DType dtype;
  const char* name;
  uint32_t block_elements;  // consecutive elements along a row that share one block
  uint32_t block_bytes;
  bool runs;                // whether the kernels can multiply by it
};

/// The type with this GGUF number, or nullptr when there is none.
const DTypeInfo* FindDType(uint32_t gguf_id);

/// The type of this name, or nullptr.
const DTypeInfo* FindDType(std::string_view name);

const DTypeInfo& InfoOf(DType dtype);

/// Bytes of one row of `elements`, which must divide by the type's block.
size_t RowBytes(DType dtype, int64_t elements);

}  // namespace tokenmill
