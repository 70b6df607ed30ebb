#pragma once

// Matrices as files have them, of every type, with the blocks that are easy to get wrong among them.

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "quant/quant.h"

namespace gpu_test {

struct RandomWeights {
  tokenmill::DType dtype;
  int features, k;
  std::vector<uint8_t> rows;    // as in a file
  std::vector<float> values;    // [features][k]

  size_t row_bytes() const { return tokenmill::RowBytes(dtype, k); }
};

/// Where a block has its f16 scales; -1 for none.
inline void ScaleOffsets(tokenmill::DType dtype, int* d, int* m) {
  using tokenmill::DType;
  const bool plain = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  const bool mins =
      dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K || dtype == DType::kQ5_K;
  *d = plain ? -1 : dtype == DType::kQ6_K ? 208 : 0;
  *m = mins ? 2 : -1;
}

/// Random values through the type's own quantizer; with `extreme`, some blocks have scales of zero, of the
/// least and of large magnitude, and of either sign.
inline RandomWeights MakeWeights(tokenmill::DType dtype, int features, int k, uint32_t seed, bool extreme) {
  using namespace tokenmill;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.01f, 0.05f);
  RandomWeights w = {dtype, features, k, {}, std::vector<float>(static_cast<size_t>(features) * k)};
  w.rows.resize(w.row_bytes() * features);
  const DTypeInfo& info = InfoOf(dtype);
  int d, m;
  ScaleOffsets(dtype, &d, &m);
  for (int f = 0; f < features; ++f) {
    std::vector<float> row(static_cast<size_t>(k));
    for (float& x : row) x = normal(random);
    uint8_t* out = w.rows.data() + w.row_bytes() * f;
    QuantizeRow(dtype, row.data(), out, k);
    for (size_t at = 0; extreme && d >= 0 && at < w.row_bytes(); at += info.block_bytes) {
      static constexpr uint16_t kScales[] = {0x0000, 0x8001, 0x0001, 0x7000, 0xf000, 0xac00};
      if (random() % 3 == 0) std::memcpy(out + at + d, &kScales[random() % 6], 2);
      if (m >= 0 && random() % 3 == 0) std::memcpy(out + at + m, &kScales[random() % 6], 2);
    }
    DequantizeRow(dtype, out, w.values.data() + static_cast<size_t>(f) * k, k);
  }
  return w;
}

inline constexpr tokenmill::DType kRunningTypes[] = {
    tokenmill::DType::kQ4_0, tokenmill::DType::kQ4_1, tokenmill::DType::kQ4_K, tokenmill::DType::kQ5_0,
    tokenmill::DType::kQ5_1, tokenmill::DType::kQ5_K, tokenmill::DType::kQ6_K, tokenmill::DType::kQ8_0,
    tokenmill::DType::kF16,  tokenmill::DType::kBF16, tokenmill::DType::kF32};

}  // namespace gpu_test
