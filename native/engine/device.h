#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "ops/backend.h"

namespace tokenmill {

struct Device {
  CpuIsa isa = CpuIsa::kReference;
  std::string reason;  // why this one
};

const char* IsaName(CpuIsa isa);

/// What this CPU can run, best first.
std::vector<CpuIsa> AvailableIsas();

/// The best ISA of this CPU, or the one that TOKENMILL_ISA names. InvalidArgument for an unknown name,
/// DeviceUnavailable for one that this CPU lacks.
Result<Device> SelectDevice();

}  // namespace tokenmill
