#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ops/adapter.h"

namespace tokenmill::reference {

/// An adapter's factors in f32, as they are given.
class ReferenceAdapter final : public LoadedAdapter {
 public:
  static Result<std::shared_ptr<const LoadedAdapter>> Load(const Program& program,
                                                           const AdapterSource& source);

  size_t bytes() const override;

  /// out[o] += use_scale * scale * sum_j B[o, j] * sum_k A[j, k] in[k], where it has the matrix.
  void AddTo(WeightId matrix, float use_scale, const float* in, float* out) const;

 private:
  struct Factors {
    int64_t rows = 0, cols = 0;  // of the matrix
    int rank = 0;
    float scale = 1;
    std::vector<float> a;  // [rank, cols]
    std::vector<float> b;  // [rows, rank]
  };

  std::vector<Factors> factors_;
  std::vector<int> index_;  // by WeightId, or -1
};

/// Of all adapters of a row.
void AddAdapters(std::span<const AdapterUse> uses, WeightId matrix, const float* in, float* out);

}  // namespace tokenmill::reference
