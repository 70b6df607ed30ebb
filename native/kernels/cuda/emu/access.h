#pragma once

#include <cstddef>

#include "kernels/cuda/emu/machine.h"

namespace tokenmill::cuda::emu {

/// Checks what the current thread is about to do to `bytes` at `at`, and may let others run before. Ends the
/// launch at a fault.
void CheckAccess(Machine& machine, Access access, const void* at, size_t bytes, const void* site,
                 Reader reader = Reader::kLane);

/// The shadow of a byte of the block's shared memory.
Cells SharedCells(const Block& block, const void* at);

/// Ends the launch unless `bytes` at `at` lie within the block's dynamic shared memory.
void CheckShared(Machine& machine, const void* at, size_t bytes, const char* what, const void* site);

}  // namespace tokenmill::cuda::emu
