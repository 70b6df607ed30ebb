#pragma once

#include <span>
#include <vector>

#include "core/memory.h"
#include "ops/backend.h"

namespace tokenmill::reference {

/// A matrix in f32, in strips of 16 rows so that the compiler can work on 16 outputs at once: element (o, k)
/// lies at strip o / 16, then k, then o % 16. Rows are padded with zeros to whole strips.
class Matrix {
 public:
  static constexpr int kStrip = 16;

  /// What Load will allocate.
  static size_t BytesOf(const WeightDesc& desc);
  static Result<Matrix> Load(const WeightSource& source, WeightId id, const WeightDesc& desc,
                             const CompileOptions& options);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int strips() const { return static_cast<int>((rows_ + kStrip - 1) / kStrip); }
  const float* strip(int64_t index) const { return buffer_.as<float>() + index * cols_ * kStrip; }
  float at(int64_t row, int64_t col) const { return strip(row / kStrip)[col * kStrip + row % kStrip]; }
  size_t bytes() const { return buffer_.size(); }

  /// out[r * stride + o] for the strip's outputs o and all rows of `in` [rows, cols]; ascending k.
  void MultiplyStrip(int strip, const float* in, int in_rows, float* out, int64_t stride) const;

 private:
  SystemBuffer buffer_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace tokenmill::reference
