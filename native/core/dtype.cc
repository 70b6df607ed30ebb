#include "core/dtype.h"

namespace tokenmill {
namespace {

constexpr DTypeInfo kDTypes[] = {
#define TM_DTYPE(name, gguf_id, block_elements, block_bytes, runs) \
  {DType::k##name, #name, block_elements, block_bytes, runs},
#include "core/dtypes.def"
#undef TM_DTYPE
};

}  // namespace

const DTypeInfo* FindDType(uint32_t gguf_id) {
  for (const DTypeInfo& info : kDTypes) {
    if (static_cast<uint32_t>(info.dtype) == gguf_id) return &info;
  }
  return nullptr;
}

const DTypeInfo* FindDType(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

const DTypeInfo& InfoOf(DType dtype) { return *FindDType(static_cast<uint32_t>(dtype)); }

size_t RowBytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = InfoOf(dtype);
  return static_cast<size_t>(elements) / info.block_elements * info.block_bytes;
}

}  // namespace tokenmill
