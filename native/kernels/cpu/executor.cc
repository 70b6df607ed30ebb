#include "kernels/cpu/executor.h"

#include <algorithm>
#include <exception>
#include <new>

#include "kernels/cpu/check.h"
#include "kernels/cpu/select_kernels.h"
#include "ops/program_check.h"

namespace tokenmill {
namespace cpu {

CpuExecutor::CpuExecutor(const Program& program, const CpuKernels* kernels, const CompileOptions& options)
    : program_(program),
      options_(options),
      forms_(program_, *kernels, options.activation_terms),
      kv_(program_, options.kv_type),
      adapters_(options.max_rows),
      values_(program.values.size()) {
  state_.kernels = kernels;
  state_.program = &program_;
  state_.weights = &weights_;
  state_.kv = &kv_;
  state_.threads = options.threads;
  state_.sequence_of.resize(static_cast<size_t>(options.max_rows));
  state_.position_of.resize(static_cast<size_t>(options.max_rows));
}

Status CpuExecutor::LoadWeights(const WeightSource& source) {
  try {
    return weights_.Load(program_, forms_.formats(), source, options_);
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to load the model's weights");
  }
}

Result<std::unique_ptr<Executor>> CpuExecutor::Twin(int max_rows) const {
  CompileOptions options = options_;
  options.max_rows = max_rows;
  options.max_head_rows = std::min(options.max_head_rows, max_rows);
  try {
    auto twin = std::make_unique<CpuExecutor>(program_, state_.kernels, options);
    TM_RETURN_IF_ERROR(twin->Compile());
    twin->weights_.Share(weights_);
    return std::unique_ptr<Executor>(std::move(twin));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to compile the model");
  }
}

Status CpuExecutor::SetStep(const StepInput& input, StepResult* result) {
  TM_RETURN_IF_ERROR(CheckStep(program_, options_, input));
  state_.input = &input;
  state_.result = result;
  state_.rows = static_cast<int>(input.tokens.size());
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const StepSequence& sequence = input.sequences[s];
    for (int i = 0; i < sequence.rows; ++i) {
      const size_t row = static_cast<size_t>(sequence.row_begin + i);
      state_.sequence_of[row] = static_cast<int>(s);
      state_.position_of[row] = sequence.position + i;
    }
  }
  SetAdapters(input);
  for (const auto& plan : plans_) plan->Prepare(input);
  // The phases write to what is reserved here and take no memory of their own.
  result->head.assign(input.head.size(), HeadResult());
  for (size_t i = 0; i < input.head.size(); ++i) {
    const auto most = [this](int count) {
      return static_cast<size_t>(std::clamp(count, 0, program_.vocabulary));
    };
    result->head[i].candidates.reserve(most(input.head[i].candidates));
    result->head[i].raw_top.reserve(most(input.head[i].raw_top));
    result->head[i].targets.resize(input.head[i].targets.size());
  }
  return {};
}

void CpuExecutor::SetAdapters(const StepInput& input) {
  adapters_.Clear();
  for (const StepSequence& sequence : input.sequences) {
    for (int i = 0; i < sequence.rows; ++i) adapters_.Add(sequence.row_begin + i, sequence.adapters);
  }
  adapters_.Finish();
}

Status CpuExecutor::Run(const StepInput& input, StepResult* result) {
  try {
    TM_RETURN_IF_ERROR(SetStep(input, result));
    RunPhases(input);
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "the system refused memory that a step needed");
  } catch (const std::exception& exception) {
    return Error(Code::kInternal, "a step failed: %s", exception.what());
  }
  return {};
}

void CpuExecutor::RunPhases(const StepInput& input) {
  const std::span<const Phase> all(phases_);
  const int head_rows = static_cast<int>(input.head.size());
  const int chunk = options_.max_head_rows;
  if (head_ != nullptr) head_->SetChunk(0, std::min(chunk, head_rows));
  options_.pool->Run(all, options_.threads);
  for (int first = chunk; head_ != nullptr && first < head_rows; first += chunk) {
    head_->SetChunk(first, std::min(chunk, head_rows - first));
    options_.pool->Run(all.subspan(body_phases_), options_.threads);
  }
}

size_t CpuExecutor::scratch_bytes() const {
  size_t bytes = 0;
  for (const SystemBuffer& buffer : memory_) bytes += buffer.size();
  for (const auto& angles : angles_) bytes += angles->bytes();
  for (const auto& plan : plans_) bytes += plan->bytes();
  for (const AttentionScratch& scratch : attention_scratch_) bytes += scratch.bytes();
  for (const auto& scratch : norm_scratch_) bytes += scratch.size() * sizeof(float);
  if (head_ != nullptr) bytes += head_->bytes();
  return bytes;
}

}  // namespace cpu

Result<std::unique_ptr<Executor>> CompileCpu(const Program& program, CpuIsa isa,
                                             const CompileOptions& given) {
  const cpu::CpuKernels* kernels = cpu::SelectKernels(isa);
  if (kernels == nullptr) {
    return Error(Code::kDeviceUnavailable, "this CPU lacks the instructions that were asked for");
  }
  CompileOptions options = given;
  options.threads = std::max(1, options.threads);
  options.max_head_rows = std::max(1, options.max_head_rows);
  options.activation_terms = std::clamp(options.activation_terms, 1, cpu::kTermsMax);
  if (options.pool == nullptr) options.pool = &ThreadPool::Process();
  try {
    TM_RETURN_IF_ERROR(CheckProgram(program));
    auto executor = std::make_unique<cpu::CpuExecutor>(program, kernels, options);
    TM_RETURN_IF_ERROR(executor->Compile());
    return std::unique_ptr<Executor>(std::move(executor));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to compile the model");
  }
}

}  // namespace tokenmill
