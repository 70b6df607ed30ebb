#include "engine/histogram.h"

#include <random>
#include <vector>

#include "harness.h"

using namespace tokenmill;

TEST(each_value_is_counted_once_below_the_first_bound_that_is_not_less) {
  std::mt19937 random(5);
  Histogram histogram(kTokenBoundsMs);
  const std::span<const double> bounds = histogram.bounds();
  std::vector<double> values(bounds.begin(), bounds.end());
  values.insert(values.end(), {0, 0.5, 1000.1, 1e12});
  std::uniform_real_distribution<double> any(0, 1200);
  for (int i = 0; i < 5000; ++i) values.push_back(any(random));
  double sum = 0;
  for (const double value : values) {
    histogram.Add(value);
    sum += value;
  }
  EXPECT_EQ(histogram.counts().size(), bounds.size() + 1);
  uint64_t up_to = 0;
  for (size_t i = 0; i < histogram.counts().size(); ++i) {
    up_to += histogram.counts()[i];
    uint64_t expected = 0;
    for (const double value : values) expected += i == bounds.size() || value <= bounds[i];
    EXPECT_EQ(up_to, expected);
  }
  EXPECT_EQ(histogram.sum(), sum);
}

TEST(all_bounds_ascend_and_fit) {
  const SchedulerHistograms all;
  for (const Histogram* each :
       {&all.queue_ms, &all.ttft_ms, &all.tpot_ms, &all.step_rows, &all.step_sequences, &all.pages_used}) {
    const std::span<const double> bounds = each->bounds();
    EXPECT(bounds.size() <= Histogram::kBoundsAtMost);
    for (size_t i = 1; i < bounds.size(); ++i) EXPECT(bounds[i - 1] < bounds[i]);
  }
}

HARNESS_MAIN()
