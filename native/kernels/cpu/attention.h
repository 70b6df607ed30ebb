#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/memory.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// Layers whose attention is cut into the same tasks.
struct AttentionShape {
  int group = 0;
  int window = 0;
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;

  bool operator==(const AttentionShape&) const = default;
  int heads_per_kv() const { return query_heads / kv_heads; }
  int padded_dim() const { return KvCache::PaddedDim(head_dim); }
};

/// Some consecutive rows of a sequence and the query heads of one kv head, over a range of segments.
struct AttentionTask {
  int sequence;
  int row;
  int rows;
  int kv_head;
  int segment_begin;
  int segment_end;
  int unit;  // of split work, else -1
};

/// Work whose segments several tasks share: each leaves its segments' results, the last one merges them.
struct AttentionUnit {
  int segment_begin;
  int segments;
  int queries;
  int tasks;
  size_t states;  // where its partial states begin, [segments][queries]
  size_t sums;    // and its weighted values, [segments][queries][padded_dim]
};

/// The tasks of a step for all layers of one shape.
class AttentionPlan {
 public:
  /// Query heads times rows of a task: enough to share each load of keys and values.
  static constexpr int kQueriesWanted = 24;

  AttentionPlan(const AttentionShape& shape, int threads) : shape_(shape), threads_(threads) {}

  /// Allocates the memory of split work.
  Status Allocate();
  void Prepare(const StepInput& input);

  const AttentionShape& shape() const { return shape_; }
  const std::vector<AttentionTask>& tasks() const { return tasks_; }
  const AttentionUnit& unit(int index) const { return units_[static_cast<size_t>(index)]; }
  std::atomic<int>& remaining(int unit) { return remaining_[static_cast<size_t>(unit)]; }
  SoftmaxState* states() const { return states_.as<SoftmaxState>(); }
  float* sums() const { return sums_.as<float>(); }
  size_t bytes() const { return states_.size() + sums_.size(); }
  /// Queries of the largest task.
  int queries_max() const { return RowsPerTask() * shape_.heads_per_kv(); }

 private:
  int RowsPerTask() const { return std::max(1, kQueriesWanted / shape_.heads_per_kv()); }
  void AddTasks(const StepInput& input, int sequence, int row, int rows, int pieces);
  bool Split(AttentionTask task, int pieces);

  const AttentionShape shape_;
  const int threads_;
  std::vector<AttentionTask> tasks_;
  std::vector<AttentionUnit> units_;
  std::unique_ptr<std::atomic<int>[]> remaining_;
  SystemBuffer states_;
  SystemBuffer sums_;
  size_t states_used_ = 0;
  size_t sums_used_ = 0;
};

/// A thread's memory for attention.
class AttentionScratch {
 public:
  Status Allocate(int queries_max, int padded_dim_max);

  float* queries() const { return queries_; }                       // [queries][head_dim]
  float* scores() const { return scores_; }                         // [queries][kSegmentTokens]
  float* segment_sums() const { return segment_; }                  // [queries][padded_dim]
  float* sums() const { return sums_; }                             // [queries][padded_dim]
  float* page() const { return page_; }                             // keys or values in f32
  SoftmaxState* segment_states() const { return segment_states_; }  // [queries]
  SoftmaxState* states() const { return states_; }
  size_t bytes() const { return memory_.size(); }

 private:
  SystemBuffer memory_;
  float *queries_ = nullptr, *scores_ = nullptr, *segment_ = nullptr, *sums_ = nullptr, *page_ = nullptr;
  SoftmaxState *segment_states_ = nullptr, *states_ = nullptr;
};

/// One layer's attention.
class Attention {
 public:
  Attention(const StepState* state, AttentionPlan* plan, const std::vector<AttentionScratch>* scratch,
            const PagedAttention& op, RowBuffer q, RowBuffer out)
      : state_(state),
        plan_(plan),
        scratch_(scratch),
        op_(op),
        rounds_(out.rounded() && RoundsItself(state->program->kv_layers[static_cast<size_t>(op.kv_layer)])),
        q_(q),
        out_(out) {}

  /// Whether a task's outputs are whole blocks, so that it rounds them itself.
  static bool RoundsItself(const KvLayer& layer) {
    return layer.query_heads / layer.kv_heads * layer.head_dim % kBlock == 0;
  }

  int Tasks() const { return static_cast<int>(plan_->tasks().size()); }
  void Run(int task, int thread) const;

 private:
  struct Range {
    int begin, end;  // positions of a segment
  };

  Range Visible(const AttentionTask& task, int row, int segment) const;
  void LoadQueries(const AttentionTask& task, const AttentionScratch& scratch) const;
  void ScoreSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch) const;
  void WeighSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch,
                    float* sums) const;
  void WeighRange(const AttentionTask& task, int segment, int row_begin, int row_end, Range range,
                  const AttentionScratch& scratch, float* sums) const;
  void RunSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch,
                  SoftmaxState* states, float* sums) const;
  void Merge(int queries, const SoftmaxState* next_states, const float* next, SoftmaxState* states,
             float* sums) const;
  void MergeUnit(const AttentionUnit& unit, const AttentionScratch& scratch) const;
  void Finish(const AttentionTask& task, const AttentionScratch& scratch) const;
  KvHead Page(const AttentionTask& task, int page) const;

  const StepState* state_;
  AttentionPlan* plan_;
  const std::vector<AttentionScratch>* scratch_;
  const PagedAttention op_;
  const bool rounds_;
  const RowBuffer q_;
  const RowBuffer out_;
};

}  // namespace tokenmill::cpu
