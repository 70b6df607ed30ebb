#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

// Threads of their own for measuring the machine, without the library's pool: they start each trial together.

namespace tokenmill::bench {

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Trial {
  double seconds = 0;  // from the first thread's start to the last one's end
  /// Whether the threads ran side by side. Where other processes hold the cores they run one after the other.
  bool together = false;
};

class Team {
 public:
  explicit Team(int threads) : threads_(threads), spans_(static_cast<size_t>(threads)) {
    for (int thread = 1; thread < threads; ++thread) {
      workers_.emplace_back([this, thread] { Serve(thread); });
    }
  }

  ~Team() {
    work_ = nullptr;
    trial_.fetch_add(1);
    for (std::thread& worker : workers_) worker.join();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return threads_; }

  /// Has every thread do work(thread).
  Trial Run(std::function<void(int)> work) {
    work_ = std::move(work);
    ready_.store(0);
    done_.store(0);
    go_.store(false);
    trial_.fetch_add(1);
    while (ready_.load() < threads_ - 1) std::this_thread::yield();
    go_.store(true);
    Work(0);
    while (done_.load() < threads_ - 1) std::this_thread::yield();
    Span all = spans_[0], common = spans_[0];
    for (const Span& span : spans_) {
      all = {std::min(all.begin, span.begin), std::max(all.end, span.end)};
      common = {std::max(common.begin, span.begin), std::min(common.end, span.end)};
    }
    return {all.end - all.begin, common.end - common.begin > 0.8 * (all.end - all.begin)};
  }

 private:
  struct Span {
    double begin = 0, end = 0;
  };

  void Work(int thread) {
    Span& span = spans_[static_cast<size_t>(thread)];
    span.begin = Seconds();
    work_(thread);
    span.end = Seconds();
  }

  void Serve(int thread) {
    for (int seen = 0;;) {
      while (trial_.load() == seen) std::this_thread::yield();
      seen = trial_.load();
      if (!work_) return;
      ready_.fetch_add(1);
      while (!go_.load()) std::this_thread::yield();
      Work(thread);
      done_.fetch_add(1);
    }
  }

  const int threads_;
  std::vector<Span> spans_;
  std::vector<std::thread> workers_;
  std::function<void(int)> work_;
  std::atomic<int> trial_{0}, ready_{0}, done_{0};
  std::atomic<bool> go_{false};
};

}  // namespace tokenmill::bench
