#pragma once

// The searches behind the encoders: for a group of values, the levels' scale (and offset) with the least
// squared error. Each starts from several grids at once, one a lane, and from each goes downhill: levels for
// the grid, then the grid that fits these levels best, and so on (least squares in turn, as in k-means). The
// error is that of the values as stored, so the best of all is known and not estimated.

#include <algorithm>
#include <cmath>

#include "quant/lanes.h"
#include "quant/levels.h"

namespace tokenmill {

/// Sums over the values x of a group and their levels l under each lane's grid.
struct GroupSums {
  Lanes l, ll, lx, error;
};

/// value ≈ scale * level + offset, levels low … high.
template <int kCount>
static inline void MeasureGrid(const float* values, const Lanes& scale, const Lanes& offset, float low,
                               float high, GroupSums* sums) {
  const Lanes inverse = Inverse(scale);
  Lanes sum_l, sum_ll, sum_lx, sum_error;
  for (int i = 0; i < kCount; ++i) {
    const Lanes x = values[i];
    const Lanes level = RoundToInteger(Clamp((x - offset) * inverse, low, high));
    const Lanes miss = x - (scale * level + offset);
    sum_l = sum_l + level;
    sum_ll = sum_ll + level * level;
    sum_lx = sum_lx + level * x;
    sum_error = sum_error + miss * miss;
  }
  *sums = {sum_l, sum_ll, sum_lx, sum_error};
}

/// value ≈ scale * level.
template <int kCount>
static inline void MeasureScale(const float* values, const Lanes& scale, float low, float high,
                                GroupSums* sums) {
  const Lanes inverse = Inverse(scale);
  Lanes sum_ll, sum_lx, sum_error;
  for (int i = 0; i < kCount; ++i) {
    const Lanes x = values[i];
    const Lanes level = RoundToInteger(Clamp(x * inverse, low, high));
    const Lanes miss = x - scale * level;
    sum_ll = sum_ll + level * level;
    sum_lx = sum_lx + level * x;
    sum_error = sum_error + miss * miss;
  }
  *sums = {Lanes(), sum_ll, sum_lx, sum_error};
}

/// The levels that belong to a grid, as MeasureGrid has them.
static inline void TakeLevels(const float* values, int count, float scale, float offset, float low,
                              float high, uint8_t* levels) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (int i = 0; i < count; ++i) {
    float level = (values[i] - offset) * inverse;
    level = level > low ? level : low;
    level = level < high ? level : high;
    levels[i] = static_cast<uint8_t>(static_cast<int>((level + kRoundingShift) - kRoundingShift) -
                                     static_cast<int>(low));
  }
}

struct Grid {
  float scale = 0;
  float offset = 0;
  float error = HUGE_VALF;
};

static inline void KeepBest(const Lanes& scale, const Lanes& offset, const Lanes& error, Grid* best) {
  const int lane = SmallestLane(error);
  if (error[lane] < best->error) *best = {scale[lane], offset[lane], error[lane]};
}

/// How a search goes: levels, how many times it fits, and whether scales and offsets are stored as halves.
struct SearchPlan {
  float low, high;
  int fits;
  bool halves;
};

/// The best grid without offset. The value of largest magnitude starts at the levels `starts` (not always
/// whole ones, and beyond the range where cutting it off may pay).
template <int kCount, int kStarts>
static inline Grid SearchScale(const float* values, const SearchPlan& plan, const float (&starts)[kStarts]) {
  static_assert(kStarts % kLanes == 0);
  const float extreme = LargestMagnitude(values, kCount);
  Grid best;
  for (int start = 0; start < kStarts; start += kLanes) {
    Lanes scale;
    for (int lane = 0; lane < kLanes; ++lane) scale.Set(lane, extreme / starts[start + lane]);
    for (int fit = 0; fit <= plan.fits; ++fit) {
      GroupSums sums;
      if (plan.halves) scale = RoundToHalf(scale);
      MeasureScale<kCount>(values, scale, plan.low, plan.high, &sums);
      KeepBest(scale, Lanes(), sums.error, &best);
      scale = WherePositive(sums.ll, sums.lx / sums.ll, scale);
    }
  }
  return best;
}

/// The levels that the least and the greatest value of a group start at, beyond the range where cutting them
/// off may pay. Whole ones find the grid again that values were once rounded to.
struct Ends {
  float low, high;
};

/// The best grid with an offset. Offsets of groups in a super-block (`plan.halves` not set) are at most 0, as
/// the K formats store only mins.
template <int kCount, int kStarts>
static inline Grid SearchGrid(const float* values, const SearchPlan& plan, const Ends (&starts)[kStarts]) {
  static_assert(kStarts % kLanes == 0);
  float low = *std::min_element(values, values + kCount);
  const float high = *std::max_element(values, values + kCount);
  if (!plan.halves) low = std::min(low, 0.0f);
  // Sums of products lose the little that values far from zero differ by: they are taken about the middle.
  const float middle = plan.halves ? low + (high - low) / 2 : 0;
  float centered[kCount];
  float sum_x = 0;
  for (int i = 0; i < kCount; ++i) {
    centered[i] = values[i] - middle;
    sum_x += centered[i];
  }
  constexpr float kCountF = kCount;
  Grid best;
  for (int start = 0; start < kStarts; start += kLanes) {
    Lanes scale, offset;
    for (int lane = 0; lane < kLanes; ++lane) {
      const Ends& ends = starts[start + lane];
      const float step = (high - low) / (ends.high - ends.low);
      scale.Set(lane, step);
      offset.Set(lane, low - middle - step * ends.low);
    }
    for (int fit = 0; fit <= plan.fits; ++fit) {
      if (plan.halves) {
        scale = RoundToHalf(scale);
        offset = RoundToHalf(offset + middle) - middle;
      }
      GroupSums sums;
      MeasureGrid<kCount>(centered, scale, offset, 0, plan.high, &sums);
      KeepBest(scale, offset, sums.error, &best);
      const Lanes determinant = kCountF * sums.ll - sums.l * sums.l;
      scale = WherePositive(determinant, (kCountF * sums.lx - sums.l * sum_x) / determinant, scale);
      offset = (sum_x - scale * sums.l) * (1 / kCountF);
      if (!plan.halves) {
        const Lanes alone = WherePositive(sums.ll, sums.lx / sums.ll, scale);
        scale = WherePositive(offset, alone, scale);
        offset = Clamp(offset, -HUGE_VALF, 0);
      }
      scale = Clamp(scale, 0, HUGE_VALF);
    }
  }
  best.offset += middle;
  return best;
}

}  // namespace tokenmill
