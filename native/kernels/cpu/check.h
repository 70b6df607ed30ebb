#pragma once

#include "core/status.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// Whether a step keeps to its limits: counts of rows, tokens of the vocabulary, rows of sequences and heads.
Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input);

}  // namespace tokenmill::cpu
