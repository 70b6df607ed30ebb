#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// Collects the phases of a program. Work on single rows that follows other work on single rows joins its
/// phase, so that no barrier lies between.
class PhaseBuilder {
 public:
  /// Work on one row (0 … rows - 1).
  using RowWork = std::function<void(int row, int thread)>;

  /// `rows` tells how many rows the step has.
  void AddRows(std::function<int()> rows, int threads, RowWork work);

  void Add(std::function<int()> tasks, std::function<void(int task, int thread)> run) {
    open_rows_ = nullptr;
    phases_.push_back({std::move(tasks), std::move(run)});
  }

  size_t size() const { return phases_.size(); }
  /// Keeps the next rows out of the phases so far.
  void Separate() { open_rows_ = nullptr; }
  std::vector<Phase> Take() { return std::move(phases_); }

 private:
  std::shared_ptr<std::vector<RowWork>> open_rows_;
  std::vector<Phase> phases_;
};

/// Rows of a task, so that `rows` of them make a few tasks for each thread.
inline int RowsPerTask(int rows, int threads) { return rows / (4 * threads) + 1; }

}  // namespace tokenmill::cpu
