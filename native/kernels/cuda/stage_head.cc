#include <algorithm>

#include "kernels/cuda/norm.h"
#include "kernels/cuda/stage.h"
#include "kernels/reference/head_rows.h"

// The head: chunks of rows through norm, product and reduction. Lists up to kHeadListMax come from the
// device; rows that want longer ones, or all logits, have these downloaded.

namespace tokenmill::cuda {
namespace {

// Whether a row's logits are worked off on the host.
bool IsLong(const HeadRow& row, int vocabulary) {
  return std::min(std::max(row.candidates, row.raw_top), vocabulary) > kHeadListMax;
}

bool WantsLogits(const HeadRow& row, const LogitSink* sink, int vocabulary) {
  return (row.full && sink != nullptr) || IsLong(row, vocabulary);
}

}  // namespace

void Stage::PlanHead(const Head& op) {
  const int rows = options_.max_head_rows;
  WantForms(FormsOf({&op.matrix, 1}), rows, width(op.in));
  logits_->Want(static_cast<size_t>(rows) * static_cast<size_t>(program_.vocabulary) * sizeof(float));
  head_parts_->Want(HeadPartsBytes(rows, program_.vocabulary));
  head_keys_->Want(HeadKeysBytes(rows, program_.vocabulary, kHeadListMax));
}

Status Stage::LaunchHeadChunk(int chunk) {
  const StepRun run = {&step_, input_.at()};
  const HeadLists& lists = step_.head;
  const int first = chunk * options_.max_head_rows,
            rows = std::min(options_.max_head_rows, lists.rows - first);
  const Forms forms = FormsOf({&head_->matrix, 1});
  const DeviceMatrix weights = weights_->matrix(head_->matrix);
  const AdapterLists& adapters = lists.adapters[static_cast<size_t>(chunk)];

  NormParams norm = {};
  norm.counts = ViewOf(run).counts;
  norm.x = ptr(values_[static_cast<size_t>(head_->in)]);
  norm.weight = weights_->vector(head_->norm.weight);
  norm.epsilon = head_->norm.epsilon;
  norm.row_list = ViewOf(run).head_rows;
  norm.row_first = first;
  norm.width = weights.k;
  norm.out = View(forms, weights.k, adapters.levels > 0);
  TM_RETURN_IF_ERROR(LaunchNorm(*driver_, norm, rows));

  MatmulArgs product;
  product.form = weights.form;
  product.precision = options_.activation_terms > 1 ? MatmulPrecision::kHigh : MatmulPrecision::kFast;
  product.rows_max = rows;
  product.params.weights = weights.data;
  product.params.rows = As<const int32_t>(run.input + lists.chunk_rows_at) + chunk;
  product.params.in = View(forms, weights.k, false);
  product.params.out = ptr(logits_);
  product.params.stride = weights.features;
  product.params.features = weights.features;
  TM_RETURN_IF_ERROR(LaunchMatmul(*driver_, product));
  if (adapters.levels > 0) {
    float* const out = ptr(logits_);
    const AdapterParams params =
        AdaptersOf(run, adapters, {&head_->matrix, 1}, {&out, 1}, ptr(forms_.f32), weights.k);
    TM_RETURN_IF_ERROR(
        LaunchAdapter(*driver_, params, adapters.groups, adapters.level_groups_max, step_.rank_max));
  }

  HeadParams head = {};
  head.counts = ViewOf(run).counts;
  head.requests = As<const HeadRequest>(run.input + lists.requests_at);
  head.logits = ptr(logits_);
  head.edits = As<const HeadEdit>(run.input + lists.edits_at);
  head.targets = As<const int32_t>(run.input + lists.targets_at);
  head.parts = ptr<HeadPart>(head_parts_);
  head.keys = ptr<uint64_t>(head_keys_);
  head.outputs = As<HeadOutput>(results_.at() + lists.outputs_at);
  head.found = As<HeadFound>(results_.at() + lists.found_at);
  head.target_logits = As<float>(results_.at() + lists.target_logits_at);
  head.row_first = first;
  head.vocabulary = program_.vocabulary;
  head.list_max = lists.list_max;
  head.softcap = head_->softcap;
  return LaunchHead(*driver_, head, rows);
}

void Stage::TakeLongLists(const HeadRow& row, std::span<float> logits, HeadResult* result) const {
  HeadRow lists = row;
  lists.full = false;
  HeadResult taken;
  ReduceHeadRow(lists, 0, logits, nullptr, 0, &taken);
  result->candidates = std::move(taken.candidates);
  result->raw_top = std::move(taken.raw_top);
}

// Of a chunk, before the next one's take their place. Results of its rows are there by then.
Status Stage::TakeLogits(int chunk, const StepInput& input, StepResult* result) {
  const int first = chunk * options_.max_head_rows;
  const int rows = std::min(options_.max_head_rows, step_.head.rows - first);
  const size_t vocabulary = static_cast<size_t>(program_.vocabulary), row_bytes = vocabulary * sizeof(float);
  std::vector<int> wanted;
  for (int i = 0; i < rows; ++i) {
    if (WantsLogits(input.head[static_cast<size_t>(first + i)], input.sink, program_.vocabulary))
      wanted.push_back(i);
  }
  if (wanted.empty()) return {};
  const size_t bytes = static_cast<size_t>(options_.max_head_rows) * row_bytes;
  if (host_logits_.bytes() < bytes) {
    TM_ASSIGN_OR_RETURN(host_logits_, PinnedBuffer::Allocate(driver_, bytes));
  }
  float* logits = reinterpret_cast<float*>(host_logits_.data());
  for (const int i : wanted) {
    const size_t at = static_cast<size_t>(i) * row_bytes;
    TM_RETURN_IF_ERROR(
        driver_->Download(Stream::kStep, host_logits_.data() + at, at_of(logits_) + at, row_bytes));
  }
  TM_RETURN_IF_ERROR(DownloadResults());
  TM_RETURN_IF_ERROR(driver_->Synchronize(Stream::kStep));
  const auto* outputs = reinterpret_cast<const HeadOutput*>(host_results_.data() + step_.head.outputs_at);
  const Phase phase = {[&] { return static_cast<int>(wanted.size()); },
                       [&](int task, int thread) {
                         const int i = wanted[static_cast<size_t>(task)];
                         const size_t index = static_cast<size_t>(first + i);
                         if (outputs[index].finite == 0) return;
                         const HeadRow& row = input.head[index];
                         const std::span<float> of_row(logits + static_cast<size_t>(i) * vocabulary,
                                                       vocabulary);
                         if (IsLong(row, program_.vocabulary))
                           TakeLongLists(row, of_row, &result->head[index]);
                         if (row.full && input.sink != nullptr) input.sink->Take(index, of_row, thread);
                       }};
  options_.pool->Run({&phase, 1}, options_.threads);
  return {};
}

Status Stage::DownloadResults() {
  return driver_->Download(Stream::kStep, host_results_.data(), results_.at(), step_.head.results_bytes);
}

void Stage::ReadResults(const StepInput& input, StepResult* result) const {
  const HeadLists& lists = step_.head;
  const auto* outputs = reinterpret_cast<const HeadOutput*>(host_results_.data() + lists.outputs_at);
  const auto* found = reinterpret_cast<const HeadFound*>(host_results_.data() + lists.found_at);
  const auto* logits = reinterpret_cast<const float*>(host_results_.data() + lists.target_logits_at);
  const auto copy = [found](int at, int count, std::vector<Candidate>* to) {
    to->reserve(static_cast<size_t>(count));
    for (int i = at; i < at + count; ++i) to->push_back({found[i].token, found[i].logit, found[i].raw});
  };
  for (size_t i = 0; i < input.head.size(); ++i) {
    const HeadRequest& request = lists.requests[i];
    HeadResult& one = result->head[i];
    one.finite = outputs[i].finite != 0;
    if (!one.finite) continue;
    one.log_sum_exp = outputs[i].log_sum_exp;
    if (!IsLong(input.head[i], program_.vocabulary)) {
      copy(request.candidates_at, std::min(request.candidates, outputs[i].candidates), &one.candidates);
      copy(request.raw_top_at, std::min(request.raw_top, outputs[i].raw_top), &one.raw_top);
    }
    one.targets.assign(logits + request.targets_at, logits + request.targets_at + request.targets);
  }
}

Status Stage::RunHead(const StepInput& input, StepResult* result) {
  const int chunks = head_ != nullptr ? static_cast<int>(step_.head.adapters.size()) : 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    TM_RETURN_IF_ERROR(LaunchHeadChunk(chunk));
    TM_RETURN_IF_ERROR(TakeLogits(chunk, input, result));
  }
  if (chunks > 0) TM_RETURN_IF_ERROR(DownloadResults());
  TM_RETURN_IF_ERROR(driver_->Synchronize(Stream::kStep));
  if (chunks > 0) ReadResults(input, result);
  return {};
}

}  // namespace tokenmill::cuda
