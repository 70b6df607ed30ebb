#include "kernels/cuda/executor.h"

#include <algorithm>
#include <exception>
#include <new>

#include "kernels/cuda/check.h"
#include "kernels/cuda/loaded_adapter.h"
#include "kernels/cuda/split.h"
#include "kernels/cuda/stage.h"
#include "ops/program_check.h"

namespace tokenmill::cuda {
namespace {

class CudaExecutor final : public Executor {
 public:
  CudaExecutor(const Program& program, const CompileOptions& options) : program_(program) {
    parts_.program = &program_;
    parts_.options = options;
  }

  /// Operations begin at op_begins[i] on drivers[i].
  Status Compile(std::span<const std::shared_ptr<Driver>> drivers, std::span<const int> op_begins);

  Status LoadWeights(const WeightSource& source) override;
  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override;
  Status Run(const StepInput& input, StepResult* result) override;
  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override;

  size_t PageBytes(int group) const override { return parts_.kv->page_bytes(group); }
  Status AddSlab(int group, int slab, int pages) override { return parts_.kv->AddSlab(group, slab, pages); }
  void RemoveSlab(int group, int slab) override { parts_.kv->RemoveSlab(group, slab); }
  void CopyPage(int group, PageId from, PageId to) override { parts_.kv->CopyPage(group, from, to); }
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const override {
    parts_.kv->ReadPage(group, page, tokens, out);
  }
  void WritePage(int group, PageId page, const std::byte* in) override {
    parts_.kv->WritePage(group, page, in);
  }

  size_t weight_bytes() const override;
  size_t scratch_bytes() const override;
  uint64_t available_bytes() const override;

 private:
  Status RunStep(const StepInput& input, StepResult* result);
  Status UploadAdapters(const StepInput& input) const;
  Status PassOn(size_t stage, int rows);

  const Program program_;
  ExecutorParts parts_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<std::vector<ValueId>> passed_;  // what each stage has from the one before
  PinnedBuffer host_rows_;                    // on the way from one device to the next
};

Status CudaExecutor::Compile(std::span<const std::shared_ptr<Driver>> drivers,
                             std::span<const int> op_begins) {
  const int ops = static_cast<int>(program_.ops.size());
  std::vector<int> device_of_layer(program_.kv_layers.size(), 0);
  std::vector<std::shared_ptr<Driver>> used;
  for (size_t i = 0; i < op_begins.size(); ++i) {
    const int begin = op_begins[i], end = i + 1 < op_begins.size() ? op_begins[i + 1] : ops;
    used.push_back(drivers[i]);
    stages_.push_back(std::make_unique<Stage>(&parts_, drivers[i], static_cast<int>(i), begin, end));
    passed_.push_back(i == 0 ? std::vector<ValueId>() : LiveValues(program_, begin));
    for (const Op& op : stages_.back()->ops()) {
      if (const auto* rope = std::get_if<RopeWriteKv>(&op))
        device_of_layer[static_cast<size_t>(rope->kv_layer)] = static_cast<int>(i);
    }
  }
  parts_.packer =
      std::make_unique<StepPacker>(&program_, parts_.options.max_rows, parts_.options.max_head_rows);
  parts_.kv = std::make_unique<KvMemory>(&program_, parts_.options.kv_type, std::move(used), device_of_layer);
  for (const auto& stage : stages_) TM_RETURN_IF_ERROR(stage->Compile());
  return {};
}

Status CudaExecutor::LoadWeights(const WeightSource& source) {
  try {
    std::vector<WeightTarget> targets;
    for (const auto& stage : stages_) {
      TM_RETURN_IF_ERROR(stage->Allocate());
      targets.push_back({stage->shared_driver(), stage->weights().get()});
    }
    return cuda::LoadWeights(program_, targets, source, parts_.options);
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to load the model's weights");
  }
}

Result<std::unique_ptr<Executor>> CudaExecutor::Twin(int max_rows) const {
  CompileOptions options = parts_.options;
  options.max_rows = max_rows;
  options.max_head_rows = std::min(options.max_head_rows, max_rows);
  try {
    auto twin = std::make_unique<CudaExecutor>(program_, options);
    std::vector<std::shared_ptr<Driver>> drivers;
    std::vector<int> op_begins;
    for (const auto& stage : stages_) {
      drivers.push_back(stage->shared_driver());
      op_begins.push_back(stage->op_begin());
    }
    TM_RETURN_IF_ERROR(twin->Compile(drivers, op_begins));
    for (size_t i = 0; i < stages_.size(); ++i) {
      twin->stages_[i]->ShareWeights(*stages_[i]);
      TM_RETURN_IF_ERROR(twin->stages_[i]->Allocate());
    }
    return std::unique_ptr<Executor>(std::move(twin));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to compile the model");
  }
}

Result<std::shared_ptr<const LoadedAdapter>> CudaExecutor::LoadAdapter(const AdapterSource& source) const {
  std::vector<AdapterTargetDevice> devices;
  for (const auto& stage : stages_) devices.push_back({stage->shared_driver(), stage->ops()});
  return CudaAdapter::Load(program_, devices, source);
}

Status CudaExecutor::UploadAdapters(const StepInput& input) const {
  for (const StepSequence& sequence : input.sequences) {
    for (const AdapterUse& use : sequence.adapters)
      TM_RETURN_IF_ERROR(static_cast<const CudaAdapter*>(use.adapter)->Upload());
  }
  return {};
}

// The rows of values that the operations so far made and those of `stage` read, by way of the host.
Status CudaExecutor::PassOn(size_t stage, int rows) {
  Stage &from = *stages_[stage - 1], &to = *stages_[stage];
  size_t bytes = 0;
  for (const ValueId value : passed_[stage]) {
    const int width = program_.values[static_cast<size_t>(value)].width;
    bytes = std::max(
        bytes, static_cast<size_t>(parts_.options.max_rows) * static_cast<size_t>(width) * sizeof(float));
  }
  if (host_rows_.bytes() < bytes) {
    TM_ASSIGN_OR_RETURN(host_rows_, PinnedBuffer::Allocate(from.shared_driver(), bytes));
  }
  for (const ValueId value : passed_[stage]) {
    const size_t row_bytes =
        static_cast<size_t>(program_.values[static_cast<size_t>(value)].width) * sizeof(float);
    const size_t used = static_cast<size_t>(rows) * row_bytes;
    TM_RETURN_IF_ERROR(
        from.driver().Download(Stream::kStep, host_rows_.data(), from.value_rows(value), used));
    TM_RETURN_IF_ERROR(from.driver().Synchronize(Stream::kStep));
    TM_RETURN_IF_ERROR(to.driver().Upload(Stream::kStep, to.value_rows(value), host_rows_.data(), used));
    TM_RETURN_IF_ERROR(to.driver().Synchronize(Stream::kStep));
  }
  return {};
}

Status CudaExecutor::RunStep(const StepInput& input, StepResult* result) {
  TM_RETURN_IF_ERROR(parts_.kv->TakeFailure());
  TM_RETURN_IF_ERROR(UploadAdapters(input));
  StepShape shape = parts_.packer->ShapeOf(input);
  for (const auto& stage : stages_) TM_RETURN_IF_ERROR(stage->Prepare(&shape));
  for (const auto& stage : stages_) TM_RETURN_IF_ERROR(stage->Begin(input, shape));
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (i > 0) TM_RETURN_IF_ERROR(PassOn(i, static_cast<int>(input.tokens.size())));
    TM_RETURN_IF_ERROR(stages_[i]->RunBody());
  }
  for (const auto& stage : stages_) TM_RETURN_IF_ERROR(stage->RunHead(input, result));
  return {};
}

Status CudaExecutor::Run(const StepInput& input, StepResult* result) {
  Status status;
  try {
    TM_RETURN_IF_ERROR(CheckStep(program_, parts_.options, input));
    result->head.assign(input.head.size(), HeadResult());
    if (input.tokens.empty()) return {};
    status = RunStep(input, result);
  } catch (const std::bad_alloc&) {
    status = Error(Code::kOutOfMemory, "the system refused memory that a step needed");
  } catch (const std::exception& exception) {
    status = Error(Code::kInternal, "a step failed: %s", exception.what());
  }
  if (status.ok()) return {};
  for (const auto& stage : stages_) stage->Abandon();
  return status;
}

size_t CudaExecutor::weight_bytes() const {
  size_t bytes = 0;
  for (const auto& stage : stages_) bytes += stage->weights()->bytes();
  return bytes;
}

size_t CudaExecutor::scratch_bytes() const {
  size_t bytes = 0;
  for (const auto& stage : stages_) bytes += stage->scratch_bytes();
  return bytes;
}

uint64_t CudaExecutor::available_bytes() const {
  uint64_t bytes = 0;
  for (const auto& stage : stages_) {
    size_t free_bytes = 0, total_bytes = 0;
    if (stage->driver().MemoryInfo(&free_bytes, &total_bytes).ok()) bytes += free_bytes;
  }
  return bytes;
}

}  // namespace

Result<std::unique_ptr<Executor>> CompileCuda(const Program& program,
                                              std::span<const std::shared_ptr<Driver>> drivers,
                                              const CompileOptions& given) {
  CompileOptions options = given;
  options.threads = std::max(1, options.threads);
  options.max_rows = std::max(1, options.max_rows);
  options.max_head_rows = std::max(1, options.max_head_rows);
  options.activation_terms = std::clamp(options.activation_terms, 1, 2);
  if (options.pool == nullptr) options.pool = &ThreadPool::Process();
  if (drivers.empty()) return Error(Code::kInvalidArgument, "a program for no device");
  try {
    TM_RETURN_IF_ERROR(CheckProgram(program));
    TM_RETURN_IF_ERROR(CheckKernels(program));
    std::vector<size_t> free_bytes;
    for (const auto& driver : drivers) {
      size_t total_bytes = 0;
      TM_RETURN_IF_ERROR(driver->MemoryInfo(&free_bytes.emplace_back(), &total_bytes));
    }
    auto executor = std::make_unique<CudaExecutor>(program, options);
    TM_RETURN_IF_ERROR(executor->Compile(drivers, SplitOps(program, free_bytes)));
    return std::unique_ptr<Executor>(std::move(executor));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to compile the model");
  }
}

}  // namespace tokenmill::cuda
