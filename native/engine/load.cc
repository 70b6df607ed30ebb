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
constexpr int kUsefulContext = 64;
constexpr int kDefaultMaxQueue = 4096;

size_t KvBytes(const Executor& executor, const Program& program, int tokens, int max_rows) {
  size_t bytes = 0;
  for (size_t g = 0; g < program.kv_groups.size(); ++g) {
    const size_t pages = BlockTable::PagesAtMost(program.kv_groups[g], tokens, max_rows);
    const size_t slabs = (pages + BlockPool::kSlabPages - 1) / BlockPool::kSlabPages;
    bytes += slabs * BlockPool::kSlabPages * executor.PageBytes(static_cast<int>(g));
  }
  return bytes;
}

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

}  // namespace

Result<std::shared_ptr<Engine>> Engine::Load(std::shared_ptr<const ModelFile> model,
                                             const EngineOptions& options,
                                             const std::function<bool(uint64_t, uint64_t)>& on_progress) {
  std::shared_ptr<Engine> engine(new Engine());
  engine->model_ = std::move(model);
  TM_ASSIGN_OR_RETURN(engine->device_, SelectDevice());
  engine->threads_ = options.threads > 0 ? options.threads : UsableCores();
  engine->max_rows_ = options.max_rows > 0 ? options.max_rows : kDefaultMaxRows;
  engine->integrity_ = IntegrityIsChecked();
  engine->budget_bytes_ = options.budget_bytes > 0 ? options.budget_bytes : AvailableMemoryBytes() / 2;
  if (options.context_length > engine->model_->spec.context_length) {
    return Error(Code::kInvalidArgument, "contextLength is %d; the model was trained for at most %d tokens",
                 options.context_length, engine->model_->spec.context_length);
  }
  const Tokenizer& tokenizer = *engine->model_->tokenizer;
  for (Token token = 0; token < tokenizer.vocabulary_size(); ++token) {
    engine->token_bytes_max_ = std::max(engine->token_bytes_max_, tokenizer.Bytes(token, true).size());
  }
  const GgufWeightSource weights(*engine->model_);
  const uint64_t total = weights.total_bytes();

  std::atomic<uint64_t> loaded{0};
  CompileOptions compile;
  compile.max_rows = engine->max_rows_;
  compile.max_head_rows = std::min(kMaxHeadRows, engine->max_rows_);
  compile.threads = engine->threads_;
  compile.activation_terms = options.high_precision ? 2 : 1;
  compile.kv_type = options.kv_type;
  compile.pool = &ThreadPool::Process();
  compile.budget_bytes = engine->budget_bytes_;
  compile.packed_folder = options.packed.folder;
  compile.packed_limit_bytes = options.packed.limit_bytes;
  compile.source_fingerprint = Fingerprint(*engine->model_);
  compile.on_progress = [&](size_t bytes) {
    const uint64_t now = loaded.fetch_add(bytes) + bytes;
    return !on_progress || on_progress(std::min(now, total), total);
  };
  const Program& program = engine->model_->program;
  const CpuIsa isa = engine->device_.isa;
  auto compiled = isa == CpuIsa::kReference ? CompileReference(program, weights, compile)
                                            : CompileCpu(program, weights, isa, compile);
  TM_ASSIGN_OR_RETURN(engine->executor_, std::move(compiled));
  TM_RETURN_IF_ERROR(engine->SizeContext(options));
  if (options.prefix_cache)
    engine->prefix_ = std::make_unique<PrefixIndex>(engine->pool_.get(), &program.kv_groups);
  SchedulerLimits limits;
  limits.max_rows = engine->max_rows_;
  limits.context_length = engine->context_length_;
  limits.max_queue = options.max_queue > 0 ? options.max_queue : kDefaultMaxQueue;
  limits.target_tpot_ms = options.target_tpot_ms;
  engine->scheduler_ = std::make_unique<Scheduler>(engine->model_->tokenizer.get(), &program.kv_groups,
                                                   engine->pool_.get(), limits, engine->prefix_.get());
  engine->transfers_ = std::make_unique<PageTransfers>(engine->executor_.get(), engine->scheduler_.get());
  engine->DescribeSnapshots(options);
  engine->PublishStats();
  ReleaseFreeMemory();  // what reading the header and the vocabulary took
  engine->intake_thread_ = std::thread([raw = engine.get()] { raw->IntakeLoop(); });
  engine->step_thread_ = std::thread([raw = engine.get()] { raw->StepLoop(); });
  return engine;
}

// Gives the KV cache what the budget leaves, and the context what the KV cache holds: one sequence of full
// length always fits, so that no reply fails for want of pages.
Status Engine::SizeContext(const EngineOptions& options) {
  const Program& program = model_->program;
  const size_t fixed = executor_->weight_bytes() + executor_->scratch_bytes();
  const size_t kv = budget_bytes_ > fixed ? budget_bytes_ - fixed : 0;
  const auto fits = [&](int tokens) { return KvBytes(*executor_, program, tokens, max_rows_) <= kv; };
  context_length_ = options.context_length > 0 ? options.context_length : model_->spec.context_length;
  const int wanted = context_length_;
  if (options.context_length == 0) {
    int low = 0, high = context_length_;  // the longest context that fits
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      (fits(middle) ? low : high) = fits(middle) ? middle : middle - 1;
    }
    context_length_ = low;
  }
  if (!fits(context_length_) || context_length_ < std::min(kUsefulContext, wanted)) {
    const int needed = options.context_length > 0 ? wanted : std::min(kUsefulContext, wanted);
    return Error(
        Code::kOutOfMemory,
        "weights and scratch take %zu MiB and %d tokens of context %zu MiB; the memory budget is %llu MiB. "
        "Raise memory.budget or lower contextLength",
        fixed >> 20, needed, KvBytes(*executor_, program, needed, max_rows_) >> 20,
        static_cast<unsigned long long>(budget_bytes_ >> 20));
  }
  pool_ = std::make_unique<BlockPool>(executor_.get(), static_cast<int>(program.kv_groups.size()), kv);
  return {};
}

}  // namespace tokenmill
