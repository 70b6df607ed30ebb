#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/adapter.h"
#include "ops/program.h"

// What one step computes. On a given ISA a row's results are the same bits whatever else is in the step, however
// many threads run it and however its sequence was cut into steps.

namespace tokenmill {

/// Consecutive rows of one sequence: row_begin + i is at absolute position `position` + i.
struct StepSequence {
  int row_begin = 0;
  int rows = 0;
  int position = 0;
  /// Per KV group: pages[g][p / kPageTokens] is the page that holds position p. Entries wholly before a
  /// window may be stale; they are not read.
  std::array<const int32_t*, kMaxKvGroups> pages = {};
  /// What the rows' matrices have added, in this order; each adapter at most once. Of the executor that runs the
  /// step, and alive until it has run.
  std::span<const AdapterUse> adapters = {};
};

/// A change to one logit before candidates are chosen: l > 0 ? l / repetition : l * repetition, then - subtract.
struct LogitEdit {
  int32_t token = 0;
  float repetition = 1;
  float subtract = 0;
};

inline float ApplyEdit(const LogitEdit& edit, float logit) {
  return (logit > 0 ? logit / edit.repetition : logit * edit.repetition) - edit.subtract;
}

/// What the head gives for one row. Log-sum-exp always.
struct HeadRow {
  int row = 0;
  int candidates = 0;  // the so many best after the edits
  int raw_top = 0;  // the so many best before the edits
  bool full = false;  // hand all raw logits to StepInput::sink
  std::span<const LogitEdit> edits;  // ascending tokens, each at most once
  std::span<const int32_t> targets;  // raw logits of these tokens
};

struct Candidate {
  int32_t token = 0;
  float logit = 0;  // after the edits
  float raw = 0;
};

struct HeadResult {
  bool finite = true;  // false: the row has a NaN or infinite logit and nothing else holds
  float log_sum_exp = 0;  // of the raw logits; in double where it is summed
  std::vector<Candidate> candidates;  // best first, ties by lower id
  std::vector<Candidate> raw_top;  // likewise
  std::vector<float> targets;  // in the order asked for
};

/// Receives full logit rows during Run, on any of the pool's threads, each head row once.
class LogitSink {
 public:
  virtual ~LogitSink() = default;
  /// `logits` [vocabulary] may be changed in place and is gone after the call. `thread` is below the threads that
  /// the program was compiled for, and no other call has it at the same time.
  virtual void Take(size_t head_index, std::span<float> logits, int thread) noexcept = 0;
};

struct StepInput {
  std::span<const int32_t> tokens;  // one a row
  std::span<const StepSequence> sequences;  // ascending row_begin, covering all rows
  std::span<const HeadRow> head;  // ascending rows
  LogitSink* sink = nullptr;  // needed when a head row wants `full`
};

struct StepResult {
  std::vector<HeadResult> head;  // one a StepInput::head entry
};

}  // namespace tokenmill
