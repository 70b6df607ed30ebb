#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/adapter_check.h"
#include "ops/backend.h"

namespace tokenmill::bench {

/// Small F16 factors of one rank on all linear layers of a program but the head, as PEFT's "all-linear" has it.
class SyntheticAdapter final : public AdapterSource {
 public:
  SyntheticAdapter(const Program& program, int rank) : program_(program) {
    for (const Op& op : program.ops) {
      if (std::holds_alternative<Head>(op)) continue;
      for (const WeightId matrix : LinearMatrices(op))
        factors_.push_back({matrix, rank, 1.0f / static_cast<float>(rank), DType::kF16});
    }
  }

  std::span<const AdapterFactors> factors() const override { return factors_; }

  Status Read(size_t index, AdapterFactor which, void* out) const override {
    const int64_t count = FactorElements(program_, factors_[index], which);
    auto* halves = static_cast<uint16_t*>(out);
    // ± 0.001 … 0.002
    for (int64_t i = 0; i < count; ++i)
      halves[i] = static_cast<uint16_t>(0x1419 + i * 37 % 0x3ff + (i % 3 == 0 ? 0x8000 : 0));
    return {};
  }

 private:
  const Program& program_;
  std::vector<AdapterFactors> factors_;
};

}  // namespace tokenmill::bench
