#include "engine/step_budget.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "harness.h"

using namespace tokenmill;

namespace {

// A machine on which a step costs a base, and each row its own.
struct Machine {
  double base_ms = 4, decode_row_ms = 0.2, row_ms = 0.25;
  double noise = 0;
  std::mt19937 random{1};

  double Ms(int decode_rows, int prefill_rows) {
    const double ms = base_ms + decode_row_ms * decode_rows + row_ms * prefill_rows;
    return ms * (1 + noise * (static_cast<double>(random() % 1001) / 1000 - 0.5));
  }
};

// Runs steps with prefill waiting all the time; gives the times of the last half and counts rows.
std::vector<double> Run(StepBudget* budget, Machine* machine, int decode_rows, int steps,
                        int64_t* rows = nullptr) {
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    const int prefill = budget->PrefillRows(decode_rows, 1);
    const double ms = machine->Ms(decode_rows, prefill);
    budget->Measured(decode_rows, prefill, ms);
    if (rows != nullptr) *rows += prefill;
    if (i >= steps / 2) times.push_back(ms);
  }
  return times;
}

double Maximum(const std::vector<double>& times) { return *std::max_element(times.begin(), times.end()); }

}  // namespace

TEST(steps_without_decode_rows_are_filled) {
  for (const double target : {0.0, 5.0}) {
    StepBudget budget(512, target);
    EXPECT_EQ(budget.PrefillRows(0, 1), 512);
    budget.Measured(0, 512, 100000);
    EXPECT_EQ(budget.PrefillRows(0, 1), 512);
  }
}

TEST(a_prompt_among_streams_adds_less_than_their_own_time) {
  for (const int streams : {1, 4, 16, 64}) {
    Machine machine;
    StepBudget budget(512, 0);
    if (streams < 16) machine.base_ms = 40;  // so that the least of prefill costs less than the streams
    budget.Measured(0, 5, machine.Ms(0, 5));
    const double alone = machine.Ms(streams, 0);
    const auto times = Run(&budget, &machine, streams, 400);
    EXPECT_LE(Maximum(times), 1.6 * alone);
    const double mean = std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
    EXPECT(mean > 1.4 * alone);
  }
}

TEST(the_more_wait_for_each_one_that_runs_the_more_they_get) {
  Machine machine;
  machine.base_ms = 20;
  StepBudget budget(512, 0);
  Run(&budget, &machine, 16, 400);
  budget.Measured(16, 0, machine.Ms(16, 0));
  const int few = budget.PrefillRows(16, 1);
  EXPECT_EQ(budget.PrefillRows(16, 16), few);
  EXPECT_LE(std::abs(budget.PrefillRows(16, 64) - 4 * few), 4);
  EXPECT_LE(std::abs(budget.PrefillRows(16, 10000) - 8 * few), 8);
  StepBudget aiming(512, 20);
  Run(&aiming, &machine, 16, 400);
  aiming.Measured(16, 0, machine.Ms(16, 0));
  EXPECT_EQ(aiming.PrefillRows(16, 1), aiming.PrefillRows(16, 10000));
}

TEST(a_target_is_kept_and_used) {
  for (const double target : {12.0, 20.0, 60.0}) {
    Machine machine;
    StepBudget budget(512, target);
    const auto times = Run(&budget, &machine, 8, 400);
    EXPECT_LE(Maximum(times), target);
    EXPECT(Maximum(times) > 0.85 * target);
  }
}

TEST(a_target_that_cannot_be_kept_leaves_prefill_its_floor) {
  Machine machine;
  StepBudget budget(512, 1);
  int64_t rows = 0;
  Run(&budget, &machine, 8, 330, &rows);
  EXPECT(rows >= 300 * StepBudget::kFloorRows && rows <= 330 * StepBudget::kFloorRows);
}

TEST(a_floor_of_costly_rows_is_lower) {
  Machine machine;
  machine.base_ms = 20;
  machine.row_ms = 4;  // as behind a long context
  for (const double target : {0.0, 5.0}) {
    StepBudget budget(512, target);
    const auto times = Run(&budget, &machine, 16, 400);
    EXPECT_LE(Maximum(times), 1.8 * machine.Ms(16, 0));
    EXPECT(Maximum(times) >= machine.Ms(16, StepBudget::kTellingRows) - 1e-9);
  }
}

TEST(noise_and_outliers_do_not_throw_it_off) {
  Machine machine;
  machine.noise = 0.3;
  StepBudget budget(512, 0);
  const double alone = 4 + 0.2 * 16;
  for (int i = 0; i < 2000; ++i) {
    const int prefill = budget.PrefillRows(16, 1);
    const double quiet = 4 + 0.2 * 16 + 0.25 * prefill;
    if (i > 100) EXPECT_LE(quiet, 2.6 * alone);
    // Each fiftieth step stands still for 200 ms.
    budget.Measured(16, prefill, machine.Ms(16, prefill) + (i % 50 == 20 ? 200 : 0));
  }
}

TEST(it_follows_costs_that_change) {
  Machine machine;
  StepBudget budget(512, 0);
  Run(&budget, &machine, 16, 200);
  machine.row_ms = 1;  // as behind a long context
  EXPECT_LE(Maximum(Run(&budget, &machine, 16, 100)), 1.0 * (4 + 0.2 * 16) + 16 * 1.0 + 1e-9);
  machine.row_ms = 0.05;
  int64_t rows = 0;
  Run(&budget, &machine, 16, 100, &rows);
  EXPECT(rows > 100 * 50);
  // Streams that cost more themselves leave prefill more, which only a step without prefill can tell.
  machine = {};
  machine.base_ms = 20;
  Run(&budget, &machine, 16, 300);
  rows = 0;
  Run(&budget, &machine, 16, 100, &rows);
  EXPECT(rows > 100 * 33 && rows < 100 * 50);
}

TEST(prefill_goes_on_whatever_the_number_of_decode_rows_does) {
  Machine machine;
  StepBudget budget(512, 0);
  std::mt19937 random(4);
  int64_t steps = 0, without = 0;
  for (int i = 0; i < 1000; ++i) {
    const int decode = 1 + static_cast<int>(random() % 40);
    const int prefill = budget.PrefillRows(decode, 1);
    EXPECT(prefill == 0 || prefill >= StepBudget::kFloorRows);
    ++steps;
    without += prefill == 0;
    budget.Measured(decode, prefill, machine.Ms(decode, prefill));
  }
  EXPECT(2 * without <= steps + 1);
}

TEST(never_more_rows_than_a_step_has) {
  Machine machine;
  machine.row_ms = 1e-9;
  for (const int max_rows : {1, 3, 16, 64}) {
    StepBudget budget(max_rows, 0);
    for (int i = 0; i < 100; ++i) {
      const int decode = i % (max_rows + 3);
      const int prefill = budget.PrefillRows(decode, 1);
      EXPECT(prefill >= 0 && prefill + std::min(decode, max_rows) <= max_rows);
      budget.Measured(decode, prefill, machine.Ms(decode, prefill));
    }
  }
}

HARNESS_MAIN()
