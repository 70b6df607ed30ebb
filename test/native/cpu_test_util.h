#pragma once

// What the tests of the CPU backend share: random data, the ISAs of this machine, error measures.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/select_kernels.h"

namespace cpu_test {

using tokenmill::CpuIsa;

// Those of this machine and build, without the reference.
inline std::vector<CpuIsa> Isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvxVnni, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kNeon,
                     CpuIsa::kNeonI8mm}) {
    if (tokenmill::HasCpuIsa(isa)) isas.push_back(isa);
  }
  return isas;
}

inline std::vector<const tokenmill::cpu::CpuKernels*> AllKernels() {
  std::vector<const tokenmill::cpu::CpuKernels*> all;
  for (CpuIsa isa : Isas()) all.push_back(tokenmill::cpu::SelectKernels(isa));
  return all;
}

// About normal, as sums of four uniform numbers: the same bits on every machine.
inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float sigma = 1) {
  std::mt19937 engine(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const uint32_t a = static_cast<uint32_t>(engine()), b = static_cast<uint32_t>(engine());
    const uint32_t sum = (a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16);
    value = sigma * (static_cast<float>(static_cast<int32_t>(sum) - 2 * 0xffff) / 37837.0f);
  }
  return values;
}

inline double Nmse(const float* got, const float* want, size_t count) {
  double error = 0, power = 0;
  for (size_t i = 0; i < count; ++i) {
    const double difference = static_cast<double>(got[i]) - want[i];
    error += difference * difference;
    power += static_cast<double>(want[i]) * want[i];
  }
  return power == 0 ? error : error / power;
}

inline bool SameBits(const float* a, const float* b, size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace cpu_test
