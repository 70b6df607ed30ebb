#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "ops/backend.h"
#include "ops/backend_client.h"

namespace tokenmill {

/// Where a model is asked to run.
struct DeviceOptions {
  enum class Kind : uint8_t { kCpu, kAuto, kCuda };
  Kind kind = Kind::kCpu;
  int index = -1;       // of kCuda: the one to use; -1: those that there are
  std::string library;  // of kAuto and kCuda: the path of the backend's library

  bool operator==(const DeviceOptions&) const = default;
};

/// What a model runs on: the CPU, or where there are GPUs these.
struct Device {
  CpuIsa isa = CpuIsa::kReference;
  std::string reason;   // why this one
  std::string problem;  // of kAuto, why it is not a GPU
  std::shared_ptr<const Backend> backend;
  /// Those that may be used. The first stands for all of them where one is to be named.
  std::vector<BackendDevice> gpus;
};

const char* IsaName(CpuIsa isa);

/// What this CPU can run, best first.
std::vector<CpuIsa> AvailableIsas();

/// The CPU with its best ISA, or the one that TOKENMILL_ISA names. InvalidArgument for an unknown name,
/// DeviceUnavailable for one that this CPU lacks.
Result<Device> SelectDevice();

/// What was asked for; of kAuto a GPU where one can be used and TOKENMILL_ISA names nothing, else the CPU with the
/// problem. Of kCuda DeviceUnavailable says what is missing.
Result<Device> SelectDevice(const DeviceOptions& options);

/// The CPU in the place of a GPU that cannot be used.
Result<Device> InsteadOfGpu(std::string problem);

/// A program without its weights, on the device.
Result<std::unique_ptr<Executor>> CompileOn(const Device& device, const Program& program,
                                            const CompileOptions& options);

}  // namespace tokenmill
