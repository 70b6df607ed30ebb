#include "ops/backend.h"

namespace tokenmill {

Status CheckBudget(uint64_t weight_bytes, const CompileOptions& options) {
  if (weight_bytes <= options.budget_bytes) return {};
  return Error(
      Code::kOutOfMemory,
      "the weights take %llu MiB; the memory budget is %llu MiB. Raise memory.budget or take a smaller "
      "model",
      static_cast<unsigned long long>(weight_bytes >> 20),
      static_cast<unsigned long long>(options.budget_bytes >> 20));
}

}  // namespace tokenmill
