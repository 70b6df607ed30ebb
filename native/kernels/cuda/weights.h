#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/weight_format.h"
#include "ops/backend.h"

namespace tokenmill::cuda {

/// A matrix in the form that products read.
struct DeviceMatrix {
  WeightForm form = WeightForm::kF32;
  int32_t features = 0;
  int32_t k = 0;
  const uint8_t* data = nullptr;
};

/// The weights that a run of a program's operations uses, on one device: matrices packed for products, tables
/// that rows are gathered from as in the file, vectors as f32. Planned first; memory comes with loading.
class DeviceWeights {
 public:
  /// UnsupportedQuantization or CorruptFile for a tensor that cannot be used.
  static Result<DeviceWeights> Plan(const Program& program, std::span<const Op> ops);

  size_t bytes() const { return bytes_; }
  Status Allocate(std::shared_ptr<Driver> driver);
  void Release() { memory_ = DeviceBuffer(); }
  bool allocated() const { return bytes_ == 0 || static_cast<bool>(memory_); }

  DeviceMatrix matrix(WeightId weight) const;
  /// nullptr for kNone, or what is not used so.
  const float* vector(WeightId weight) const { return As<const float>(At(weight, kVector)); }
  /// nullptr for a table that products multiply by as well: its rows come from the matrix.
  const uint8_t* table(WeightId weight) const { return As<const uint8_t>(At(weight, kTable)); }

 private:
  friend class WeightLoader;
  enum Use { kMatrix, kTable, kVector, kUses };
  static constexpr size_t kNowhere = SIZE_MAX;
  struct Place {
    WeightForm form = WeightForm::kF32;
    int32_t features = 0;
    int32_t k = 0;
    size_t offset[kUses] = {kNowhere, kNowhere, kNowhere};
  };

  Status Add(const Program& program, WeightId weight, Use use);
  bool Has(WeightId weight, Use use) const {
    return weight != kNone && places_[static_cast<size_t>(weight)].offset[use] != kNowhere;
  }
  DevicePtr At(WeightId weight, Use use) const {
    return Has(weight, use) ? memory_.at() + places_[static_cast<size_t>(weight)].offset[use] : 0;
  }

  std::vector<Place> places_;  // by WeightId
  size_t bytes_ = 0;
  DeviceBuffer memory_;
};

/// A device's share of a program, for loading.
struct WeightTarget {
  std::shared_ptr<Driver> driver;
  DeviceWeights* weights;
};

/// Reads a program's weights once, in blocks, for all devices. When it fails, no device has memory for
/// weights.
Status LoadWeights(const Program& program, std::span<const WeightTarget> targets, const WeightSource& source,
                   const CompileOptions& options);

}  // namespace tokenmill::cuda
