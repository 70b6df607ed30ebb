#include "engine/step_budget.h"

#include <algorithm>

namespace tokenmill {
namespace {

constexpr double kBlend = 0.25;       // weight of a new measurement
constexpr double kOutlier = 2;        // a measurement counts as at most so many times what was expected

double Blend(double before, double sample) {
  return before + kBlend * (std::clamp(sample, before / kOutlier, before * kOutlier) - before);
}

bool Near(int rows, int others) { return 4 * rows >= 3 * others && 4 * others >= 3 * rows; }

}  // namespace

int StepBudget::PrefillRows(int decode_rows, int waiting) const {
  const int room = max_rows_ - std::min(decode_rows, max_rows_);
  if (decode_rows == 0) return room;
  if (!Knows(decode_rows)) return 0;
  const double rows = row_ms_ > 0 ? SpareMs(decode_rows, waiting) / row_ms_ : 0;
  return std::min(room, std::max(FloorRows(), static_cast<int>(std::min<double>(rows, max_rows_))));
}

int StepBudget::FloorRows() const {
  if (kFloorRows * row_ms_ <= kFloorMs) return kFloorRows;
  return std::max(kTellingRows, static_cast<int>(kFloorMs / row_ms_));
}

double StepBudget::SpareMs(int decode_rows, int waiting) const {
  if (target_ms_ > 0) return kAim * target_ms_ - decode_ms_;
  const double crowd = static_cast<double>(waiting) / decode_rows;
  return kShare * std::clamp(crowd, 1.0, kCrowdMaximum) * decode_ms_;
}

// The step after one that measured has prefill in any case: numbers of rows that change all the time would keep it
// waiting.
bool StepBudget::Knows(int decode_rows) const {
  if (decode_rows_ == 0) return false;
  return mixed_steps_ == 0 || (mixed_steps_ < kMeasureInterval && Near(decode_rows, decode_rows_));
}

void StepBudget::Measured(int decode_rows, int prefill_rows, double ms) {
  if (decode_rows > 0 && prefill_rows == 0) return MeasuredDecode(decode_rows, ms);
  if (decode_rows > 0) ++mixed_steps_;
  if (prefill_rows < kTellingRows) return;
  if (decode_rows > 0) {
    MeasuredPrefill(prefill_rows, ms - decode_ms_);
  } else if (row_ms_ <= 0) {  // a first guess; rows cost less without company
    row_ms_ = ms / prefill_rows;
  }
}

// Another number of rows costs something between the same and proportionally much.
void StepBudget::MeasuredDecode(int rows, double ms) {
  mixed_steps_ = 0;
  if (decode_rows_ == 0 || decode_ms_ <= 0) {
    decode_ms_ = ms;
  } else if (Near(rows, decode_rows_)) {
    decode_ms_ = Blend(decode_ms_, ms);
  } else {
    const double proportional = decode_ms_ * rows / decode_rows_;
    decode_ms_ = std::clamp(ms, std::min(decode_ms_, proportional) / kOutlier,
                            std::max(decode_ms_, proportional) * kOutlier);
  }
  decode_rows_ = rows;
}

void StepBudget::MeasuredPrefill(int rows, double ms) {
  const double sample = ms / rows;
  row_ms_ = row_ms_ > 0 ? Blend(row_ms_, sample) : std::max(sample, 0.0);
}

}  // namespace tokenmill
