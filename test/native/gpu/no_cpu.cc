// In the place of the CPU backend, for programs that are linked without it.

#include "ops/backend.h"

namespace tokenmill {

bool HasCpuIsa(CpuIsa isa) { return isa == CpuIsa::kReference; }

Result<std::unique_ptr<Executor>> CompileCpu(const Program&, CpuIsa, const CompileOptions&) {
  return Error(Code::kDeviceUnavailable, "this program has no CPU backend");
}

}  // namespace tokenmill
