#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/adapter.h"
#include "kernels/cuda/device_memory.h"
#include "ops/adapter.h"
#include "ops/program.h"

namespace tokenmill::cuda {

/// A device and the operations that it runs.
struct AdapterTargetDevice {
  std::shared_ptr<Driver> driver;
  std::span<const Op> ops;
};

/// An adapter's factors on the devices of one executor. Loading only takes memory there, so that it can be
/// done while a step runs; the first step that uses the adapter uploads it.
class CudaAdapter final : public LoadedAdapter {
 public:
  static Result<std::shared_ptr<const LoadedAdapter>> Load(const Program& program,
                                                           std::span<const AdapterTargetDevice> devices,
                                                           const AdapterSource& source);

  size_t bytes() const override;
  /// The program of the executor that loaded it.
  const Program* program() const { return program_; }
  int rank_max() const { return rank_max_; }

  /// By the thread that runs steps.
  Status Upload() const;
  /// What it adds to a matrix on a device; nothing (a = null) where it does not have the matrix there.
  AdapterMatrix matrix(int device, WeightId weight) const;

 private:
  struct Factors {
    AdapterFactors given;
    size_t a = 0, b = 0;  // offsets in the device's memory
  };
  struct Share {
    std::shared_ptr<Driver> driver;
    DeviceBuffer memory;
    std::vector<int> index;  // by WeightId, into factors, or -1
    std::vector<Factors> factors;
    mutable std::vector<std::byte> host;  // the memory's bytes until they are uploaded
  };

  Status LoadShare(const Program& program, const AdapterTargetDevice& device, const AdapterSource& source);

  const Program* program_ = nullptr;
  std::vector<Share> shares_;
  int rank_max_ = 0;
};

}  // namespace tokenmill::cuda
