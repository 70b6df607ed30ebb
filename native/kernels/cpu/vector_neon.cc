#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_neon.h"

namespace tokenmill::cpu {
namespace {
constexpr int kQueryTile = 5;
constexpr int kShrinkRanks = 2, kShrinkRows = 2, kExpandRows = 5, kExpandStrips = 1;
}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/vector_impl.h"

#include "kernels/cpu/adapter_impl.h"

#include "kernels/cpu/attention_impl.h"

namespace tokenmill::cpu {

void SetVectorKernelsNeon(CpuKernels* kernels) {
  SetVectorKernels(kernels);
  SetAdapterKernels(kernels);
}

}  // namespace tokenmill::cpu
