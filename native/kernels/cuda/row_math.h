#pragma once

#include "kernels/cuda/gpu.h"

// Functions of f32 made of correctly rounded operations alone, so that the emulator and every GPU give the same bits.

namespace tokenmill::cuda {

/// e^x, at most 2 units in the last place off; 0 and infinity beyond f32's range, NaN for NaN.
GPU_FN float Exp(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  // Added and taken away again, 1.5 * 2^23 rounds to whole numbers; its low bits then hold them.
  const float shifted = gpu::fma(x, 1.44269504f, 12582912.0f);
  const float n = shifted - 12582912.0f;
  float r = gpu::fma(n, -0.693359375f, x);  // ln 2 in two parts, the first exact times n
  r = gpu::fma(n, 2.12194440e-4f, r);
  float p = 1.98412698e-4f;
  p = gpu::fma(p, r, 1.38888889e-3f);
  p = gpu::fma(p, r, 8.33333333e-3f);
  p = gpu::fma(p, r, 4.16666667e-2f);
  p = gpu::fma(p, r, 1.66666667e-1f);
  p = gpu::fma(p, r, 0.5f);
  p = gpu::fma(p, r, 1.0f);
  p = gpu::fma(p, r, 1.0f);
  // 2^n in two factors, since n reaches from -150 to 128.
  const int exponent = static_cast<int>(gpu::float_bits(shifted) - 0x4b400000u);
  const int half = exponent >> 1;
  const float low = gpu::bits_float(static_cast<uint32_t>(half + 127) << 23);
  const float high = gpu::bits_float(static_cast<uint32_t>(exponent - half + 127) << 23);
  return p * low * high;
}

/// At most 4 units in the last place off.
GPU_FN float Tanh(float x) {
  const float magnitude = gpu::abs(x);
  if (magnitude < 0.5f) {
    const float square = x * x;
    float p = -1.45583438e-3f;  // the Taylor series, to x^15
    p = gpu::fma(p, square, 3.59212804e-3f);
    p = gpu::fma(p, square, -8.86323553e-3f);
    p = gpu::fma(p, square, 2.18694885e-2f);
    p = gpu::fma(p, square, -5.39682540e-2f);
    p = gpu::fma(p, square, 1.33333333e-1f);
    p = gpu::fma(p, square, -3.33333333e-1f);
    return gpu::fma(p * square, x, x);
  }
  const float result = 1.0f - gpu::divide(2.0f, Exp(2.0f * magnitude) + 1.0f);
  return x < 0 ? -result : result;
}

}  // namespace tokenmill::cuda
