#pragma once

#include "kernels/cuda/gpu.h"

// Functions made of correctly rounded operations alone, so that the emulator and every GPU give the same
// bits.

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

union DoubleWords {
  double value;
  uint32_t words[2];  // the lower first
};

/// The natural logarithm of a normal positive number, to some 1e-15 of 1 or of itself.
GPU_FN double Log(double x) {
  DoubleWords mantissa;
  mantissa.value = x;
  int exponent = static_cast<int>(mantissa.words[1] >> 20) - 1023;
  mantissa.words[1] = (mantissa.words[1] & 0xfffffu) | 1023u << 20;
  double m = mantissa.value;  // 1 to 2
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172: the series to s^19.
  const double divisor = m + 1.0;
  double inverse = static_cast<double>(gpu::divide(1.0f, static_cast<float>(divisor)));
  inverse += inverse * (1.0 - divisor * inverse);
  inverse += inverse * (1.0 - divisor * inverse);
  const double s = (m - 1.0) * inverse, square = s * s;
  double series = 0;
  GPU_UNROLL
  for (int n = 19; n >= 1; n -= 2) series = series * square + 1.0 / n;
  return static_cast<double>(exponent) * 0.6931471805599453 + 2.0 * s * series;
}

}  // namespace tokenmill::cuda
