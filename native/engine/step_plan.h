#pragma once

#include <deque>
#include <new>
#include <optional>
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
    edits_.clear();
  }

  /// The next `rows` tokens of a sequence and its guesses, whose pages have been reserved.
  void Add(Sequence* sequence, int rows, int groups) {
    const int row_begin = static_cast<int>(tokens_.size());
    const int all_rows = rows + static_cast<int>(sequence->guesses.size());
    StepSequence step{row_begin, all_rows, static_cast<int>(sequence->computed), {}, sequence->adapters.uses};
    for (int g = 0; g < groups; ++g) step.pages[static_cast<size_t>(g)] = sequence->table.pages(g);
    step_sequences_.push_back(step);
    const auto first = sequence->tokens.begin() + static_cast<std::ptrdiff_t>(sequence->computed);
    tokens_.insert(tokens_.end(), first, first + rows);
    tokens_.insert(tokens_.end(), sequence->guesses.begin(), sequence->guesses.end());
    const size_t head_begin = head_.size();
    if (sequence->request.score) {
      AddScoreRows(sequence, row_begin, rows);
    } else if (rows == static_cast<int>(sequence->remaining())) {
      AddDrawnRows(sequence, row_begin + rows - 1);
    }
    entries_.push_back({sequence, all_rows, head_begin, head_.size() - head_begin});
  }

  const StepInput& Input() {
    drawn_.assign(head_.size(), Candidate{kNotDrawn, 0, 0});
    input_ = {tokens_, step_sequences_, head_, this};
    return input_;
  }

  void Take(size_t head_index, std::span<float> logits, int thread) noexcept override {
    const HeadOwner& owner = head_owner_[head_index];
    try {
      drawn_[head_index] =
          SampleLogits(owner.sequence->request.sampling, owner.index, head_[head_index].edits, logits,
                       &scratch_[static_cast<size_t>(thread)]);
    } catch (const std::bad_alloc&) {  // the row stays undrawn
    }
  }

  /// The token that a head row draws; kNotDrawn when there was no memory to draw it.
  Candidate Drawn(size_t head_index, const HeadResult& result) const {
    if (head_[head_index].full) return drawn_[head_index];
    const HeadOwner& owner = head_owner_[head_index];
    return SampleCandidates(owner.sequence->request.sampling, owner.index, result.candidates);
  }

  const std::vector<Entry>& entries() const { return entries_; }
  size_t rows() const { return tokens_.size(); }

 private:
  struct HeadOwner {
    const Sequence* sequence;
    uint64_t index;  // of the reply's token that the row draws
  };

  // What follows a sequence's last token, and each of its guesses if those before came true.
  void AddDrawnRows(Sequence* sequence, int row_index) {
    const SamplingOptions& sampling = sequence->request.sampling;
    HeadRow row = HeadRowFor(sampling, std::max(0, sequence->request.logprobs));
    row.edits = sequence->penalties.Edits();
    std::optional<Penalties> ahead;
    if (sequence->penalties.active() && !sequence->guesses.empty()) ahead = sequence->penalties;
    for (size_t i = 0;; ++i) {
      row.row = row_index + static_cast<int>(i);
      head_.push_back(row);
      head_owner_.push_back({sequence, sequence->replied() + i});
      if (i == sequence->guesses.size()) return;
      if (!ahead) continue;
      ahead->Count(sequence->guesses[i], true);
      const std::span<const LogitEdit> edits = ahead->Edits();
      row.edits = edits_.emplace_back(edits.begin(), edits.end());
    }
  }

  void AddScoreRows(Sequence* sequence, int row_begin, int rows) {
    for (int i = 0; i < rows; ++i) {
      HeadRow row;
      row.row = row_begin + i;
      row.targets = std::span(sequence->tokens).subspan(sequence->computed + static_cast<size_t>(i) + 1, 1);
      head_.push_back(row);
      head_owner_.push_back({sequence, 0});
    }
  }

  std::vector<Entry> entries_;
  std::vector<int32_t> tokens_;
  std::vector<StepSequence> step_sequences_;
  std::vector<HeadRow> head_;
  std::vector<HeadOwner> head_owner_;
  std::deque<std::vector<LogitEdit>> edits_;  // of rows behind guesses
  std::vector<Candidate> drawn_;
  std::vector<SampleScratch> scratch_;  // one a thread
  StepInput input_;
};

}  // namespace tokenmill
