#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu_relax.h"

namespace tokenmill {
namespace {

// The state of the phase under way in one word, so that a claim can only succeed on the phase it looked at:
// epoch (22 bits, one more each phase), threads that take part (8), claims (17), the next claim (17).
// A phase cannot end while a claimed task of it runs, so what belongs to the phase is stable after a claim.
constexpr int kTaskBits = 17;
constexpr uint64_t kTaskMask = (uint64_t{1} << kTaskBits) - 1;
constexpr int kClaimsMax = 100000;
constexpr int kLimitShift = 2 * kTaskBits;
constexpr uint64_t kLimitMask = 0xff;
constexpr int kEpochShift = kLimitShift + 8;
constexpr int kThreadsMax = 255;

// About 50 microseconds: longer than a phase's imbalance or the gap between two steps, shorter than anyone's
// patience with a busy core.
constexpr int kSpins = 2000;

struct Word {
  uint64_t bits;
  uint64_t epoch() const { return bits >> kEpochShift; }
  int limit() const { return static_cast<int>((bits >> kLimitShift) & kLimitMask); }
  int tasks() const { return static_cast<int>((bits >> kTaskBits) & kTaskMask); }
  int next() const { return static_cast<int>(bits & kTaskMask); }
};

Word MakeWord(uint64_t epoch, int limit, int tasks) {
  return {epoch << kEpochShift | static_cast<uint64_t>(limit) << kLimitShift |
          static_cast<uint64_t>(tasks) << kTaskBits};
}

// A lock that is given in the order in which it was asked for: a mutex lets whoever has just released it take it
// again, before those that it has to wake.
class Turn {
 public:
  void lock() {
    const uint32_t ticket = next_.fetch_add(1);
    for (uint32_t now = serving_.load(); now != ticket; now = serving_.load()) serving_.wait(now);
  }
  void unlock() {
    serving_.fetch_add(1);
    serving_.notify_all();
  }

 private:
  std::atomic<uint32_t> next_{0};
  std::atomic<uint32_t> serving_{0};
};

}  // namespace

struct ThreadPool::State {
  Turn turn;  // held by the engine whose step runs
  std::vector<std::thread> threads;
  std::atomic<bool> stopping{false};

  std::atomic<uint64_t> word{0};
  std::atomic<int> word_sleepers{0};
  std::atomic<int> remaining{0};
  std::atomic<const Phase*> phase{nullptr};
  std::atomic<int> phase_tasks{0};
  // Consecutive tasks that one claim takes: more than one where the word's bits could not count them.
  std::atomic<int> claim_tasks{1};
  const Phase* phases_end = nullptr;  // of the run; touched by the thread that ends a phase

  std::atomic<bool> failed{false};  // a task of the run threw: the tasks that are left are skipped
  std::exception_ptr failure;  // what it threw; written once a run

  std::atomic<uint32_t> run{0};  // one more each run
  std::atomic<int> run_sleepers{0};

  // Puts up the next phase that has tasks, from `next` on, or ends the run.
  void Advance(const Phase* next, int limit) {
    int tasks = 0;
    while (next != phases_end && (tasks = next->tasks()) == 0) ++next;
    const int claim = tasks / kClaimsMax + 1;
    const int claims = next == phases_end ? 0 : (tasks + claim - 1) / claim;
    phase.store(next, std::memory_order_relaxed);
    phase_tasks.store(tasks, std::memory_order_relaxed);
    claim_tasks.store(claim, std::memory_order_relaxed);
    remaining.store(claims, std::memory_order_relaxed);
    const uint64_t epoch = Word{word.load(std::memory_order_relaxed)}.epoch() + 1;
    word.store(MakeWord(epoch, limit, claims).bits);
    if (word_sleepers.load() > 0) word.notify_all();
  }

  void RunTask(const Phase& current, int task, int thread) noexcept {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      current.run(task, thread);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }

  void WaitForPhase(Word seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (Word{word.load(std::memory_order_acquire)}.epoch() != seen.epoch()) return;
      CpuRelax();
    }
    word_sleepers.fetch_add(1);
    for (Word now{word.load()}; now.epoch() == seen.epoch(); now.bits = word.load()) word.wait(now.bits);
    word_sleepers.fetch_sub(1);
  }

  // Takes part in the run under way until it ends.
  void Work(int thread) {
    for (;;) {
      Word seen{word.load(std::memory_order_acquire)};
      if (seen.tasks() == 0 || thread >= seen.limit()) return;
      if (seen.next() >= seen.tasks()) {
        WaitForPhase(seen);
        continue;
      }
      if (!word.compare_exchange_weak(seen.bits, seen.bits + 1, std::memory_order_acq_rel)) continue;
      const Phase* current = phase.load(std::memory_order_relaxed);
      const int limit = seen.limit();
      const int claim = claim_tasks.load(std::memory_order_relaxed);
      const int end = std::min((seen.next() + 1) * claim, phase_tasks.load(std::memory_order_relaxed));
      for (int task = seen.next() * claim; task < end; ++task) RunTask(*current, task, thread);
      if (remaining.fetch_sub(1, std::memory_order_acq_rel) == 1) Advance(current + 1, limit);
    }
  }

  void Serve(int thread, uint32_t seen_run) {
    while (!stopping.load(std::memory_order_relaxed)) {
      for (int spin = 0; spin < kSpins && run.load(std::memory_order_acquire) == seen_run; ++spin) CpuRelax();
      if (run.load() == seen_run) {
        run_sleepers.fetch_add(1);
        run.wait(seen_run);
        run_sleepers.fetch_sub(1);
        continue;
      }
      seen_run = run.load();
      Work(thread);
    }
  }

  // Threads that take part, the caller included.
  int Ensure(int wanted) {
    wanted = wanted < kThreadsMax ? wanted : kThreadsMax;
    while (static_cast<int>(threads.size()) + 1 < wanted) {
      const int index = static_cast<int>(threads.size()) + 1;
      try {
        threads.emplace_back([this, index, now = run.load()] { Serve(index, now); });
      } catch (const std::system_error&) {
        return index;
      }
    }
    return wanted;
  }
};

ThreadPool& ThreadPool::Process() {
  static ThreadPool* const pool = new ThreadPool();  // never destroyed: threads may run at exit
  return *pool;
}

ThreadPool::ThreadPool() : state_(std::make_unique<State>()) {}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true);
  state_->run.fetch_add(1);
  state_->run.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

void ThreadPool::Run(std::span<const Phase> phases, int threads) {
  State& state = *state_;
  const std::lock_guard<Turn> turn(state.turn);
  const int limit = state.Ensure(threads < 1 ? 1 : threads);
  state.phases_end = phases.data() + phases.size();
  state.Advance(phases.data(), limit);
  if (limit > 1) {
    state.run.fetch_add(1);
    if (state.run_sleepers.load() > 0) state.run.notify_all();
  }
  state.Work(0);
  if (state.failed.exchange(false)) std::rethrow_exception(std::exchange(state.failure, nullptr));
}

}  // namespace tokenmill
