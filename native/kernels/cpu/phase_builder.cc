#include "kernels/cpu/phase_builder.h"

#include <algorithm>

namespace tokenmill::cpu {

void PhaseBuilder::AddRows(std::function<int()> rows, int threads, RowWork work) {
  if (open_rows_ != nullptr) {
    open_rows_->push_back(std::move(work));
    return;
  }
  auto works = std::make_shared<std::vector<RowWork>>();
  works->push_back(std::move(work));
  Phase phase;
  phase.tasks = [rows, threads] {
    const int count = rows(), chunk = RowsPerTask(count, threads);
    return (count + chunk - 1) / chunk;
  };
  phase.run = [rows, threads, works](int task, int thread) {
    const int count = rows(), chunk = RowsPerTask(count, threads);
    const int end = std::min(count, (task + 1) * chunk);
    for (int row = task * chunk; row < end; ++row) {
      for (const RowWork& one : *works) one(row, thread);
    }
  };
  phases_.push_back(std::move(phase));
  open_rows_ = std::move(works);
}

}  // namespace tokenmill::cpu
