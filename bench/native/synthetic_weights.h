#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "ops/backend.h"

namespace tokenmill::bench {

/// Random weights of any program: levels of all kinds, small finite values. Vectors are ones.
class SyntheticWeights final : public WeightSource {
 public:
  explicit SyntheticWeights(const Program& program) : program_(program) {}

  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
    const WeightDesc& desc = program_.weights[static_cast<size_t>(weight)];
    const size_t bytes = RowBytes(desc.dtype, desc.cols) * static_cast<size_t>(rows);
    if (desc.rows == 1) {
      std::fill_n(static_cast<float*>(out), bytes / 4, 1.0f);
      return {};
    }
    uint8_t* data = static_cast<uint8_t*>(out);
    Fill(static_cast<uint64_t>(weight) * 1000003 + static_cast<uint64_t>(row) + 1, data, bytes);
    for (size_t at = 0; at < bytes; at += InfoOf(desc.dtype).block_bytes) Tame(desc.dtype, data + at);
    return {};
  }

 private:
  static void Fill(uint64_t state, uint8_t* data, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 4) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const uint32_t word = static_cast<uint32_t>(state >> 32);
      std::memcpy(data + i, &word, std::min<size_t>(4, bytes - i));
    }
  }

  /// Gives a block of random bytes scales of about 0.001, or a plain number a small exponent.
  static void Tame(DType dtype, uint8_t* block) {
    constexpr uint16_t kScale = 0x1419, kMinus = 0x9c00;
    const auto put = [block](size_t at, uint16_t half) { std::memcpy(block + at, &half, 2); };
    switch (dtype) {
      case DType::kF32:
        block[3] = static_cast<uint8_t>((block[3] & 0x80) | 0x3c);
        return;
      case DType::kF16:
        block[1] = static_cast<uint8_t>((block[1] & 0x83) | 0x20);
        return;
      case DType::kBF16:
        block[1] = static_cast<uint8_t>((block[1] & 0x80) | 0x3c);
        return;
      case DType::kQ6_K:
        return put(208, kScale);
      case DType::kQ4_1:
      case DType::kQ5_1:
        put(2, kMinus);
        return put(0, kScale);
      case DType::kQ4_K:
      case DType::kQ5_K:
        put(2, kScale);
        return put(0, kScale);
      default:
        return put(0, kScale);
    }
  }

  const Program& program_;
};

inline WeightId AddWeight(Program* program, DType dtype, int rows, int cols) {
  program->weights.push_back({{}, dtype, rows, cols});
  return static_cast<WeightId>(program->weights.size()) - 1;
}

}  // namespace tokenmill::bench
