#include "kernels/reference/head_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tokenmill {
namespace {

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The largest logit, or NaN when one of them is not finite.
float FiniteMaximum(std::span<const float> logits) {
  float maximum = -std::numeric_limits<float>::infinity();
  float poison = 0;  // 0 * x is NaN for infinite and NaN x
  for (const float logit : logits) {
    maximum = std::max(maximum, logit);
    poison += 0.0f * logit;
  }
  return poison == 0.0f ? maximum : std::numeric_limits<float>::quiet_NaN();
}

double LogSumExp(std::span<const float> logits, float maximum) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - maximum);
  return static_cast<double>(maximum) + std::log(sum);
}

// The `count` best after the edits, best first. A heap holds the best so far, the worst of them on top.
std::vector<Candidate> Best(std::span<const float> logits, std::span<const LogitEdit> edits, int count) {
  std::vector<Candidate> best;
  const size_t wanted = std::min(static_cast<size_t>(std::max(count, 0)), logits.size());
  if (wanted == 0) return best;
  best.reserve(wanted);
  size_t edit = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    Candidate candidate{static_cast<int32_t>(token), logits[token], logits[token]};
    if (edit < edits.size() && edits[edit].token == candidate.token)
      candidate.logit = ApplyEdit(edits[edit++], candidate.raw);
    if (best.size() < wanted) {
      best.push_back(candidate);
      std::push_heap(best.begin(), best.end(), Better);
    } else if (Better(candidate, best.front())) {
      std::pop_heap(best.begin(), best.end(), Better);
      best.back() = candidate;
      std::push_heap(best.begin(), best.end(), Better);
    }
  }
  std::sort_heap(best.begin(), best.end(), Better);
  return best;
}

}  // namespace

void ReduceHeadRow(const HeadRow& row, size_t head_index, std::span<float> logits, LogitSink* sink,
                   int thread, HeadResult* result) {
  *result = HeadResult();
  const float maximum = FiniteMaximum(logits);
  result->finite = !std::isnan(maximum);
  if (!result->finite) return;
  result->log_sum_exp = static_cast<float>(LogSumExp(logits, maximum));
  result->candidates = Best(logits, row.edits, row.candidates);
  result->raw_top = Best(logits, {}, row.raw_top);
  for (const int32_t target : row.targets) result->targets.push_back(logits[static_cast<size_t>(target)]);
  if (row.full && sink != nullptr) sink->Take(head_index, logits, thread);
}

}  // namespace tokenmill
