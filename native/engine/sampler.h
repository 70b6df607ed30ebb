#pragma once

#include <span>
#include <vector>

#include "engine/request.h"
#include "ops/step.h"

namespace tokenmill {

// Order of the filters: penalties (as logit edits), temperature, top-k, top-p over what top-k left, min-p.

/// What the head must give for these options.
HeadRow HeadRowFor(const SamplingOptions& options, int raw_top);

/// Draws the `index`-th token of a reply from the best candidates, best first (greedy: the first).
Candidate SampleCandidates(const SamplingOptions& options, uint64_t index,
                           std::span<const Candidate> candidates);

/// What sampling a whole row takes; kept from row to row, it is allocated once.
struct SampleScratch {
  std::vector<Candidate> candidates;
  std::vector<double> weights;
};

/// Draws from a whole row of raw logits.
Candidate SampleLogits(const SamplingOptions& options, uint64_t index, std::span<const LogitEdit> edits,
                       std::span<const float> logits, SampleScratch* scratch);

}  // namespace tokenmill
