#include "kernels/cpu/head.h"

#include <algorithm>
#include <cmath>

namespace tokenmill::cpu {
namespace {

constexpr int kRunPairs = 16;
constexpr int kRunColumns = kRunPairs * kPairColumns;
constexpr int kTileRows = 16;

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// Keeps the `count` best in a heap with the worst of them on top. Never grows beyond what is reserved.
void Offer(const Candidate& candidate, size_t count, std::vector<Candidate>* best) {
  if (best->size() < count) {
    best->push_back(candidate);
    std::push_heap(best->begin(), best->end(), Better);
  } else if (Better(candidate, best->front())) {
    std::pop_heap(best->begin(), best->end(), Better);
    best->back() = candidate;
    std::push_heap(best->begin(), best->end(), Better);
  }
}

bool IsEdited(std::span<const LogitEdit> edits, int32_t token) {
  const auto at = std::lower_bound(edits.begin(), edits.end(), token,
                                   [](const LogitEdit& edit, int32_t wanted) { return edit.token < wanted; });
  return at != edits.end() && at->token == token;
}

}  // namespace

HeadWork::HeadWork(const StepState* state, const Head& op, RowBuffer in, RowBuffer normed, int max_rows)
    : state_(state),
      op_(op),
      in_(in),
      normed_(normed),
      matrix_(&state->weights->matrix(op.matrix)),
      max_rows_(max_rows),
      runs_((matrix_->pairs + kRunPairs - 1) / kRunPairs),
      stride_(int64_t{matrix_->pairs} * kPairColumns) {}

Status HeadWork::Allocate() {
  const size_t floats = static_cast<size_t>(max_rows_) * static_cast<size_t>(stride_);
  logits_ = SystemBuffer(floats * sizeof(float));
  stats_ = SystemBuffer(static_cast<size_t>(max_rows_) * static_cast<size_t>(runs_) * sizeof(LogitStats));
  if (logits_ && stats_) return {};
  return Error(Code::kOutOfMemory, "the system refused %zu bytes for logits", floats * sizeof(float));
}

void HeadWork::NormRow(int index) const {
  const CpuKernels& kernels = *state_->kernels;
  const float* x = in_.row(state_->input->head[static_cast<size_t>(first_ + index)].row);
  float* normed = normed_.row(index);
  kernels.rms_norm(x, state_->weights->vector(op_.norm.weight), op_.norm.epsilon, normed, in_.width);
  if (matrix_->quantized()) normed_.Quantize(kernels, index, 0, normed, in_.width);
}

void HeadWork::RunLogits(int run) const {
  const CpuKernels& kernels = *state_->kernels;
  alignas(64) float tile[kTermsMax * kTileRows * kPairColumns];
  const int last = std::min(matrix_->pairs, (run + 1) * kRunPairs);
  for (int pair = run * kRunPairs; pair < last; ++pair) {
    const int column = pair * kPairColumns;
    const int columns = static_cast<int>(std::min<int64_t>(kPairColumns, matrix_->rows - column));
    for (int row = 0; row < rows_; row += kTileRows) {
      const int count = std::min(kTileRows, rows_ - row);
      MultiplyPair(kernels, *matrix_, pair, normed_, row, count, row == 0, tile);
      kernels.store_tile(tile, count, columns, nullptr, false, logits(row) + column, stride_);
    }
  }
  const int begin = run * kRunColumns;
  const int count = static_cast<int>(std::min<int64_t>(kRunColumns, matrix_->rows - begin));
  for (int row = 0; row < rows_; ++row) {
    stats(row)[run] = kernels.logit_stats(logits(row) + begin, count, op_.softcap);
  }
}

void HeadWork::ScanRun(int index, int run, size_t count, std::span<const LogitEdit> edits,
                       std::vector<Candidate>* best) const {
  const int begin = run * kRunColumns;
  const int columns = static_cast<int>(std::min<int64_t>(kRunColumns, matrix_->rows - begin));
  const float threshold = best->size() < count ? -INFINITY : best->front().logit;
  if (stats(index)[run].max < threshold) return;
  int32_t found[kRunColumns];
  const float* row = logits(index) + begin;
  const int many = state_->kernels->collect(row, columns, threshold, found);
  for (int i = 0; i < many; ++i) {
    const int32_t token = begin + found[i];
    const float logit = row[found[i]];
    if (best->size() == count && logit < best->front().logit) continue;
    if (!IsEdited(edits, token)) Offer({token, logit, logit}, count, best);
  }
}

void HeadWork::Best(int index, int count, std::span<const LogitEdit> edits,
                    std::vector<Candidate>* best) const {
  const size_t wanted = static_cast<size_t>(std::clamp<int64_t>(count, 0, matrix_->rows));
  if (wanted == 0) return;
  for (const LogitEdit& edit : edits) {
    const float raw = logits(index)[edit.token];
    Offer({edit.token, ApplyEdit(edit, raw), raw}, wanted, best);
  }
  // The run with the largest logit first: it leaves little for the others.
  int top = 0;
  for (int run = 1; run < runs_; ++run) {
    if (stats(index)[run].max > stats(index)[top].max) top = run;
  }
  ScanRun(index, top, wanted, edits, best);
  for (int run = 0; run < runs_; ++run) {
    if (run != top) ScanRun(index, run, wanted, edits, best);
  }
  std::sort_heap(best->begin(), best->end(), Better);
}

void HeadWork::Reduce(int index, int thread) const {
  const size_t head_index = static_cast<size_t>(first_ + index);
  const HeadRow& row = state_->input->head[head_index];
  HeadResult& result = state_->result->head[head_index];
  float max = -INFINITY;
  for (int run = 0; run < runs_; ++run) {
    result.finite = result.finite && stats(index)[run].finite;
    max = std::max(max, stats(index)[run].max);
  }
  if (!result.finite) return;
  double sum = 0;
  for (int run = 0; run < runs_; ++run) {
    const LogitStats& part = stats(index)[run];
    sum += part.sum * std::exp(static_cast<double>(part.max) - max);
  }
  result.log_sum_exp = static_cast<float>(max + std::log(sum));
  Best(index, row.candidates, row.edits, &result.candidates);
  Best(index, row.raw_top, {}, &result.raw_top);
  for (const int32_t target : row.targets) result.targets.push_back(logits(index)[target]);
  if (row.full && state_->input->sink != nullptr) {
    state_->input->sink->Take(head_index, {logits(index), static_cast<size_t>(matrix_->rows)}, thread);
  }
}

}  // namespace tokenmill::cpu
