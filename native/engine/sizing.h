#pragma once

#include <cstdint>

#include "core/status.h"
#include "ops/backend.h"
#include "ops/program.h"

namespace tokenmill {

/// What a model, its weights and the steps and replies on it take, in bytes.
struct MemoryEstimate {
  uint64_t weights = 0;
  uint64_t scratch = 0;
  uint64_t kv = 0;  // of one reply of full length
  uint64_t budget = 0;  // for all of that
  uint64_t available = 0;  // that the system could give
  int context_length = 0;  // tokens of a reply of full length
  bool fits = false;

  uint64_t fixed() const { return weights + scratch; }
  uint64_t total() const { return fixed() + kv; }
};

/// The most that one sequence's pages take, with steps of so many rows.
uint64_t KvBytes(const Executor& executor, const Program& program, int tokens, int max_rows);

/// Sizes a compiled program, with weights or without. The context is as long as wanted, which has to fit then, or
/// where that is 0 as the budget holds, at most as trained and of some use.
MemoryEstimate SizeMemory(const Executor& executor, const Program& program, int max_rows, int wanted,
                          int trained, uint64_t budget);

/// OutOfMemory with the numbers when it does not fit.
Status CheckFits(const MemoryEstimate& estimate);

}  // namespace tokenmill
