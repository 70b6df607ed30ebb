#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ops/program.h"

namespace tokenmill::cuda {

/// Whether an operation takes a value that was there before it, and whether it leaves one.
bool ReadsValue(const Op& op, ValueId value);
bool WritesValue(const Op& op, ValueId value);

/// Values that operations from `op` on read before they write them: what crosses a cut there.
std::vector<ValueId> LiveValues(const Program& program, int op);

/// Where the operations of each device begin, in order; the first at 0. Cuts lie where a single value
/// crosses, so that the weights before each are about in proportion to the memory of the devices before.
/// Where there are not enough places to cut, there are fewer devices.
std::vector<int> SplitOps(const Program& program, std::span<const size_t> memory_bytes);

}  // namespace tokenmill::cuda
