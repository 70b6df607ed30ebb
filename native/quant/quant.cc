#include "quant/quant.h"

#include <cassert>
#include <cstring>
#include <type_traits>

#include "quant/bf16.h"
#include "quant/f16.h"
#include "quant/f32.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace tokenmill {
namespace {

/// Calls `function` with a null pointer to the block type of `dtype`.
template <class Function>
void WithBlockType(DType dtype, Function function) {
  switch (dtype) {
    case DType::kF32:
      return function(static_cast<BlockF32*>(nullptr));
    case DType::kF16:
      return function(static_cast<BlockF16*>(nullptr));
    case DType::kBF16:
      return function(static_cast<BlockBF16*>(nullptr));
    case DType::kQ4_0:
      return function(static_cast<BlockQ4_0*>(nullptr));
    case DType::kQ4_1:
      return function(static_cast<BlockQ4_1*>(nullptr));
    case DType::kQ5_0:
      return function(static_cast<BlockQ5_0*>(nullptr));
    case DType::kQ5_1:
      return function(static_cast<BlockQ5_1*>(nullptr));
    case DType::kQ8_0:
      return function(static_cast<BlockQ8_0*>(nullptr));
    case DType::kQ4_K:
      return function(static_cast<BlockQ4_K*>(nullptr));
    case DType::kQ5_K:
      return function(static_cast<BlockQ5_K*>(nullptr));
    case DType::kQ6_K:
      return function(static_cast<BlockQ6_K*>(nullptr));
    default:
      assert(!"a type that cannot run");
  }
}

}  // namespace

void DequantizeRow(DType dtype, const void* blocks, float* out, int64_t elements) {
  WithBlockType(dtype, [=](auto* type) {
    using Block = std::remove_pointer_t<decltype(type)>;
    const char* from = static_cast<const char*>(blocks);
    for (int64_t i = 0; i < elements; i += Block::kElements, from += sizeof(Block)) {
      Block block;  // a copy: `blocks` need not be aligned
      std::memcpy(&block, from, sizeof(Block));
      DequantizeBlock(block, out + i);
    }
  });
}

void QuantizeRow(DType dtype, const float* values, void* blocks, int64_t elements) {
  WithBlockType(dtype, [=](auto* type) {
    using Block = std::remove_pointer_t<decltype(type)>;
    char* to = static_cast<char*>(blocks);
    for (int64_t i = 0; i < elements; i += Block::kElements, to += sizeof(Block)) {
      Block block;
      QuantizeBlock(values + i, &block);
      std::memcpy(to, &block, sizeof(Block));
    }
  });
}

}  // namespace tokenmill
