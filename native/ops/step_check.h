#pragma once

#include <functional>

#include "core/status.h"
#include "ops/step.h"

// What every backend refuses of a step.

namespace tokenmill {

/// Whether a step keeps to its limits: counts of rows, tokens of the vocabulary, rows of sequences and heads,
/// adapters that `fits` takes for the executor's own, each once. Internal otherwise.
Status CheckStep(const Program& program, int max_rows, const StepInput& input,
                 const std::function<bool(const LoadedAdapter*)>& fits);

}  // namespace tokenmill
