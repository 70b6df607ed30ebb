#pragma once

#include <string>

#include "core/status.h"
#include "ops/backend.h"

namespace tokenmill {

struct Device {
  CpuIsa isa = CpuIsa::kReference;
  std::string reason;  // why this one
};

const char* IsaName(CpuIsa isa);

/// The best ISA of this CPU, or the one that TOKENMILL_ISA names. InvalidArgument for an unknown name,
/// DeviceUnavailable for one that this CPU lacks.
Result<Device> SelectDevice();

}  // namespace tokenmill
