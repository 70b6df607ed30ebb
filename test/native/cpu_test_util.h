#pragma once

// What the tests of the CPU backend share: random data, the ISAs of this machine, error measures.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/cpu_features.h"
#include "kernels/cpu/select_kernels.h"

namespace cpu_test {

using tokenmill::CpuIsa;

inline std::vector<const tokenmill::cpu::CpuKernels*> AllKernels() {
  std::vector<const tokenmill::cpu::CpuKernels*> all;
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (const auto* kernels = tokenmill::cpu::SelectKernels(isa)) all.push_back(kernels);
  }
  return all;
}

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float sigma = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
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
