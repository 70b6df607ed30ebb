#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tokenmill {

/// Counts of values in fixed buckets: bucket i has those up to bounds()[i] and above the bound before it, the last
/// bucket those above all bounds. Adding neither allocates nor locks; the loop thread writes, and publishes copies.
class Histogram {
 public:
  static constexpr size_t kBoundsAtMost = 24;

  /// `bounds` ascend, are kBoundsAtMost at most, and outlive the histogram.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}

  void Add(double value) {
    ++counts_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
    sum_ += value;
  }

  std::span<const double> bounds() const { return bounds_; }
  std::span<const uint64_t> counts() const { return std::span(counts_).first(bounds_.size() + 1); }
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::array<uint64_t, kBoundsAtMost + 1> counts_ = {};
  double sum_ = 0;
};

inline constexpr double kLatencyBoundsMs[] = {1,   2.5,  5,    10,   25,    50,    100,   250,
                                              500, 1000, 2500, 5000, 10000, 30000, 60000, 300000};
inline constexpr double kTokenBoundsMs[] = {1,  2,  5,   10,  15,  20,  30,  40,
                                            50, 75, 100, 150, 200, 300, 500, 1000};
inline constexpr double kStepBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
inline constexpr double kPageBounds[] = {1,    4,    16,   64,   128,   256,   512,
                                         1024, 2048, 4096, 8192, 16384, 65536, 262144};

/// What `stats()` shows the distribution of.
struct SchedulerHistograms {
  Histogram queue_ms{kLatencyBoundsMs};  // of each request, at its first step
  Histogram ttft_ms{kLatencyBoundsMs};  // of each reply, at its first token
  Histogram tpot_ms{kTokenBoundsMs};  // of each reply of two tokens or more, at its end
  Histogram step_rows{kStepBounds};  // of each step
  Histogram step_sequences{kStepBounds};  // of each step
  Histogram pages_used{kPageBounds};  // of all KV groups, after each step
};

}  // namespace tokenmill
