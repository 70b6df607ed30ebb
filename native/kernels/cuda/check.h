#pragma once

#include "core/status.h"
#include "ops/backend.h"

namespace tokenmill::cuda {

/// Whether the kernels can run a program that fits together (ops/program_check.h): UnsupportedModel or
/// UnsupportedQuantization names what they cannot.
Status CheckKernels(const Program& program);

/// As ops/step_check.h has it, for adapters that were loaded for this program.
Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input);

}  // namespace tokenmill::cuda
