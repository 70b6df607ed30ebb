#pragma once

// What the quantizers share: rounding to levels, and the search for the scale of a group of values. All of it
// has internal linkage, so that a file compiled for one ISA does not give its copy to the rest of the
// program.

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

/// value ≈ scale * level - min, with both at least 0.
struct ScaleAndMin {
  float scale;
  float min;
};

/// The least-squares scale and min for `levels`, given `count` values; min stays at least 0.
static inline ScaleAndMin FitScaleAndMin(const float* values, const int* levels, int count) {
  double sum_l = 0, sum_ll = 0, sum_x = 0, sum_lx = 0;
  for (int i = 0; i < count; ++i) {
    sum_l += levels[i];
    sum_ll += levels[i] * levels[i];
    sum_x += values[i];
    sum_lx += levels[i] * static_cast<double>(values[i]);
  }
  const double determinant = count * sum_ll - sum_l * sum_l;
  if (determinant <= 0) {  // one level for all
    if (sum_x > 0 && sum_ll > 0) return {static_cast<float>(sum_lx / sum_ll), 0};
    return {0, static_cast<float>(std::max(0.0, -sum_x / count))};
  }
  const double min = (sum_l * sum_lx - sum_ll * sum_x) / determinant;
  const double scale = min > 0 ? (count * sum_lx - sum_l * sum_x) / determinant : sum_lx / sum_ll;
  return {static_cast<float>(std::max(0.0, scale)), static_cast<float>(std::max(0.0, min))};
}

/// The best of several scale and min pairs for levels 0 … level_max (at most 32 values): each candidate grid
/// is a little wider or narrower than the values' range, and is then refitted to the levels it gives.
static inline ScaleAndMin SearchScaleAndMin(const float* values, int count, int level_max) {
  const float low = std::min(0.0f, *std::min_element(values, values + count));
  const float high = *std::max_element(values, values + count);
  ScaleAndMin best = {0, -low};
  if (!(high > low)) return best;
  double best_error = HUGE_VAL;
  for (int step = -10; step <= 10; ++step) {
    const float inverse = (static_cast<float>(level_max) + 0.1f * static_cast<float>(step)) / (high - low);
    int levels[32];
    for (int i = 0; i < count; ++i) levels[i] = RoundToLevel((values[i] - low) * inverse, 0, level_max);
    const ScaleAndMin fit = FitScaleAndMin(values, levels, count);
    double error = 0;
    for (int i = 0; i < count; ++i) {
      const double difference = fit.scale * static_cast<double>(levels[i]) - fit.min - values[i];
      error += difference * difference;
    }
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

/// The best of several scales for levels -level_count … level_count - 1: value ≈ scale * level. The value of
/// largest magnitude is put at the negative end, which has one level more.
static inline float SearchScale(const float* values, int count, int level_count) {
  const float largest = LargestMagnitude(values, count);
  if (largest == 0) return 0;
  float best = 0;
  double best_error = HUGE_VAL;
  for (int step = -10; step <= 10; ++step) {
    const float inverse = -(static_cast<float>(level_count) + 0.1f * static_cast<float>(step)) / largest;
    double sum_ll = 0, sum_lx = 0, sum_xx = 0;
    for (int i = 0; i < count; ++i) {
      const double x = values[i];
      const double level = RoundToLevel(values[i] * inverse, -level_count, level_count - 1);
      sum_ll += level * level;
      sum_lx += level * x;
      sum_xx += x * x;
    }
    if (sum_ll == 0) continue;
    const double error = sum_xx - sum_lx * sum_lx / sum_ll;  // of the least-squares scale
    if (error < best_error) {
      best_error = error;
      best = static_cast<float>(sum_lx / sum_ll);
    }
  }
  return best;
}

}  // namespace tokenmill
