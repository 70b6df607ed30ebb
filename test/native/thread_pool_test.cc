#include "core/thread_pool.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "harness.h"

using tokenmill::Phase;
using tokenmill::ThreadPool;

namespace {

// Phases that each add up what the phase before wrote: wrong sums tell of a missing barrier.
struct Relay {
  explicit Relay(int phase_count)
      : values(static_cast<size_t>(phase_count) + 1, std::vector<long>(kTasks, 1)) {
    for (int p = 0; p < phase_count; ++p) {
      phases.push_back({[p] { return p % 5 == 3 ? 0 : kTasks; },
                        [this, p](int task, int thread) {
                          if (thread >= limit) wrong_thread = true;
                          const size_t from = static_cast<size_t>(p % 5 == 4 ? p - 1 : p);
                          long sum = 0;
                          for (long value : values[from]) sum += value;
                          values[static_cast<size_t>(p) + 1][static_cast<size_t>(task)] = sum % 1000;
                        }});
    }
  }
  static constexpr int kTasks = 17;
  int limit = 1;
  std::atomic<bool> wrong_thread{false};
  std::vector<std::vector<long>> values;
  std::vector<Phase> phases;
};

std::vector<long> RunRelay(ThreadPool& pool, int threads) {
  Relay relay(40);
  relay.limit = threads;
  pool.Run(relay.phases, threads);
  EXPECT(!relay.wrong_thread);
  return relay.values.back();
}

}  // namespace

TEST(every_phase_sees_all_of_the_one_before) {
  ThreadPool pool;
  const std::vector<long> expected = RunRelay(pool, 1);
  for (int round = 0; round < 300; ++round) EXPECT(RunRelay(pool, 1 + round % 6) == expected);
}

TEST(each_task_runs_once) {
  ThreadPool pool;
  std::vector<std::atomic<int>> counts(5000);
  const Phase phase{[&] { return 5000; }, [&](int task, int) { counts[static_cast<size_t>(task)]++; }};
  for (int round = 0; round < 20; ++round) pool.Run(std::span(&phase, 1), 4);
  for (const auto& count : counts) EXPECT_EQ(count.load(), 20);
}

TEST(phases_may_have_any_number_of_tasks) {
  ThreadPool pool;
  for (const int tasks : {99'999, 100'000, 100'001, 131'072, 1'000'003}) {
    std::vector<std::atomic<uint8_t>> counts(static_cast<size_t>(tasks));
    const Phase phase{[&] { return tasks; }, [&](int task, int) { counts[static_cast<size_t>(task)]++; }};
    pool.Run(std::span(&phase, 1), 3);
    int wrong = 0;
    for (const auto& count : counts) wrong += count.load() != 1;
    EXPECT_EQ(wrong, 0);
  }
}

TEST(concurrent_runs_take_turns) {
  ThreadPool pool;
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  const std::vector<long> expected = RunRelay(pool, 1);
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) wrong += RunRelay(pool, 3) != expected;
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(what_a_task_throws_leaves_the_run_and_the_pool_goes_on) {
  ThreadPool pool;
  const std::vector<long> expected = RunRelay(pool, 1);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> active{0}, later{0};
    const std::vector<Phase> phases = {
        {[] { return 50; },
         [&](int task, int) {
           ++active;
           std::this_thread::yield();
           --active;
           if (task % 20 == round % 20) throw std::runtime_error("thrown");
         }},
        {[] { return 10; }, [&](int, int) { ++later; }},
    };
    std::string message;
    try {
      pool.Run(phases, 1 + round % 4);
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT_EQ(message, "thrown");
    EXPECT_EQ(active.load(), 0);
    EXPECT_EQ(later.load(), 0);
    EXPECT(RunRelay(pool, 1 + round % 4) == expected);
  }
}

TEST(turns_go_in_the_order_in_which_callers_came) {
  ThreadPool pool;
  for (int round = 0; round < 5; ++round) {
    std::vector<int> order;
    std::atomic<bool> running{false}, calling{false};
    const auto run = [&](int caller, auto task) {
      const Phase phase{[] { return 1; },
                        [&](int, int) {
                          order.push_back(caller);
                          task();
                        }};
      pool.Run(std::span(&phase, 1), 1);
    };
    std::thread busy([&] {
      run(1, [&] {
        running = true;
        while (!calling) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      });
      run(1, [] {});
    });
    std::thread waiting([&] {
      while (!running) std::this_thread::yield();
      calling = true;
      run(2, [] {});
    });
    busy.join();
    waiting.join();
    EXPECT(order == std::vector<int>({1, 2, 1}));
  }
}

TEST(idle_threads_sleep_and_wake) {
  ThreadPool pool;
  const std::vector<long> expected = RunRelay(pool, 3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT(RunRelay(pool, 3) == expected);
  }
}

TEST(a_run_without_tasks_returns) {
  ThreadPool pool;
  const Phase phase{[] { return 0; }, [](int, int) {}};
  pool.Run(std::span(&phase, 1), 2);
  pool.Run({}, 2);
  EXPECT(true);
}

HARNESS_MAIN()
