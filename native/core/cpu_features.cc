#include "core/cpu_features.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

#include <cstdint>
#endif

namespace tokenmill {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters Cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

// Register state that the operating system saves: bits 1, 2 for YMM, 5 to 7 for ZMM.
uint64_t ReadXcr0() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool Bit(uint32_t value, int bit) { return (value >> bit & 1) != 0; }

CpuFeatures Detect() {
  CpuFeatures features;
  const CpuidRegisters leaf1 = Cpuid(1, 0);
  const CpuidRegisters leaf7 = Cpuid(7, 0);
  const CpuidRegisters leaf7_1 = Cpuid(7, 1);
  const bool osxsave = Bit(leaf1.ecx, 27);
  const uint64_t xcr0 = osxsave ? ReadXcr0() : 0;
  const bool ymm = (xcr0 & 0x6) == 0x6;
  const bool zmm = (xcr0 & 0xe6) == 0xe6;
  const bool fma = Bit(leaf1.ecx, 12), f16c = Bit(leaf1.ecx, 29);
  features.avx2 = ymm && fma && f16c && Bit(leaf7.ebx, 5);
  const bool f = Bit(leaf7.ebx, 16), dq = Bit(leaf7.ebx, 17), bw = Bit(leaf7.ebx, 30),
             vl = Bit(leaf7.ebx, 31);
  features.avx512_vnni = features.avx2 && zmm && f && dq && bw && vl && Bit(leaf7.ecx, 11);
  features.avx512_bf16 = features.avx512_vnni && Bit(leaf7_1.eax, 5);
  features.avx_vnni = features.avx2 && Bit(leaf7_1.eax, 4);
  return features;
}

#else

CpuFeatures Detect() {
  CpuFeatures features;
  DetectArmFeatures(&features);
  return features;
}

#endif

}  // namespace

const CpuFeatures& HostCpuFeatures() {
  static const CpuFeatures features = Detect();
  return features;
}

}  // namespace tokenmill
