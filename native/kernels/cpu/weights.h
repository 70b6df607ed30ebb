#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "kernels/cpu/packed_format.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// A matrix in the kernels' layout (packed_format.h).
struct PackedMatrix {
  PackedFormat format = PackedFormat::kPlainF32;
  int64_t rows = 0;  // output features
  int64_t cols = 0;  // input features
  int pairs = 0;     // of strips
  size_t pair_bytes = 0;
  uint8_t* data = nullptr;  // [pairs][pair_bytes]

  bool quantized() const { return LayoutOf(format).quantized; }
  uint8_t* pair(int64_t index) const { return data + static_cast<size_t>(index) * pair_bytes; }
};

/// A program's weights by WeightId: packed where an operation multiplies by them or looks up rows, else as
/// f32 vectors. Each is stored once, however often it is used.
class Weights {
 public:
  /// Reads and packs on the pool's threads, in blocks of bounded size.
  Status Load(const Program& program, const WeightSource& source, const CompileOptions& options);

  const PackedMatrix& matrix(WeightId weight) const { return matrices_[static_cast<size_t>(weight)]; }
  /// nullptr for kNone.
  const float* vector(WeightId weight) const {
    return weight == kNone ? nullptr : vectors_[static_cast<size_t>(weight)].data();
  }
  size_t bytes() const { return bytes_; }

 private:
  Status Allocate(const Program& program);
  Status LoadVectors(const Program& program, const WeightSource& source, const CompileOptions& options);

  SystemBuffer memory_;  // of all matrices: one piece, so that the system can back it with huge pages
  std::vector<PackedMatrix> matrices_;
  std::vector<std::vector<float>> vectors_;
  size_t bytes_ = 0;
};

}  // namespace tokenmill::cpu
