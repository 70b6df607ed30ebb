#pragma once

#include <new>
#include <span>
#include <vector>

#include "engine/sampler.h"
#include "kv/block_table.h"
#include "ops/step.h"

namespace tokenmill {

/// One step of a draft model, with the storage behind its StepInput.
class DraftStep final : public LogitSink {
 public:
  /// For steps of an executor that was compiled for so many threads.
  explicit DraftStep(int threads) : scratch_(static_cast<size_t>(threads)) {}

  void Clear() {
    tokens_.clear();
    sequences_.clear();
    head_.clear();
    draws_.clear();
  }

  /// Tokens from a position on, whose pages have been reserved.
  void Add(std::span<const Token> tokens, size_t position, const BlockTable& table, int groups) {
    StepSequence step{
        static_cast<int>(tokens_.size()), static_cast<int>(tokens.size()), static_cast<int>(position), {}};
    for (int g = 0; g < groups; ++g) step.pages[static_cast<size_t>(g)] = table.pages(g);
    sequences_.push_back(step);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }

  /// What follows the last row: the `index`-th token of a reply, drawn as the reply would draw it. The edits must last
  /// until the step has run. Returns the draw's number.
  size_t Draw(const SamplingOptions& sampling, size_t index, std::span<const LogitEdit> edits) {
    HeadRow row = HeadRowFor(sampling, 0);
    row.row = static_cast<int>(tokens_.size()) - 1;
    row.edits = edits;
    head_.push_back(row);
    draws_.push_back({&sampling, index, {}, false});
    return draws_.size() - 1;
  }

  int rows() const { return static_cast<int>(tokens_.size()); }
  StepInput Input() { return {tokens_, sequences_, head_, this}; }

  void Take(size_t head_index, std::span<float> logits, int thread) noexcept override {
    DrawnRow& draw = draws_[head_index];
    try {
      draw.drawn = SampleLogits(*draw.sampling, draw.index, head_[head_index].edits, logits,
                                &scratch_[static_cast<size_t>(thread)]);
      draw.done = true;
    } catch (const std::bad_alloc&) {  // the row stays undrawn
    }
  }

  /// Whether there is such a token; not where logits are no numbers.
  bool Drawn(size_t draw, const HeadResult& result, Candidate* drawn) const {
    const DrawnRow& row = draws_[draw];
    if (!result.finite || (head_[draw].full && !row.done)) return false;
    *drawn = head_[draw].full ? row.drawn : SampleCandidates(*row.sampling, row.index, result.candidates);
    return true;
  }

 private:
  struct DrawnRow {
    const SamplingOptions* sampling;
    uint64_t index;
    Candidate drawn;
    bool done;
  };

  std::vector<int32_t> tokens_;
  std::vector<StepSequence> sequences_;
  std::vector<HeadRow> head_;
  std::vector<DrawnRow> draws_;  // one a head row
  std::vector<SampleScratch> scratch_;  // one a thread
};

}  // namespace tokenmill
