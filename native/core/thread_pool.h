#pragma once

#include <functional>
#include <memory>
#include <span>

namespace tokenmill {

/// A stretch of work without dependencies: `tasks()` independent tasks, claimed by threads as they come.
/// `thread` is below the number of threads of the run: an index for scratch memory.
struct Phase {
  std::function<int()> tasks;
  std::function<void(int task, int thread)> run;
};

/// The process's compute threads. A run goes through its phases in order with a barrier after each; between
/// runs the threads spin briefly, then sleep. Engines take turns: concurrent runs wait for each other,
/// in the order in which they came.
class ThreadPool {
 public:
  /// The pool of the process, started at first use and never stopped.
  static ThreadPool& Process();

  ThreadPool();
  ~ThreadPool();  // only without a run under way
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Runs all phases on `threads` threads, the caller being one of them. What a task throws, one
  /// of several, is thrown here when all threads are done; tasks that had not begun then do not run.
  /// Threads are started when first needed; where the system gives fewer, fewer run.
  void Run(std::span<const Phase> phases, int threads);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tokenmill
