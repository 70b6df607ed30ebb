#pragma once

#include <vector>

#include "core/memory.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// The logits of head rows, a chunk of rows at a time, and what the step wants of them.
class HeadWork {
 public:
  /// `in` are the rows that the head norms; `normed` takes a chunk of them.
  HeadWork(const StepState* state, const Head& op, RowBuffer in, RowBuffer normed, int max_rows);

  Status Allocate();
  void SetChunk(int first, int rows) {
    first_ = first;
    rows_ = rows;
  }
  int rows() const { return rows_; }
  int max_rows() const { return max_rows_; }

  void NormRow(int index) const;
  int LogitTasks() const { return rows_ == 0 ? 0 : runs_; }
  void RunLogits(int run) const;
  void Reduce(int index, int thread) const;

  size_t bytes() const { return logits_.size() + stats_.size(); }

 private:
  float* logits(int index) const { return logits_.as<float>() + index * stride_; }
  LogitStats* stats(int index) const { return stats_.as<LogitStats>() + index * runs_; }
  void Best(int index, int count, std::span<const LogitEdit> edits, std::vector<Candidate>* best) const;
  void ScanRun(int index, int run, size_t count, std::span<const LogitEdit> edits,
               std::vector<Candidate>* best) const;

  const StepState* state_;
  const Head op_;
  const RowBuffer in_;
  const RowBuffer normed_;
  const PackedMatrix* matrix_;
  const int max_rows_;
  const int runs_;        // pieces of the vocabulary; the sums of exp merge run by run
  const int64_t stride_;  // of logits
  SystemBuffer logits_;   // [max_rows][stride]
  SystemBuffer stats_;    // [max_rows][runs]
  int first_ = 0;
  int rows_ = 0;
};

}  // namespace tokenmill::cpu
