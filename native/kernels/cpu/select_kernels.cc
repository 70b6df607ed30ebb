#include "kernels/cpu/select_kernels.h"

#include "core/cpu_features.h"
#include "kernels/cpu/isa_tables.h"

namespace tokenmill {
namespace cpu {
namespace {

using SetKernels = void (*)(CpuKernels* kernels);

CpuKernels Table(const char* name, SetKernels set_matmul, SetKernels set_vector) {
  CpuKernels kernels = {};
  kernels.name = name;
  set_matmul(&kernels);
  set_vector(&kernels);
  return kernels;
}

}  // namespace

// Filling a table already runs code of its ISA: each is only made where the CPU has it.
const CpuKernels* SelectKernels(CpuIsa isa) {
  if (!HasCpuIsa(isa)) return nullptr;
  switch (isa) {
#if defined(__x86_64__) || defined(_M_X64)
    case CpuIsa::kAvx2: {
      static const CpuKernels avx2 = Table("avx2", SetMatmulKernelsAvx2, SetVectorKernelsAvx2);
      return &avx2;
    }
    case CpuIsa::kAvxVnni: {
      static const CpuKernels vnni = Table("avxvnni", SetMatmulKernelsAvxVnni, SetVectorKernelsAvx2);
      return &vnni;
    }
    case CpuIsa::kAvx512: {
      static const CpuKernels avx512 = Table("avx512", SetMatmulKernelsAvx512, SetVectorKernelsAvx512);
      return &avx512;
    }
    case CpuIsa::kAvx512Bf16: {
      static const CpuKernels bf16 = Table("avx512bf16", SetMatmulKernelsAvx512Bf16, SetVectorKernelsAvx512);
      return &bf16;
    }
#elif defined(__aarch64__)
    case CpuIsa::kNeon: {
      static const CpuKernels neon = Table("neon", SetMatmulKernelsNeon, SetVectorKernelsNeon);
      return &neon;
    }
    case CpuIsa::kNeonI8mm: {
      static const CpuKernels i8mm = Table("neon-i8mm", SetMatmulKernelsNeonI8mm, SetVectorKernelsNeon);
      return &i8mm;
    }
#endif
    default:
      return nullptr;
  }
}

}  // namespace cpu

bool HasCpuIsa(CpuIsa isa) {
  const CpuFeatures& cpu = HostCpuFeatures();
  switch (isa) {
    case CpuIsa::kReference:
      return true;
    case CpuIsa::kAvx2:
      return cpu.avx2;
#if defined(TOKENMILL_EMULATE_AVX512)
    case CpuIsa::kAvxVnni:
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Bf16:
      return cpu.avx2;
#else
    case CpuIsa::kAvxVnni:
      return cpu.avx_vnni;
    case CpuIsa::kAvx512:
      return cpu.avx512_vnni;
    case CpuIsa::kAvx512Bf16:
      return cpu.avx512_bf16;
#endif
    case CpuIsa::kNeon:
      return cpu.arm_dotprod;
    case CpuIsa::kNeonI8mm:
      return cpu.arm_i8mm;
  }
  return false;
}

}  // namespace tokenmill
