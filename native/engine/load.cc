#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "core/cpu_features.h"
#include "core/hash64.h"
#include "core/memory.h"
#include "engine/engine.h"

namespace tokenmill {
namespace {

constexpr int kDefaultMaxRows = 512;
constexpr int kMaxHeadRows = 16;
constexpr int kDefaultMaxQueue = 4096;
constexpr uint64_t kDefaultAdapterBytes = uint64_t{1} << 30;
// A GPU that holds less context than this, where none was asked for, is not taken by itself when the CPU holds more.
constexpr int kUsefulGpuContext = 4096;

// Of the file that the weights are in: what a file keeps only as long as nobody writes to it, and where the
// tensors lie.
uint64_t Fingerprint(const ModelFile& model) {
  const FileIdentity& identity = model.file->file().identity();
  const uint64_t file[] = {identity.inode, identity.size, static_cast<uint64_t>(identity.modified_ns)};
  uint64_t hash = Hash64(file, sizeof(file));
  for (const GgufTensor& tensor : model.file->tensors()) {
    hash = Hash64(tensor.name.data(), tensor.name.size(), hash ^ tensor.offset);
  }
  return hash;
}

bool IntegrityIsChecked() {
  const char* value = std::getenv("TOKENMILL_INTEGRITY");
  return value != nullptr && std::string_view(value) == "1";
}

// All but what concerns reading the weights.
CompileOptions OptionsOf(const EngineOptions& options) {
  CompileOptions compile;
  compile.max_rows = options.max_rows > 0 ? options.max_rows : kDefaultMaxRows;
  compile.max_head_rows = std::min(kMaxHeadRows, compile.max_rows);
  compile.threads = options.threads > 0 ? options.threads : UsableCores();
  compile.activation_terms = options.high_precision ? 2 : 1;
  compile.kv_type = options.kv_type;
  compile.pool = &ThreadPool::Process();
  return compile;
}

Result<MemoryEstimate> Size(const Executor& executor, const ModelFile& model, const EngineOptions& options,
                            int max_rows) {
  const int trained = model.spec.context_length;
  if (options.context_length > trained) {
    return Error(Code::kInvalidArgument, "contextLength is %d; the model was trained for at most %d tokens",
                 options.context_length, trained);
  }
  const uint64_t available = executor.available_bytes();
  MemoryEstimate estimate = SizeMemory(executor, model.program, max_rows, options.context_length, trained,
                                       options.budget.Of(available));
  estimate.available = available;
  return estimate;
}

// A program that knows its sizes and has no weights yet, where it is to run.
struct Compiled {
  Device device;
  std::unique_ptr<Executor> executor;
  MemoryEstimate size;
};

Result<Compiled> CompileFor(Device device, const ModelFile& model, const EngineOptions& options,
                            const CompileOptions& compile) {
  Compiled compiled;
  TM_ASSIGN_OR_RETURN(compiled.executor, CompileOn(device, model.program, compile));
  TM_ASSIGN_OR_RETURN(compiled.size, Size(*compiled.executor, model, options, compile.max_rows));
  compiled.device = std::move(device);
  return compiled;
}

// Why a GPU is not to be taken unless it is asked for; empty for none.
std::string Unfit(const Result<Compiled>& compiled, const ModelFile& model, const EngineOptions& options) {
  if (!compiled.ok()) return compiled.status().message();
  const MemoryEstimate& size = compiled.value().size;
  if (!size.fits) return CheckFits(size).message();
  const int useful = options.context_length > 0 ? options.context_length
                                                : std::min(kUsefulGpuContext, model.spec.context_length);
  if (size.context_length >= useful) return "";
  return Format("its memory budget holds %d tokens of context", size.context_length);
}

bool HoldsMore(const Result<Compiled>& compiled, const MemoryEstimate& other) {
  if (!compiled.ok()) return false;
  const MemoryEstimate& size = compiled.value().size;
  return size.fits && size.context_length > other.context_length;
}

// On the device of the options. One that was not asked for by name gives way to the CPU.
Result<Compiled> CompileFor(const ModelFile& model, const EngineOptions& options,
                            const CompileOptions& compile) {
  TM_ASSIGN_OR_RETURN(Device device, SelectDevice(options.device));
  const bool may_give_way = !device.gpus.empty() && options.device.kind == DeviceOptions::Kind::kAuto;
  const std::string name = may_give_way ? device.gpus.front().name : "";
  Result<Compiled> compiled = CompileFor(std::move(device), model, options, compile);
  if (!may_give_way) return compiled;
  const std::string problem = Unfit(compiled, model, options);
  if (problem.empty()) return compiled;
  TM_ASSIGN_OR_RETURN(Device instead, InsteadOfGpu(name + ": " + problem));
  Result<Compiled> cpu = CompileFor(std::move(instead), model, options, compile);
  const bool gpu_holds_it = compiled.ok() && compiled.value().size.fits;
  return gpu_holds_it && !HoldsMore(cpu, compiled.value().size) ? std::move(compiled) : std::move(cpu);
}

}  // namespace

Result<std::shared_ptr<Engine>> Engine::Load(std::shared_ptr<const ModelFile> model,
                                             const EngineOptions& options,
                                             const std::function<bool(uint64_t, uint64_t)>& on_progress) {
  std::shared_ptr<Engine> engine(new Engine());
  engine->model_ = std::move(model);
  engine->integrity_ = IntegrityIsChecked();
  const Tokenizer& tokenizer = *engine->model_->tokenizer;
  for (Token token = 0; token < tokenizer.vocabulary_size(); ++token) {
    engine->token_bytes_max_ = std::max(engine->token_bytes_max_, tokenizer.Bytes(token, true).size());
  }
  const GgufWeightSource weights(*engine->model_);
  const uint64_t total = weights.total_bytes();

  std::atomic<uint64_t> loaded{0};
  CompileOptions compile = OptionsOf(options);
  engine->threads_ = compile.threads;
  engine->max_rows_ = compile.max_rows;
  compile.packed_folder = options.packed.folder;
  compile.packed_limit_bytes = options.packed.limit_bytes;
  compile.source_fingerprint = Fingerprint(*engine->model_);
  compile.on_progress = [&](size_t bytes) {
    const uint64_t now = loaded.fetch_add(bytes) + bytes;
    return !on_progress || on_progress(std::min(now, total), total);
  };
  TM_ASSIGN_OR_RETURN(Compiled compiled, CompileFor(*engine->model_, options, compile));
  engine->device_ = std::move(compiled.device);
  engine->executor_ = std::move(compiled.executor);
  const MemoryEstimate size = compiled.size;
  TM_RETURN_IF_ERROR(CheckFits(size));
  TM_RETURN_IF_ERROR(engine->executor_->LoadWeights(weights));
  engine->adapters_ = std::make_unique<AdapterSet>(
      &engine->model_->program, engine->executor_.get(),
      options.adapter_bytes > 0 ? options.adapter_bytes
                                : std::min(kDefaultAdapterBytes, engine->executor_->available_bytes() / 8));
  engine->context_length_ = size.context_length;
  engine->budget_bytes_ = size.budget;
  const Program& program = engine->model_->program;
  engine->pool_ = std::make_unique<BlockPool>(
      engine->executor_.get(), static_cast<int>(program.kv_groups.size()), size.budget - size.fixed());
  engine->pool_->SetCachedMaximum(options.prefix_cache_bytes);
  if (options.prefix_cache)
    engine->prefix_ = std::make_unique<PrefixIndex>(engine->pool_.get(), &program.kv_groups);
  engine->waiting_room_ =
      std::make_unique<WaitingRoom>(options.max_queue > 0 ? options.max_queue : kDefaultMaxQueue);
  SchedulerLimits limits;
  limits.max_rows = engine->max_rows_;
  limits.context_length = engine->context_length_;
  limits.target_tpot_ms = options.target_tpot_ms;
  engine->scheduler_ = std::make_unique<Scheduler>(engine->model_->tokenizer.get(), &program.kv_groups,
                                                   engine->pool_.get(), limits, engine->prefix_.get());
  engine->transfers_ = std::make_unique<PageTransfers>(engine->executor_.get(), engine->scheduler_.get());
  engine->DescribeSnapshots(options);
  engine->draft_source_ = engine->LendAsDraft(options);
  engine->PublishStats();
  ReleaseFreeMemory();  // what reading the header and the vocabulary took
  engine->intake_thread_ = std::thread([raw = engine.get()] { raw->IntakeLoop(); });
  engine->step_thread_ = std::thread([raw = engine.get()] { raw->StepLoop(); });
  return engine;
}

std::shared_ptr<const DraftSource> Engine::LendAsDraft(const EngineOptions& options) const {
  auto source = std::make_shared<DraftSource>();
  source->name = model_->name.empty() ? model_->file->file().path() : model_->name;
  source->tokenizer = model_->tokenizer;
  source->groups = model_->program.kv_groups;
  source->executor = executor_;
  source->threads = threads_;
  source->context_length = context_length_;
  source->prefix_cache = options.prefix_cache;
  source->kv_bytes->store(pool_->limit_bytes());
  return source;
}

Result<MemoryEstimate> Engine::Estimate(const ModelFile& model, const EngineOptions& options) {
  TM_ASSIGN_OR_RETURN(const Compiled compiled, CompileFor(model, options, OptionsOf(options)));
  return compiled.size;
}

// What the model holds itself counts as free, so that a share means the same at any time. Weights that are mapped from
// a file do anyway.
uint64_t Engine::AvailableWithOwn() const {
  std::string problem;
  const bool mapped = executor_->packed_cache(&problem) == PackedCache::kRead;
  return executor_->available_bytes() + pool_->committed_bytes() + executor_->scratch_bytes() +
         (mapped ? 0 : executor_->weight_bytes());
}

// The context stays as it was loaded: one sequence of full length always fits, so that no reply fails for want of
// pages.
Status Engine::ApplyBudget(const MemoryBudget& wanted) {
  const Program& program = model_->program;
  MemoryEstimate size;
  size.weights = executor_->weight_bytes();
  size.scratch = executor_->scratch_bytes();
  size.kv = KvBytes(*executor_, program, context_length_, max_rows_);
  size.context_length = context_length_;
  size.budget = wanted.Of(AvailableWithOwn());
  size.fits = size.total() <= size.budget;
  TM_RETURN_IF_ERROR(CheckFits(size));
  if (!scheduler_->SetMemoryLimit(size.budget - size.fixed()))
    return Error(Code::kOutOfMemory, "pages of the KV cache cannot be given back now; try again");
  budget_bytes_ = size.budget;
  draft_source_->kv_bytes->store(pool_->limit_bytes());
  return {};
}

}  // namespace tokenmill
