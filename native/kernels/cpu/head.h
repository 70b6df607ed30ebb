#pragma once

#include <vector>

#include "core/memory.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// The logits of head rows, a chunk of rows at a time, and what the step wants of them. Runs of the vocabulary are
/// reduced while they are in a thread's memory; only rows that want all logits, or very many candidates, have them
/// written out.
class HeadWork {
 public:
  /// `in` are the rows that the head norms; `normed` takes a chunk of them.
  HeadWork(const StepState* state, const Head& op, RowBuffer in, RowBuffer normed, int max_rows);

  Status Allocate();
  /// Takes head rows first … first + rows - 1 on. May throw std::bad_alloc.
  void SetChunk(int first, int rows);
  int rows() const { return rows_; }
  int max_rows() const { return max_rows_; }

  void NormRow(int index) const;
  int ShrinkTasks() const { return adapters_.ShrinkTasks(state_->threads); }
  void Shrink(int task) const { adapters_.Shrink(task, state_->threads, normed_.floats); }
  int LogitTasks() const { return rows_ == 0 ? 0 : runs_; }
  void RunLogits(int run, int thread);
  void Reduce(int index, int thread);

  size_t bytes() const { return logits_.size() + stats_.size() + scratch_.size(); }

 private:
  /// What one thread found for one row: heaps with the worst on top.
  struct Found {
    std::vector<Candidate> candidates;
    std::vector<Candidate> raw_top;
  };
  struct Row {
    bool whole = false;  // its logits are written out
    std::vector<float> edit_logits;  // raw, one an edit
  };

  const HeadRow& head_row(int index) const {
    return state_->input->head[static_cast<size_t>(first_ + index)];
  }
  Found& found(int thread, int index) {
    return found_[static_cast<size_t>(thread) * static_cast<size_t>(max_rows_) + static_cast<size_t>(index)];
  }
  float* logits(int index) const { return logits_.as<float>() + index * stride_; }
  LogitStats* stats(int index) const { return stats_.as<LogitStats>() + index * runs_; }
  size_t Wanted(int count) const;
  void Multiply(int run, float* out) const;
  void TakeTokens(int index, int begin, int columns, const float* run);
  void Scan(int begin, int columns, const float* run, float largest, size_t count,
            std::span<const LogitEdit> edits, std::vector<Candidate>* best) const;
  void Best(int index, int count, std::span<const LogitEdit> edits, bool raw, std::vector<Candidate>* best);

  const StepState* state_;
  const Head op_;
  const RowBuffer in_;
  const RowBuffer normed_;
  const PackedMatrix* matrix_;
  const int max_rows_;
  const int runs_;  // pieces of the vocabulary; the sums of exp merge run by run
  const int64_t stride_;  // of logits
  AdapterRows adapter_rows_;  // of the chunk
  const AdapterProducts adapters_;
  SystemBuffer logits_;  // [max_rows][stride], of rows that are written out
  SystemBuffer stats_;  // [max_rows][runs]
  SystemBuffer scratch_;  // [threads][max_rows][columns of a run]
  std::vector<Found> found_;  // [threads][max_rows]
  std::vector<Row> row_;  // [max_rows]
  int first_ = 0;
  int rows_ = 0;
};

}  // namespace tokenmill::cpu
