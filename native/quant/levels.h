#pragma once

// What the quantizers share: rounding to levels. All of it has internal linkage, so that a file compiled for
// one ISA does not give its copy to the rest of the program.

#include <algorithm>
#include <cmath>

namespace tokenmill {

/// x without its fraction, held within 0 and `level_max`; 0 for NaN.
static inline int TruncateToLevel(float x, int level_max) {
  if (!(x > 0)) return 0;
  return x < static_cast<float>(level_max) ? static_cast<int>(x) : level_max;
}

/// x rounded to nearest, ties away from zero, held within the levels; 0 for NaN.
static inline int RoundToLevel(float x, int level_min, int level_max) {
  if (std::isnan(x)) return 0;
  return static_cast<int>(
      std::clamp(std::round(x), static_cast<float>(level_min), static_cast<float>(level_max)));
}

static inline float InverseOrZero(float x) { return x != 0 ? 1 / x : 0; }

/// The value of largest magnitude, with its sign; the first of equal ones.
static inline float LargestMagnitude(const float* values, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(values[i]) > std::fabs(largest)) largest = values[i];
  }
  return largest;
}

}  // namespace tokenmill
