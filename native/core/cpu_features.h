#pragma once

#include <string>

namespace tokenmill {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C, and enabled by the operating system
  bool avx512_vnni = false;  // F, BW, VL, DQ and VNNI, enabled by the operating system
  bool avx512_bf16 = false;
  bool avx_vnni = false;
};

/// What this CPU and its operating system offer.
const CpuFeatures& HostCpuFeatures();

/// Physical cores that this process may use: within its affinity mask and cgroup quota, at least 1.
int UsableCores();

}  // namespace tokenmill
