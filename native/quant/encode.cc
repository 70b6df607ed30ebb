#include "quant/encode.h"

#include <cstring>

#include "quant/encode_k.h"
#include "quant/encode_plain.h"
#include "quant/quant.h"

namespace tokenmill {
namespace {

template <class Block>
double SquaredError(const float* values, const Block& block) {
  float back[Block::kElements];
  DequantizeBlock(block, back);
  double sums[8] = {};
  for (int i = 0; i < Block::kElements; ++i) {
    const double miss = double{back[i]} - values[i];
    sums[i % 8] += miss * miss;
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

template <class Block>
void EncodeBlocks(const float* values, void* blocks, int64_t elements) {
  char* to = static_cast<char*>(blocks);
  for (int64_t i = 0; i < elements; i += Block::kElements, to += sizeof(Block)) {
    Block searched, rounded;
    EncodeBlock(values + i, &searched);
    QuantizeBlock(values + i, &rounded);
    const bool better = SquaredError(values + i, searched) <= SquaredError(values + i, rounded);
    std::memcpy(to, better ? &searched : &rounded, sizeof(Block));
  }
}

}  // namespace

void EncodeRow(DType dtype, const float* values, void* blocks, int64_t elements) {
  switch (dtype) {
    case DType::kQ4_0:
      return EncodeBlocks<BlockQ4_0>(values, blocks, elements);
    case DType::kQ4_1:
      return EncodeBlocks<BlockQ4_1>(values, blocks, elements);
    case DType::kQ5_0:
      return EncodeBlocks<BlockQ5_0>(values, blocks, elements);
    case DType::kQ5_1:
      return EncodeBlocks<BlockQ5_1>(values, blocks, elements);
    case DType::kQ8_0:
      return EncodeBlocks<BlockQ8_0>(values, blocks, elements);
    case DType::kQ4_K:
      return EncodeBlocks<BlockQ4_K>(values, blocks, elements);
    case DType::kQ5_K:
      return EncodeBlocks<BlockQ5_K>(values, blocks, elements);
    case DType::kQ6_K:
      return EncodeBlocks<BlockQ6_K>(values, blocks, elements);
    default:
      return QuantizeRow(dtype, values, blocks, elements);
  }
}

}  // namespace tokenmill
