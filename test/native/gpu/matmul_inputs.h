#pragma once

// Rows of activations in the forms of ActivationView, made on the host as views.h defines them.

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/float16.h"
#include "gpu_test.h"
#include "kernels/cuda/views.h"

namespace gpu_test {

struct HostActivations {
  int rows, k;
  std::vector<float> f32;
  std::vector<uint16_t> f16, bf16, bf16_rest;
  std::vector<float> row_scale, sums, s8_scale;
  std::vector<int8_t> s8;
};

inline void RoundRow(HostActivations* a, int row) {
  const float* x = a->f32.data() + static_cast<size_t>(row) * a->k;
  float largest = 0;
  for (int k = 0; k < a->k; ++k) largest = std::max(largest, std::fabs(x[k]));
  float scale = 1;
  if (largest > 0) scale = std::ldexp(1.0f, std::ilogb(largest) - 11);
  a->row_scale[static_cast<size_t>(row)] = scale;
  for (int k = 0; k < a->k; ++k) {
    const size_t at = static_cast<size_t>(row) * a->k + k;
    a->f16[at] = tokenmill::F32ToF16(x[k] / scale);
    a->bf16[at] = tokenmill::F32ToBf16(x[k]);
    a->bf16_rest[at] = tokenmill::F32ToBf16(x[k] - tokenmill::Bf16ToF32(a->bf16[at]));
  }
}

inline void RoundBlock(HostActivations* a, int row, int block) {
  const size_t first = static_cast<size_t>(row) * a->k + block * 32;
  const size_t at = static_cast<size_t>(row) * (a->k / 32) + block;
  float largest = 0, sum = 0;
  for (int i = 0; i < 32; ++i) {
    largest = std::max(largest, std::fabs(a->f32[first + i]));
    sum += tokenmill::F16ToF32(a->f16[first + i]);
  }
  a->sums[at] = sum;
  a->s8_scale[at] = largest / 127;
  for (int i = 0; i < 32; ++i) {
    a->s8[first + i] =
        static_cast<int8_t>(largest > 0 ? std::nearbyint(a->f32[first + i] / a->s8_scale[at]) : 0);
  }
}

/// Normal values times a power of ten of the row's own, and a row of zeros.
inline HostActivations MakeActivations(int rows, int k, uint32_t seed) {
  const size_t n = static_cast<size_t>(rows) * k, blocks = static_cast<size_t>(rows) * (k / 32);
  HostActivations a = {rows, k, std::vector<float>(n), {}, {}, {}, {}, {}, {}, {}};
  for (auto* halves : {&a.f16, &a.bf16, &a.bf16_rest}) halves->resize(n);
  a.row_scale.resize(rows);
  a.sums.resize(blocks);
  a.s8_scale.resize(blocks);
  a.s8.resize(n);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int row = 0; row < rows; ++row) {
    const float size = row % 11 == 5 ? 0.0f : std::pow(10.0f, static_cast<float>(row % 7 - 3));
    for (int i = 0; i < k; ++i) a.f32[static_cast<size_t>(row) * k + i] = size * normal(random);
    RoundRow(&a, row);
    for (int block = 0; block < k / 32; ++block) RoundBlock(&a, row, block);
  }
  return a;
}

/// On the device, each buffer as large as it must be, so that reading beyond it is a fault.
struct DeviceActivations {
  DeviceActivations(Driver& driver, const HostActivations& a)
      : f32(driver, a.f32),
        f16(driver, a.f16),
        bf16(driver, a.bf16),
        bf16_rest(driver, a.bf16_rest),
        row_scale(driver, a.row_scale),
        sums(driver, Some(a.sums)),
        s8_scale(driver, Some(a.s8_scale)),
        s8(driver, a.s8),
        k(a.k) {}

  /// Rows from `row` on.
  tokenmill::cuda::ActivationView View(int row) const {
    const int64_t at = int64_t{row} * k, block = int64_t{row} * (k / 32);
    return {f32.data() + at,
            f16.data() + at,
            row_scale.data() + row,
            sums.data() + block,
            s8.data() + at,
            s8_scale.data() + block,
            nullptr,
            bf16.data() + at,
            bf16_rest.data() + at,
            k};
  }

  DeviceBuffer<float> f32;
  DeviceBuffer<uint16_t> f16, bf16, bf16_rest;
  DeviceBuffer<float> row_scale, sums, s8_scale;
  DeviceBuffer<int8_t> s8;
  int k;

 private:
  static std::vector<float> Some(const std::vector<float>& x) {
    return x.empty() ? std::vector<float>(1) : x;
  }
};

}  // namespace gpu_test
