#pragma once

#include "core/status.h"
#include "ops/program.h"

namespace tokenmill {

/// Internal unless the operations fit together: every handle names something, every shape is that of its
/// neighbours, and all of them are of a size that can be computed with.
Status CheckProgram(const Program& program);

}  // namespace tokenmill
