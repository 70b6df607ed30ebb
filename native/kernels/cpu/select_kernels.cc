#include "kernels/cpu/select_kernels.h"

#include "core/cpu_features.h"
#include "kernels/cpu/isa_tables.h"

namespace tokenmill::cpu {

#if defined(__x86_64__) || defined(_M_X64)

namespace {

CpuKernels Avx2Kernels() {
  CpuKernels kernels = {};
  kernels.name = "avx2";
  SetMatmulKernelsAvx2(&kernels);
  SetVectorKernelsAvx2(&kernels);
  return kernels;
}

CpuKernels Avx512Kernels() {
  CpuKernels kernels = {};
  kernels.name = "avx512";
  SetMatmulKernelsAvx512(&kernels);
  SetVectorKernelsAvx512(&kernels);
  return kernels;
}

#if defined(TOKENMILL_EMULATE_AVX512)
bool HasAvx512() { return HostCpuFeatures().avx2; }
#else
bool HasAvx512() { return HostCpuFeatures().avx512_vnni; }
#endif

}  // namespace

// Filling a table already runs code of its ISA: each is only made where the CPU has it.
const CpuKernels* SelectKernels(CpuIsa isa) {
  if (isa == CpuIsa::kAvx2 && HostCpuFeatures().avx2) {
    static const CpuKernels avx2 = Avx2Kernels();
    return &avx2;
  }
  if (isa == CpuIsa::kAvx512 && HasAvx512()) {
    static const CpuKernels avx512 = Avx512Kernels();
    return &avx512;
  }
  return nullptr;
}

#else

const CpuKernels* SelectKernels(CpuIsa) { return nullptr; }

#endif

}  // namespace tokenmill::cpu
