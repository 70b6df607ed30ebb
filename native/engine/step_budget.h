#pragma once

namespace tokenmill {

/// How many rows of prefill may join a step's decode rows. Streams that run wait for the whole step, so it may take
/// `target_ms`, or without a target some more than their own rows alone would, and more yet when more requests wait
/// than run: they would wait for each other then. Both costs are learnt from what steps took. What decode rows cost is
/// only measured without company: when that is too long ago or was of another number of rows, one step goes without
/// prefill. Steps without decode rows disturb nobody and are filled.
class StepBudget {
 public:
  /// Prefill always goes on by so many rows, though not in a step that measures...
  static constexpr int kFloorRows = 16;
  /// ...or by fewer where they would take longer than this, as behind a long context...
  static constexpr double kFloorMs = 12;
  /// ...but never by fewer than tell what a row costs.
  static constexpr int kTellingRows = 4;
  /// Steps with prefill between two that measure decode rows alone.
  static constexpr int kMeasureInterval = 32;
  /// Without a target: how much longer prefill may make a step, as a share of its decode rows' time.
  static constexpr double kShare = 0.5;
  /// That share counts for each request that waits and as many that run, up to so many times.
  static constexpr double kCrowdMaximum = 8;
  /// A target is aimed at from below, for steps vary.
  static constexpr double kAim = 0.9;

  /// `target_ms` 0: none.
  StepBudget(int max_rows, double target_ms) : max_rows_(max_rows), target_ms_(target_ms) {}

  /// `waiting`: requests that want rows of prefill and are not less important than those that decode.
  int PrefillRows(int decode_rows, int waiting) const;
  /// What a step with these rows took.
  void Measured(int decode_rows, int prefill_rows, double ms);

 private:
  double SpareMs(int decode_rows, int waiting) const;
  int FloorRows() const;
  bool Knows(int decode_rows) const;
  void MeasuredDecode(int rows, double ms);
  void MeasuredPrefill(int rows, double ms);

  const int max_rows_;
  const double target_ms_;
  int decode_rows_ = 0;  // that decode_ms_ is of; 0: not measured yet
  double decode_ms_ = 0;  // of a step of decode rows alone
  double row_ms_ = 0;  // what a row of prefill adds; 0: not measured yet
  int mixed_steps_ = 0;  // since decode rows were alone
};

}  // namespace tokenmill
