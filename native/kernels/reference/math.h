#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/program.h"

namespace tokenmill::reference {

inline float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  }
  return 0;
}

/// Values as symmetric int8 with one scale gives them back.
inline void RoundToInt8(float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  if (!(largest > 0)) return;
  const float scale = largest / 127.0f;
  for (int i = 0; i < n; ++i) x[i] = std::nearbyint(x[i] / scale) * scale;
}

/// RMS norm of one row; `weight` may be null for none.
inline void RmsNorm(const float* in, const float* weight, float epsilon, int64_t width, float* out) {
  double squares = 0;
  for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(in[i]) * in[i];
  const float scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon));
  for (int64_t i = 0; i < width; ++i) out[i] = in[i] * scale * (weight != nullptr ? weight[i] : 1.0f);
}

/// Rotates the first `rope.dims` elements of one head at a position.
inline void Rotate(const RopeTable& rope, int64_t position, float* head) {
  const int half = rope.dims / 2;
  for (int i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * rope.frequencies[static_cast<size_t>(i)];
    const float cosine = static_cast<float>(std::cos(angle)) * rope.magnitude;
    const float sine = static_cast<float>(std::sin(angle)) * rope.magnitude;
    const int a = rope.style == RopeStyle::kInterleaved ? 2 * i : i;
    const int b = rope.style == RopeStyle::kInterleaved ? 2 * i + 1 : i + half;
    const float x = head[a], y = head[b];
    head[a] = x * cosine - y * sine;
    head[b] = x * sine + y * cosine;
  }
}

}  // namespace tokenmill::reference
