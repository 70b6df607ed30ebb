#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "engine/random.h"

namespace tokenmill {
namespace {

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

double Weight(const SamplingOptions& options, float logit, float best) {
  return std::exp((static_cast<double>(logit) - best) / options.temperature);
}

// Draws from candidates in their order; `weights` are unnormalized.
const Candidate& Draw(const SamplingOptions& options, uint64_t index, std::span<const Candidate> candidates,
                      std::span<const double> weights) {
  double total = 0;
  for (const double weight : weights) total += weight;
  double left = UniformAt(options.seed, index) * total;
  for (size_t i = 0; i < candidates.size(); ++i) {
    left -= weights[i];
    if (left < 0) return candidates[i];
  }
  return candidates.back();  // rounding
}

// The nucleus of candidates, best first, of which `total` is the sum of all weights; then min-p; then a draw.
// False when the candidates end before the nucleus does.
bool DrawFiltered(const SamplingOptions& options, uint64_t index, std::span<const Candidate> candidates,
                  double total, bool complete, std::vector<double>* scratch, Candidate* drawn) {
  std::vector<double>& weights = *scratch;
  weights.clear();
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    const double weight = Weight(options, candidate.logit, candidates[0].logit);
    if (!weights.empty() && (sum >= options.top_p * total || weight < options.min_p)) {
      complete = true;
      break;
    }
    weights.push_back(weight);
    sum += weight;
  }
  if (!complete && sum < options.top_p * total) return false;
  *drawn = Draw(options, index, candidates.first(weights.size()), weights);
  return true;
}

}  // namespace

HeadRow HeadRowFor(const SamplingOptions& options, int raw_top) {
  HeadRow row;
  row.raw_top = raw_top;
  if (options.temperature == 0) {
    row.candidates = 1;
  } else if (options.top_k > 0) {
    row.candidates = options.top_k;
  } else {
    row.full = true;
  }
  return row;
}

Candidate SampleCandidates(const SamplingOptions& options, uint64_t index,
                           std::span<const Candidate> candidates) {
  if (options.temperature == 0 || candidates.size() == 1) return candidates[0];
  double total = 0;
  for (const Candidate& candidate : candidates)
    total += Weight(options, candidate.logit, candidates[0].logit);
  std::vector<double> weights;
  Candidate drawn;
  DrawFiltered(options, index, candidates, total, true, &weights, &drawn);
  return drawn;
}

Candidate SampleLogits(const SamplingOptions& options, uint64_t index, std::span<const LogitEdit> edits,
                       std::span<const float> logits, SampleScratch* scratch) {
  std::vector<Candidate>& candidates = scratch->candidates;
  std::vector<double>& weights = scratch->weights;
  candidates.resize(logits.size());
  weights.reserve(logits.size());
  float best = -INFINITY;
  size_t edit = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    Candidate& candidate = candidates[token];
    candidate = {static_cast<int32_t>(token), logits[token], logits[token]};
    if (edit < edits.size() && edits[edit].token == candidate.token)
      candidate.logit = ApplyEdit(edits[edit++], candidate.raw);
    best = std::max(best, candidate.logit);
  }
  if (options.top_p >= 1 && options.min_p <= 0) {  // nothing to filter: draw in the vocabulary's order
    weights.resize(candidates.size());
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = Weight(options, candidates[i].logit, best);
    return Draw(options, index, candidates, weights);
  }
  double total = 0;
  for (const Candidate& candidate : candidates) total += Weight(options, candidate.logit, best);
  Candidate drawn;
  for (size_t count = 256;; count *= 8) {
    count = std::min(count, candidates.size());
    const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(count);
    std::partial_sort(candidates.begin(), end, candidates.end(), Better);
    const bool complete = count == candidates.size();
    const auto first = std::span(candidates).first(count);
    if (DrawFiltered(options, index, first, total, complete, &weights, &drawn)) return drawn;
  }
}

}  // namespace tokenmill
