#pragma once

// Encoders of the formats with super-blocks of 256 values: Q4_K and Q5_K (scales and mins of 6 bits), Q6_K
// (scales of 8 bits). Each group's grid is found as if it could be stored exactly; then the steps of the
// scales are chosen together with the super-block's d, which least squares fit again to all levels and steps.

#include <cstring>

#include "quant/q4_k.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/search.h"

namespace tokenmill {

inline constexpr Ends kEnds4K[8] = {{0, 15},        {0, 14}, {0, 13},  {0, 12},
                                    {-0.5f, 15.5f}, {0, 16}, {-1, 15}, {-1, 16}};
inline constexpr Ends kEnds5K[8] = {{0, 31}, {0, 30},  {0, 29},        {0, 28},
                                    {0, 32}, {-1, 31}, {-0.5f, 31.5f}, {-1, 32}};

/// The steps of a group in a super-block: value ≈ (d * scale) * level - dmin * min.
struct GroupSteps {
  float scale, min;
  float l, ll, lx, error;  // of the levels under these steps
};

/// A super-block under construction.
struct KBlock {
  float d, dmin;
  GroupSteps groups[8];
  double error;
};

/// The best of eight pairs of steps near a group's own grid. A step up or down of the scale shifts the best
/// min: by the mean level.
static inline GroupSteps ChooseSteps(const float* values, float sum_x, const GroupSteps& near,
                                     float level_max, float d, float dmin) {
  constexpr float kScaleSteps[kLanes] = {0, 0, 0, 1, 1, -1, -1, 1};
  constexpr float kMinSteps[kLanes] = {0, 1, -1, 0, 1, 0, -1, -1};
  const float inverse_min = InverseOrZero(dmin);
  Lanes scale_offsets, min_offsets;
  for (int lane = 0; lane < kLanes; ++lane) {
    scale_offsets.Set(lane, kScaleSteps[lane]);
    min_offsets.Set(lane, kMinSteps[lane]);
  }
  const Lanes scale_step = Clamp(near.scale + scale_offsets, 0, 63);
  const Lanes scale = d * scale_step;
  const Lanes min_near = RoundToInteger(Clamp((scale * near.l - sum_x) * (inverse_min / 32), 0, 63));
  const Lanes min_step = Clamp(min_near + min_offsets, 0, 63);
  GroupSums sums;
  MeasureGrid<32>(values, scale, -dmin * min_step, 0, level_max, &sums);
  const int best = SmallestLane(sums.error);
  return {scale_step[best], min_step[best], sums.l[best], sums.ll[best], sums.lx[best], sums.error[best]};
}

/// The d and dmin that fit the levels and steps best.
static inline void FitSuperBlock(const float sums_x[8], const KBlock& block, float* d, float* dmin) {
  double scale_scale = 0, scale_min = 0, min_min = 0, scale_x = 0, min_x = 0;
  for (int g = 0; g < 8; ++g) {
    const GroupSteps& group = block.groups[g];
    scale_scale += double{group.scale} * group.scale * group.ll;
    scale_min += double{group.scale} * group.min * group.l;
    min_min += double{group.min} * group.min * 32;
    scale_x += double{group.scale} * group.lx;
    min_x += double{group.min} * sums_x[g];
  }
  const double determinant = scale_scale * min_min - scale_min * scale_min;
  if (determinant > 1e-9 * scale_scale * min_min) {
    *d = static_cast<float>((scale_x * min_min - min_x * scale_min) / determinant);
    *dmin = static_cast<float>((scale_x * scale_min - min_x * scale_scale) / determinant);
  } else if (min_min == 0 && scale_scale > 0) {
    *d = static_cast<float>(scale_x / scale_scale);
  }
  *d = std::max(*d, 0.0f);
  *dmin = std::max(*dmin, 0.0f);
}

static inline float StoredHalf(float x) { return F16ToF32(F32ToF16(std::min(x, 65504.0f))); }

template <int kStarts>
static inline void EncodeSuperBlock(const float* values, int fits, float level_max,
                                    const Ends (&starts)[kStarts], uint16_t* d, uint16_t* dmin,
                                    uint8_t packed[12], uint8_t levels[256]) {
  const SearchPlan plan = {0, level_max, fits, false};
  Grid grids[8];
  float sums_x[8], scale_max = 0, min_max = 0;
  for (int g = 0; g < 8; ++g) {
    grids[g] = SearchGrid<32>(values + 32 * g, plan, starts);
    scale_max = std::max(scale_max, grids[g].scale);
    min_max = std::max(min_max, -grids[g].offset);
    sums_x[g] = 0;
    for (int i = 0; i < 32; ++i) sums_x[g] += values[32 * g + i];
  }
  KBlock best = {}, block = {};
  best.error = HUGE_VAL;
  block.d = scale_max / 63;
  block.dmin = min_max / 63;
  for (int round = 0; round < 3; ++round) {
    block.d = StoredHalf(block.d);
    block.dmin = StoredHalf(block.dmin);
    block.error = 0;
    for (int g = 0; g < 8; ++g) {
      GroupSteps near;
      near.scale = static_cast<float>(RoundToLevel(grids[g].scale * InverseOrZero(block.d), 0, 63));
      // The sum of levels that makes the group's own offset the best one.
      near.l = grids[g].scale > 0 ? (sums_x[g] - 32 * grids[g].offset) / grids[g].scale : 0;
      block.groups[g] = ChooseSteps(values + 32 * g, sums_x[g], near, level_max, block.d, block.dmin);
      block.error += block.groups[g].error;
    }
    if (block.error < best.error) best = block;
    FitSuperBlock(sums_x, block, &block.d, &block.dmin);
  }
  *d = F32ToF16(best.d);
  *dmin = F32ToF16(best.dmin);
  KScales scales;
  for (int g = 0; g < 8; ++g) {
    const GroupSteps& group = best.groups[g];
    scales.scale[g] = static_cast<uint8_t>(group.scale);
    scales.min[g] = static_cast<uint8_t>(group.min);
    TakeLevels(values + 32 * g, 32, best.d * group.scale, -(best.dmin * group.min), 0, level_max,
               levels + 32 * g);
  }
  PackKScales(scales, packed);
}

static inline void EncodeBlock(const float* values, BlockQ4_K* block) {
  uint8_t levels[256];
  EncodeSuperBlock(values, 1, 15, kEnds4K, &block->d, &block->dmin, block->scales, levels);
  PutLevels(levels, block);
}

static inline void EncodeBlock(const float* values, BlockQ5_K* block) {
  uint8_t levels[256];
  EncodeSuperBlock(values, 1, 31, kEnds5K, &block->d, &block->dmin, block->scales, levels);
  PutLevels(levels, block);
}

inline constexpr float kStarts6[8] = {-32, -31, -30, -29, 31, 30, 29, 28};

static inline void EncodeBlock(const float* values, BlockQ6_K* block) {
  const SearchPlan plan = {-32, 31, 1, false};
  float group_scales[16];
  for (int g = 0; g < 16; ++g) group_scales[g] = SearchScale<16>(values + 16 * g, plan, kStarts6).scale;
  float d = LargestMagnitude(group_scales, 16) / -128;
  float best_d = 0, best_steps[16] = {};
  double best_error = HUGE_VAL;
  for (int round = 0; round < 2; ++round) {
    d = d < 0 ? -StoredHalf(-d) : StoredHalf(d);
    const float inverse = InverseOrZero(d);
    float steps[16];
    double error = 0, scale_scale = 0, scale_x = 0;
    for (int g = 0; g < 16; ++g) {
      Lanes step;
      const float near = static_cast<float>(RoundToLevel(group_scales[g] * inverse, -128, 127));
      for (int lane = 0; lane < kLanes; ++lane) step.Set(lane, near + static_cast<float>(lane - 4));
      step = Clamp(step, -128, 127);
      GroupSums sums;
      MeasureScale<16>(values + 16 * g, d * step, plan.low, plan.high, &sums);
      const int best = SmallestLane(sums.error);
      steps[g] = step[best];
      error += sums.error[best];
      scale_scale += double{steps[g]} * steps[g] * sums.ll[best];
      scale_x += double{steps[g]} * sums.lx[best];
    }
    if (error < best_error) {
      best_error = error;
      best_d = d;
      std::copy(steps, steps + 16, best_steps);
    }
    if (scale_scale > 0) d = static_cast<float>(scale_x / scale_scale);
  }
  block->d = F32ToF16(best_d);
  uint8_t levels[256];
  for (int g = 0; g < 16; ++g) {
    block->scales[g] = static_cast<int8_t>(best_steps[g]);
    TakeLevels(values + 16 * g, 16, best_d * best_steps[g], 0, plan.low, plan.high, levels + 16 * g);
  }
  PutLevels(levels, block);
}

}  // namespace tokenmill
