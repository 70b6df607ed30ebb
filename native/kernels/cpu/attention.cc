#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>

// A segment's result is a function of its pages and the query alone: scores are chains over ascending d, sums
// of values chains over ascending positions, and no masked position takes part. How many queries share a task
// or where tasks begin does not show.

namespace tokenmill::cpu {
namespace {

// From so many queries on, a page is converted to f32 once for all of them.
constexpr int kWidenQueries = 12;
// Pages ahead that a few queries, bound by memory, ask for.
constexpr int kPrefetchPages = 4;

}  // namespace

void Attention::Run(int index, int thread) const {
  const AttentionTask& task = plan_->tasks()[static_cast<size_t>(index)];
  const AttentionShape& shape = plan_->shape();
  const AttentionScratch& scratch = (*scratch_)[static_cast<size_t>(thread)];
  const int queries = task.rows * shape.heads_per_kv();
  LoadQueries(task, scratch);
  if (task.unit < 0) {
    for (int q = 0; q < queries; ++q) scratch.states()[q] = {-INFINITY, 0};
    for (int segment = task.segment_begin; segment < task.segment_end; ++segment) {
      RunSegment(task, segment, scratch, scratch.segment_states(), scratch.segment_sums());
      Merge(queries, scratch.segment_states(), scratch.segment_sums(), scratch.states(), scratch.sums());
    }
    return Finish(task, scratch);
  }
  const AttentionUnit& unit = plan_->unit(task.unit);
  for (int segment = task.segment_begin; segment < task.segment_end; ++segment) {
    const size_t first = static_cast<size_t>((segment - unit.segment_begin) * queries);
    RunSegment(task, segment, scratch, plan_->states() + unit.states + first,
               plan_->sums() + unit.sums + first * static_cast<size_t>(shape.padded_dim()));
  }
  if (plan_->remaining(task.unit).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  plan_->remaining(task.unit).store(unit.tasks, std::memory_order_relaxed);  // for the next layer
  MergeUnit(unit, scratch);
  Finish(task, scratch);
}

void Attention::LoadQueries(const AttentionTask& task, const AttentionScratch& scratch) const {
  const AttentionShape& shape = plan_->shape();
  const int width = shape.heads_per_kv() * shape.head_dim;
  for (int r = 0; r < task.rows; ++r) {
    float* out = scratch.queries() + r * width;
    std::copy_n(q_.row(task.row + r) + task.kv_head * width, width, out);
    state_->kernels->scale(out, op_.scale, width);
  }
}

KvHead Attention::Page(const AttentionTask& task, int page) const {
  const StepSequence& sequence = state_->input->sequences[static_cast<size_t>(task.sequence)];
  const int32_t id = sequence.pages[static_cast<size_t>(plan_->shape().group)][page];
  return state_->kv->Head(op_.kv_layer, task.kv_head, id);
}

// What a row of the task sees of a segment, counted from the segment's first position.
Attention::Range Attention::Visible(const AttentionTask& task, int row, int segment) const {
  const int position = state_->position_of[static_cast<size_t>(task.row + row)];
  const int window = plan_->shape().window;
  const int first = window > 0 ? std::max(0, position - window + 1) : 0;
  const int base = segment * kSegmentTokens;
  return {std::max(0, first - base), std::min(kSegmentTokens, position + 1 - base)};
}

void Attention::RunSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch,
                           SoftmaxState* states, float* sums) const {
  const int group = plan_->shape().heads_per_kv();
  ScoreSegment(task, segment, scratch);
  for (int r = 0; r < task.rows; ++r) {
    const Range range = Visible(task, r, segment);
    for (int q = r * group; q < (r + 1) * group; ++q) {
      states[q] = {-INFINITY, 0};
      if (range.begin >= range.end) continue;
      float* scores = scratch.scores() + q * kSegmentTokens;
      states[q] = state_->kernels->softmax(scores, range.begin, range.end, op_.softcap);
    }
  }
  WeighSegment(task, segment, scratch, sums);
}

void Attention::ScoreSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch) const {
  const AttentionShape& shape = plan_->shape();
  const CpuKernels& kernels = *state_->kernels;
  const int begin = Visible(task, 0, segment).begin, end = Visible(task, task.rows - 1, segment).end;
  ScoreArgs args = {};
  args.queries = scratch.queries();
  args.query_stride = shape.head_dim;
  args.query_count = task.rows * shape.heads_per_kv();
  args.dim = shape.head_dim;
  args.score_stride = kSegmentTokens;
  const bool widen = args.query_count >= kWidenQueries;
  const int element = static_cast<int>(state_->kv->element());
  const int first_page = segment * (kSegmentTokens / kPageTokens);
  const int last = (end + kPageTokens - 1) / kPageTokens;
  for (int page = begin / kPageTokens; page < last; ++page) {
    const KvHead head = Page(task, first_page + page);
    args.scores = scratch.scores() + page * kPageTokens;
    args.scales = head.key_scales;
    if (widen) {
      kernels.widen[element](head.keys, scratch.page(), shape.head_dim * kPageTokens);
      args.keys = scratch.page();
      kernels.score[static_cast<int>(KvElement::kFloat)](args);
    } else {
      args.keys = head.keys;
      const int ahead = page + kPrefetchPages;
      args.prefetch = ahead < last ? Page(task, first_page + ahead).keys : nullptr;
      kernels.score[element](args);
    }
  }
}

// Most rows see the same positions but for a few at either end: these are weighed row by row.
void Attention::WeighSegment(const AttentionTask& task, int segment, const AttentionScratch& scratch,
                             float* sums) const {
  const AttentionShape& shape = plan_->shape();
  std::fill_n(sums, task.rows * shape.heads_per_kv() * shape.padded_dim(), 0.0f);
  int row_begin = 0, row_end = task.rows;
  const auto sees = [&](int row) {
    const Range range = Visible(task, row, segment);
    return range.begin < range.end;
  };
  while (row_begin < row_end && !sees(row_begin)) ++row_begin;
  while (row_begin < row_end && !sees(row_end - 1)) --row_end;
  if (row_begin == row_end) return;
  Range common = {Visible(task, row_end - 1, segment).begin, Visible(task, row_begin, segment).end};
  if (common.begin >= common.end) common = {kSegmentTokens, kSegmentTokens};
  for (int r = row_begin; r < row_end; ++r) {
    const Range range = Visible(task, r, segment);
    WeighRange(task, segment, r, r + 1, {range.begin, std::min(range.end, common.begin)}, scratch, sums);
  }
  WeighRange(task, segment, row_begin, row_end, common, scratch, sums);
  for (int r = row_begin; r < row_end; ++r) {
    const Range range = Visible(task, r, segment);
    WeighRange(task, segment, r, r + 1, {std::max(range.begin, common.end), range.end}, scratch, sums);
  }
}

void Attention::WeighRange(const AttentionTask& task, int segment, int row_begin, int row_end, Range range,
                           const AttentionScratch& scratch, float* sums) const {
  if (range.begin >= range.end) return;
  const AttentionShape& shape = plan_->shape();
  const CpuKernels& kernels = *state_->kernels;
  const int group = shape.heads_per_kv(), first = row_begin * group;
  WeighArgs args = {};
  args.query_count = (row_end - row_begin) * group;
  args.weight_stride = kSegmentTokens;
  args.dim = shape.padded_dim();
  args.out = sums + first * args.dim;
  args.out_stride = args.dim;
  const bool widen = args.query_count >= kWidenQueries;
  const int element = static_cast<int>(state_->kv->element());
  const int first_page = segment * (kSegmentTokens / kPageTokens);
  const int last = (range.end + kPageTokens - 1) / kPageTokens;
  for (int page = range.begin / kPageTokens; page * kPageTokens < range.end; ++page) {
    const int base = page * kPageTokens;
    const KvHead head = Page(task, first_page + page);
    args.scales = head.value_scales;
    args.begin = std::max(range.begin - base, 0);
    args.end = std::min(range.end - base, kPageTokens);
    args.weights = scratch.scores() + first * kSegmentTokens + base;
    if (widen) {
      kernels.widen[element](head.values, scratch.page(), args.dim * kPageTokens);
      args.values = scratch.page();
      kernels.weigh[static_cast<int>(KvElement::kFloat)](args);
    } else {
      args.values = head.values;
      const int ahead = page + kPrefetchPages;
      args.prefetch = ahead < last ? Page(task, first_page + ahead).values : nullptr;
      kernels.weigh[element](args);
    }
  }
}

void Attention::Merge(int queries, const SoftmaxState* next_states, const float* next, SoftmaxState* states,
                      float* sums) const {
  const int dim = plan_->shape().padded_dim();
  for (int q = 0; q < queries; ++q) {
    if (next_states[q].sum == 0) continue;  // the row sees nothing of the segment
    if (states[q].sum == 0) {
      states[q] = next_states[q];
      std::copy_n(next + q * dim, dim, sums + q * dim);
    } else {
      state_->kernels->merge(sums + q * dim, &states[q], next + q * dim, &next_states[q], dim);
    }
  }
}

void Attention::MergeUnit(const AttentionUnit& unit, const AttentionScratch& scratch) const {
  for (int q = 0; q < unit.queries; ++q) scratch.states()[q] = {-INFINITY, 0};
  for (int segment = 0; segment < unit.segments; ++segment) {
    const size_t first = static_cast<size_t>(segment * unit.queries);
    Merge(unit.queries, plan_->states() + unit.states + first,
          plan_->sums() + unit.sums + first * static_cast<size_t>(plan_->shape().padded_dim()),
          scratch.states(), scratch.sums());
  }
}

void Attention::Finish(const AttentionTask& task, const AttentionScratch& scratch) const {
  const AttentionShape& shape = plan_->shape();
  const CpuKernels& kernels = *state_->kernels;
  const int group = shape.heads_per_kv(), dim = shape.head_dim, padded = shape.padded_dim();
  const int column = task.kv_head * group * dim;
  for (int r = 0; r < task.rows; ++r) {
    // The queries have been used: their memory takes the row's output.
    float* out = out_.floats != nullptr ? out_.row(task.row + r) + column : scratch.queries();
    for (int h = 0; h < group; ++h) {
      const int q = r * group + h;
      std::copy_n(scratch.sums() + q * padded, dim, out + h * dim);
      kernels.scale(out + h * dim, 1 / scratch.states()[q].sum, dim);
    }
    if (rounds_) out_.Round(kernels, task.row + r, column, out, group * dim);
  }
}

}  // namespace tokenmill::cpu
