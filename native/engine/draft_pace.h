#pragma once

#include <cstddef>

namespace tokenmill {

/// What guessing with a draft model costs beside the target's steps, learnt from what both took.
class DraftPace {
 public:
  /// Before anything is measured: a draft's step, as a part of the target's.
  static constexpr double kRatioAtFirst = 0.1;
  /// Tokens that a draft has not read yet may take so much of the time of a target's step of one row...
  static constexpr double kCatchUpShare = 0.5;
  /// ...but always get so many rows.
  static constexpr int kCatchUpFloor = 16;
  static constexpr int kCatchUpAtFirst = 32;

  /// What one more guess for each of so many sequences costs each of them, as a part of a target's step of one row:
  /// its row there, and its share of the draft's step.
  double Cost(size_t sequences) const;
  /// Rows of tokens that a draft may catch up with in one round.
  int CatchUpRows(int most) const;

  /// What a step of decode rows and guesses took, and one of a draft.
  void TargetStep(int rows, double ms);
  void DraftStep(int rows, double ms);

 private:
  double target_ms_ = 0;  // of a step of one row; 0: not measured
  double draft_ms_ = 0;  // likewise
  double row_ms_ = 0;  // of a row among many that a draft catches up with
};

}  // namespace tokenmill
