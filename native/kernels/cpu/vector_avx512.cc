#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_avx512.h"

namespace tokenmill::cpu {
namespace {
constexpr int kQueryTile = 8;
constexpr int kShrinkRanks = 4, kShrinkRows = 4, kExpandRows = 8, kExpandStrips = 2;
}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that they are written in.
#include "kernels/cpu/vector_impl.h"

#include "kernels/cpu/adapter_impl.h"

#include "kernels/cpu/attention_impl.h"

namespace tokenmill::cpu {

void SetVectorKernelsAvx512(CpuKernels* kernels) {
  SetVectorKernels(kernels);
  SetAdapterKernels(kernels);
}

}  // namespace tokenmill::cpu
