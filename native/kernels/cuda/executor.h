#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/driver.h"
#include "ops/backend.h"

namespace tokenmill::cuda {

/// A program for one device or several: layers are spread over these by their free memory, and rows pass from
/// one to the next within a step. Without its weights first. UnsupportedModel or UnsupportedQuantization for
/// what no kernel can run, Internal for a program that does not fit together. A driver serves one thread at a
/// time: executors that share one, such as twins, take turns.
Result<std::unique_ptr<Executor>> CompileCuda(const Program& program,
                                              std::span<const std::shared_ptr<Driver>> drivers,
                                              const CompileOptions& options);

}  // namespace tokenmill::cuda
