#pragma once

#include "core/status.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// Whether the operations of a program fit together: what they name exists and the shapes agree.
Status CheckProgram(const Program& program);

/// Whether a step keeps to its limits: counts of rows, tokens of the vocabulary, rows of sequences and heads.
Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input);

}  // namespace tokenmill::cpu
