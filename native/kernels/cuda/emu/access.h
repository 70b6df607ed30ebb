#pragma once

#include <cstddef>

#include "kernels/cuda/emu/machine.h"

namespace tokenmill::cuda::emu {

enum class Access { kRead, kWrite, kAtomic };

/// Checks what the current thread is about to do to `bytes` at `at`, and may let others run before. Ends the launch
/// at a fault.
void CheckAccess(Machine& machine, Access access, const void* at, size_t bytes, const void* site);

/// Ends the launch unless `bytes` at `at` lie within the block's dynamic shared memory.
void CheckShared(Machine& machine, const void* at, size_t bytes, const char* what, const void* site);

}  // namespace tokenmill::cuda::emu
