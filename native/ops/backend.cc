#include "ops/backend.h"

namespace tokenmill {
namespace {

Result<std::unique_ptr<Executor>> Load(Result<std::unique_ptr<Executor>> compiled,
                                       const WeightSource& weights) {
  if (compiled.ok()) TM_RETURN_IF_ERROR(compiled.value()->LoadWeights(weights));
  return compiled;
}

}  // namespace

Result<std::unique_ptr<Executor>> CompileReference(const Program& program, const WeightSource& weights,
                                                   const CompileOptions& options) {
  return Load(CompileReference(program, options), weights);
}

Result<std::unique_ptr<Executor>> CompileCpu(const Program& program, const WeightSource& weights, CpuIsa isa,
                                             const CompileOptions& options) {
  return Load(CompileCpu(program, isa, options), weights);
}

}  // namespace tokenmill
