#pragma once

#include <string>

namespace tokenmill {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C, and enabled by the operating system
  bool avx512_vnni = false;  // F, BW, VL, DQ and VNNI, enabled by the operating system
  bool avx512_bf16 = false;  // with avx512_vnni
  bool avx_vnni = false;     // with avx2: dpbusd of 256 bits
  bool arm_dotprod = false;  // sdot, udot
  bool arm_i8mm = false;     // with arm_dotprod: usdot, usmmla
};

/// What this CPU and its operating system offer.
const CpuFeatures& HostCpuFeatures();

/// The arm64 part, which only the operating system can tell: each platform file has its own.
void DetectArmFeatures(CpuFeatures* features);

/// Physical cores that this process may use: within its affinity mask and cgroup quota, at least 1.
int UsableCores();

}  // namespace tokenmill
