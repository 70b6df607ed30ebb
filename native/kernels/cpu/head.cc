#include "kernels/cpu/head.h"

#include <algorithm>
#include <cmath>

namespace tokenmill::cpu {
namespace {

constexpr int kRunPairs = 16;
constexpr int kRunColumns = kRunPairs * kPairColumns;
constexpr int kTileRows = 16;
// Candidates of a row up to which each thread keeps the best that it has seen.
constexpr int kReducedMost = 256;

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

// Of the edits of `token` and those after it.
size_t FirstEdit(std::span<const LogitEdit> edits, int32_t token) {
  const auto at = std::lower_bound(edits.begin(), edits.end(), token,
                                   [](const LogitEdit& edit, int32_t wanted) { return edit.token < wanted; });
  return static_cast<size_t>(at - edits.begin());
}

bool IsEdited(std::span<const LogitEdit> edits, int32_t token) {
  const size_t at = FirstEdit(edits, token);
  return at < edits.size() && edits[at].token == token;
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
      stride_(int64_t{matrix_->pairs} * kPairColumns),
      adapter_rows_(max_rows),
      adapters_(state->kernels, &adapter_rows_, {op.matrix}) {}

Status HeadWork::Allocate() {
  const size_t rows = static_cast<size_t>(max_rows_), threads = static_cast<size_t>(state_->threads);
  const size_t floats = rows * static_cast<size_t>(stride_);
  logits_ = SystemBuffer(floats * sizeof(float));  // committed by the rows that are written out
  stats_ = SystemBuffer(rows * static_cast<size_t>(runs_) * sizeof(LogitStats));
  scratch_ = SystemBuffer(threads * rows * kRunColumns * sizeof(float));
  if (!logits_ || !stats_ || !scratch_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for logits", floats * sizeof(float));
  }
  row_.resize(rows);
  found_.resize(threads * rows);
  for (Found& found : found_) {
    found.candidates.reserve(kReducedMost);
    found.raw_top.reserve(kReducedMost);
  }
  return {};
}

void HeadWork::SetChunk(int first, int rows) {
  first_ = first;
  rows_ = rows;
  adapter_rows_.Clear();
  for (int index = 0; index < rows; ++index) {
    adapter_rows_.Add(index, state_->sequence(head_row(index).row).adapters);
  }
  adapter_rows_.Finish();
  for (int index = 0; index < rows; ++index) {
    const HeadRow& wanted = head_row(index);
    Row& row = row_[static_cast<size_t>(index)];
    row.whole = wanted.full || wanted.candidates > kReducedMost || wanted.raw_top > kReducedMost;
    row.edit_logits.resize(wanted.edits.size());
  }
  for (Found& found : found_) {
    found.candidates.clear();
    found.raw_top.clear();
  }
}

size_t HeadWork::Wanted(int count) const {
  return static_cast<size_t>(std::clamp<int64_t>(count, 0, matrix_->rows));
}

void HeadWork::NormRow(int index) const {
  const CpuKernels& kernels = *state_->kernels;
  const float* x = in_.row(state_->input->head[static_cast<size_t>(first_ + index)].row);
  float* normed = normed_.row(index);
  kernels.rms_norm(x, state_->weights->vector(op_.norm.weight), op_.norm.epsilon, normed, in_.width);
  normed_.Round(kernels, index, 0, normed, in_.width);
}

void HeadWork::Multiply(int run, float* out) const {
  alignas(64) float tile[kTermsMax * kTileRows * kPairColumns];
  const int first = run * kRunPairs, last = std::min(matrix_->pairs, first + kRunPairs);
  for (int pair = first; pair < last; ++pair) {
    const int columns =
        static_cast<int>(std::min<int64_t>(kPairColumns, matrix_->rows - int64_t{pair} * kPairColumns));
    for (int row = 0; row < rows_; row += kTileRows) {
      const int count = std::min(kTileRows, rows_ - row);
      SoonRead soon;
      MultiplyPair(*state_->kernels, *matrix_, pair, normed_, row, count, row == 0,
                   adapters_.ReadSoon(0, pair, row, count, &soon), tile);
      adapters_.Expand(0, pair, row, count, tile);
      state_->kernels->store_tile(tile, count, columns, nullptr, false,
                                  out + row * kRunColumns + (pair - first) * kPairColumns, kRunColumns);
    }
  }
}

void HeadWork::RunLogits(int run, int thread) {
  const int begin = run * kRunColumns;
  const int columns = static_cast<int>(std::min<int64_t>(kRunColumns, matrix_->rows - begin));
  float* out = scratch_.as<float>() + int64_t{thread} * max_rows_ * kRunColumns;
  Multiply(run, out);
  for (int index = 0; index < rows_; ++index, out += kRunColumns) {
    const LogitStats& part = stats(index)[run] = state_->kernels->logit_stats(out, columns, op_.softcap);
    TakeTokens(index, begin, columns, out);
    if (row_[static_cast<size_t>(index)].whole) {
      std::copy_n(out, columns, logits(index) + begin);
      continue;
    }
    const HeadRow& row = head_row(index);
    Found& best = found(thread, index);
    Scan(begin, columns, out, part.max, Wanted(row.candidates), row.edits, &best.candidates);
    Scan(begin, columns, out, part.max, Wanted(row.raw_top), {}, &best.raw_top);
  }
}

// The logits of tokens that were named.
void HeadWork::TakeTokens(int index, int begin, int columns, const float* run) {
  const HeadRow& row = head_row(index);
  for (size_t i = FirstEdit(row.edits, begin); i < row.edits.size(); ++i) {
    const int column = row.edits[i].token - begin;
    if (column >= columns) break;
    row_[static_cast<size_t>(index)].edit_logits[i] = run[column];
  }
  std::vector<float>& targets = state_->result->head[static_cast<size_t>(first_ + index)].targets;
  for (size_t i = 0; i < row.targets.size(); ++i) {
    const int column = row.targets[i] - begin;
    if (column >= 0 && column < columns) targets[i] = run[column];
  }
}

// Offers the unedited logits of a run.
void HeadWork::Scan(int begin, int columns, const float* run, float largest, size_t count,
                    std::span<const LogitEdit> edits, std::vector<Candidate>* best) const {
  if (count == 0) return;
  const float threshold = best->size() < count ? -INFINITY : best->front().logit;
  if (largest < threshold) return;
  int32_t above[kRunColumns];
  const int many = state_->kernels->collect(run, columns, threshold, above);
  for (int i = 0; i < many; ++i) {
    const int32_t token = begin + above[i];
    const float logit = run[above[i]];
    if (best->size() == count && logit < best->front().logit) continue;
    if (!IsEdited(edits, token)) Offer({token, logit, logit}, count, best);
  }
}

void HeadWork::Best(int index, int count, std::span<const LogitEdit> edits, bool raw,
                    std::vector<Candidate>* best) {
  const size_t wanted = Wanted(count);
  if (wanted == 0) return;
  for (size_t i = 0; i < edits.size(); ++i) {
    const float logit = row_[static_cast<size_t>(index)].edit_logits[i];
    Offer({edits[i].token, ApplyEdit(edits[i], logit), logit}, wanted, best);
  }
  if (row_[static_cast<size_t>(index)].whole) {
    for (int run = 0; run < runs_; ++run) {
      const int begin = run * kRunColumns;
      const int columns = static_cast<int>(std::min<int64_t>(kRunColumns, matrix_->rows - begin));
      Scan(begin, columns, logits(index) + begin, stats(index)[run].max, wanted, edits, best);
    }
  }
  for (int thread = 0; thread < state_->threads; ++thread) {
    const Found& part = found(thread, index);
    for (const Candidate& candidate : raw ? part.raw_top : part.candidates) Offer(candidate, wanted, best);
  }
  std::sort_heap(best->begin(), best->end(), Better);
}

void HeadWork::Reduce(int index, int thread) {
  const HeadRow& row = head_row(index);
  HeadResult& result = state_->result->head[static_cast<size_t>(first_ + index)];
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
  Best(index, row.candidates, row.edits, false, &result.candidates);
  Best(index, row.raw_top, {}, true, &result.raw_top);
  if (row.full && state_->input->sink != nullptr) {
    state_->input->sink->Take(static_cast<size_t>(first_ + index),
                              {logits(index), static_cast<size_t>(matrix_->rows)}, thread);
  }
}

}  // namespace tokenmill::cpu
