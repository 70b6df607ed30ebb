#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"
#include "kernels/cuda/driver.h"

// Emulated devices: kernels registered by GPU_KERNEL, run on the CPU and checked at every access.

namespace tokenmill::cuda {

struct EmuOptions {
  int device = 0;                                // of at most 8
  size_t memory_bytes = size_t{512} << 20;       // of the device
  int major = 8, minor = 0;
  int multiprocessors = 4;
  size_t shared_bytes_max = 99 * 1024;
  uint64_t seed = 1;                             // of schedules, 0: 1
};

/// A device as the options describe it. Objects of the same device share its memory's addresses, not its
/// budget.
std::unique_ptr<Driver> CreateEmuDriver(const EmuOptions& options);

/// The schedule of launches to come, for a driver that CreateEmuDriver made.
void SetEmuSeed(Driver& driver, uint64_t seed);

/// What launches of a kernel did, added up since ResetEmuStats.
struct EmuStats {
  uint64_t launches = 0;
  uint64_t mma = 0;            // by warps
  uint64_t shared_groups =
      0;  // the wavefronts that accesses to shared memory would take without bank conflicts
  uint64_t bank_conflicts = 0; // the wavefronts they take more than that
  std::string worst;           // the instructions with most conflicts, a line each
};
EmuStats EmuStatsOf(Driver& driver, const std::string& kernel);
void ResetEmuStats(Driver& driver);

}  // namespace tokenmill::cuda
