#include "engine/draft_pace.h"

#include <algorithm>

#include "engine/guess_odds.h"

namespace tokenmill {
namespace {

constexpr int kFewRows = 16;  // the rest of a step costs more than the rows

// A step of so many rows, in steps of one.
double OneRowSteps(int rows) { return 1 + GuessOdds::kRowCost * (rows - 1); }

// Down quickly and up slowly: what disturbs makes a step longer, above all the first ones.
void Blend(double sample, double* value) {
  if (*value <= 0) {
    *value = sample;
  } else if (sample < *value) {
    *value = (*value + sample) / 2;
  } else {
    *value += 0.1 * (std::min(sample, 2 * *value) - *value);
  }
}

}  // namespace

double DraftPace::Cost(size_t sequences) const {
  const double ratio = target_ms_ > 0 && draft_ms_ > 0 ? draft_ms_ / target_ms_ : kRatioAtFirst;
  const int rows = static_cast<int>(std::max<size_t>(1, sequences));
  return GuessOdds::kRowCost + ratio * OneRowSteps(rows) / rows;
}

int DraftPace::CatchUpRows(int most) const {
  double rows = kCatchUpAtFirst;
  if (target_ms_ > 0 && row_ms_ > 0) rows = kCatchUpShare * target_ms_ / row_ms_;
  return std::min(most, std::max(kCatchUpFloor, static_cast<int>(std::min<double>(rows, most))));
}

void DraftPace::TargetStep(int rows, double ms) {
  if (rows > 0 && rows <= kFewRows) Blend(ms / OneRowSteps(rows), &target_ms_);
}

void DraftPace::DraftStep(int rows, double ms) {
  if (rows <= kFewRows) {
    Blend(ms / OneRowSteps(rows), &draft_ms_);
  } else {
    Blend(ms / rows, &row_ms_);
  }
}

}  // namespace tokenmill
