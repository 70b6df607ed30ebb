#pragma once

#include <new>
#include <vector>

#include "engine/sampler.h"
#include "engine/sequence.h"
#include "ops/step.h"

namespace tokenmill {

/// One step as the scheduler wants it, with the storage behind its StepInput. Rows that need a whole
/// distribution are sampled where their logits are, on the pool's threads.
class StepPlan final : public LogitSink {
 public:
  static constexpr Token kNotDrawn = -1;

  /// For steps of an executor that was compiled for so many threads.
  explicit StepPlan(int threads) : scratch_(static_cast<size_t>(threads)) {}

  struct Entry {
    Sequence* sequence;
    int rows;
    size_t head_begin, head_count;  // of StepInput::head
  };

  void Clear() {
    entries_.clear();
    tokens_.clear();
    step_sequences_.clear();
    head_.clear();
    head_owner_.clear();
  }

  /// The next `rows` tokens of a sequence, whose pages have been reserved.
  void Add(Sequence* sequence, int rows, int groups) {
    const int row_begin = static_cast<int>(tokens_.size());
    StepSequence step{row_begin, rows, static_cast<int>(sequence->computed), {}};
    for (int g = 0; g < groups; ++g) step.pages[static_cast<size_t>(g)] = sequence->table.pages(g);
    step_sequences_.push_back(step);
    const auto first = sequence->tokens.begin() + static_cast<std::ptrdiff_t>(sequence->computed);
    tokens_.insert(tokens_.end(), first, first + rows);
    const size_t head_begin = head_.size();
    if (sequence->request.score) {
      AddScoreRows(sequence, row_begin, rows);
    } else if (rows == static_cast<int>(sequence->remaining())) {
      HeadRow row = HeadRowFor(sequence->request.sampling, std::max(0, sequence->request.logprobs));
      row.row = row_begin + rows - 1;
      row.edits = sequence->penalties.Edits();
      head_.push_back(row);
      head_owner_.push_back(sequence);
    }
    entries_.push_back({sequence, rows, head_begin, head_.size() - head_begin});
  }

  const StepInput& Input() {
    drawn_.assign(head_.size(), Candidate{kNotDrawn, 0, 0});
    input_ = {tokens_, step_sequences_, head_, this};
    return input_;
  }

  void Take(size_t head_index, std::span<float> logits, int thread) noexcept override {
    const Sequence& sequence = *head_owner_[head_index];
    try {
      drawn_[head_index] =
          SampleLogits(sequence.request.sampling, sequence.replied(), head_[head_index].edits, logits,
                       &scratch_[static_cast<size_t>(thread)]);
    } catch (const std::bad_alloc&) {  // the row stays undrawn
    }
  }

  /// The token that a head row draws; kNotDrawn when there was no memory to draw it.
  Candidate Drawn(size_t head_index, const HeadResult& result) const {
    if (head_[head_index].full) return drawn_[head_index];
    const Sequence& sequence = *head_owner_[head_index];
    return SampleCandidates(sequence.request.sampling, sequence.replied(), result.candidates);
  }

  const std::vector<Entry>& entries() const { return entries_; }
  size_t rows() const { return tokens_.size(); }

 private:
  void AddScoreRows(Sequence* sequence, int row_begin, int rows) {
    for (int i = 0; i < rows; ++i) {
      HeadRow row;
      row.row = row_begin + i;
      row.targets = std::span(sequence->tokens).subspan(sequence->computed + static_cast<size_t>(i) + 1, 1);
      head_.push_back(row);
      head_owner_.push_back(sequence);
    }
  }

  std::vector<Entry> entries_;
  std::vector<int32_t> tokens_;
  std::vector<StepSequence> step_sequences_;
  std::vector<HeadRow> head_;
  std::vector<Sequence*> head_owner_;
  std::vector<Candidate> drawn_;
  std::vector<SampleScratch> scratch_;  // one a thread
  StepInput input_;
};

}  // namespace tokenmill
