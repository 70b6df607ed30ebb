#include <algorithm>

#include "kernels/cpu/attention.h"

namespace tokenmill::cpu {
namespace {

// Split work is for few rows; beyond this there are tasks enough, or the context is so long that whole heads
// are left to single threads.
constexpr size_t kSplitFloats = size_t{2} << 20;
constexpr size_t kSplitStates = kSplitFloats / 16;
constexpr int kUnitsMax = 4096;

}  // namespace

Status AttentionPlan::Allocate() {
  if (threads_ == 1) return {};
  states_ = SystemBuffer(kSplitStates * sizeof(SoftmaxState));
  sums_ = SystemBuffer(kSplitFloats * sizeof(float));
  if (!states_ || !sums_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for attention",
                 kSplitFloats * sizeof(float));
  }
  remaining_ = std::make_unique<std::atomic<int>[]>(kUnitsMax);
  return {};
}

void AttentionPlan::Prepare(const StepInput& input) {
  tasks_.clear();
  units_.clear();
  states_used_ = sums_used_ = 0;
  int whole = 0;
  for (const StepSequence& sequence : input.sequences) {
    whole += (sequence.rows + RowsPerTask() - 1) / RowsPerTask() * shape_.kv_heads;
  }
  const int wanted = 4 * threads_;
  const int pieces = threads_ == 1 || whole == 0 ? 1 : (wanted + whole - 1) / whole;
  for (int s = 0; s < static_cast<int>(input.sequences.size()); ++s) {
    const int rows = input.sequences[static_cast<size_t>(s)].rows;
    // The last rows see the most: first come the longest tasks.
    for (int row = (rows - 1) / RowsPerTask() * RowsPerTask(); row >= 0; row -= RowsPerTask()) {
      AddTasks(input, s, row, std::min(RowsPerTask(), rows - row), pieces);
    }
  }
}

void AttentionPlan::AddTasks(const StepInput& input, int sequence, int row, int rows, int pieces) {
  const StepSequence& of = input.sequences[static_cast<size_t>(sequence)];
  const int position = of.position + row;
  const int first = shape_.window > 0 ? std::max(0, position - shape_.window + 1) : 0;
  AttentionTask task = {};
  task.sequence = sequence;
  task.row = of.row_begin + row;
  task.rows = rows;
  task.segment_begin = first / kSegmentTokens;
  task.segment_end = (position + rows - 1) / kSegmentTokens + 1;
  task.unit = -1;
  for (task.kv_head = 0; task.kv_head < shape_.kv_heads; ++task.kv_head) {
    if (!Split(task, std::min(pieces, task.segment_end - task.segment_begin))) tasks_.push_back(task);
  }
}

bool AttentionPlan::Split(AttentionTask task, int pieces) {
  const int segments = task.segment_end - task.segment_begin;
  const int queries = task.rows * shape_.heads_per_kv();
  const size_t states = static_cast<size_t>(segments) * static_cast<size_t>(queries);
  const size_t sums = states * static_cast<size_t>(shape_.padded_dim());
  if (pieces <= 1 || units_.size() == kUnitsMax || states_used_ + states > kSplitStates ||
      sums_used_ + sums > kSplitFloats) {
    return false;
  }
  task.unit = static_cast<int>(units_.size());
  remaining(task.unit).store(pieces, std::memory_order_relaxed);
  units_.push_back({task.segment_begin, segments, queries, pieces, states_used_, sums_used_});
  states_used_ += states;
  sums_used_ += sums;
  const int begin = task.segment_begin;
  for (int piece = 0; piece < pieces; ++piece) {
    task.segment_begin = begin + segments * piece / pieces;
    task.segment_end = begin + segments * (piece + 1) / pieces;
    tasks_.push_back(task);
  }
  return true;
}

Status AttentionScratch::Allocate(int queries_max, int padded_dim_max) {
  const size_t queries = static_cast<size_t>(queries_max), dim = static_cast<size_t>(padded_dim_max);
  const size_t page = dim * kPageTokens;
  const size_t states = queries * sizeof(SoftmaxState) / sizeof(float);
  const size_t floats = queries * (3 * dim + kSegmentTokens) + page + 2 * states;
  memory_ = SystemBuffer(floats * sizeof(float));
  if (!memory_)
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for attention", floats * sizeof(float));
  queries_ = memory_.as<float>();
  scores_ = queries_ + queries * dim;
  segment_ = scores_ + queries * kSegmentTokens;
  sums_ = segment_ + queries * dim;
  page_ = sums_ + queries * dim;
  segment_states_ = reinterpret_cast<SoftmaxState*>(page_ + page);
  states_ = segment_states_ + queries;
  return {};
}

}  // namespace tokenmill::cpu
