#include "kernels/cpu/check.h"

#include "kernels/cpu/adapter.h"
#include "ops/step_check.h"

namespace tokenmill::cpu {

Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input) {
  return tokenmill::CheckStep(program, options.max_rows, input, [&program](const LoadedAdapter* given) {
    const auto* adapter = dynamic_cast<const CpuAdapter*>(given);
    return adapter != nullptr && adapter->program() == &program;
  });
}

}  // namespace tokenmill::cpu
