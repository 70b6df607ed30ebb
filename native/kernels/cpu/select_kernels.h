#pragma once

#include "kernels/cpu/kernels.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// The kernels of an ISA, or nullptr when this build or this CPU does not have them.
const CpuKernels* SelectKernels(CpuIsa isa);

}  // namespace tokenmill::cpu
