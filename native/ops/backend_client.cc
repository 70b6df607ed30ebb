#include "ops/backend_client.h"

#include <algorithm>
#include <cstring>

#include "core/shared_library.h"
#include "ops/backend_call.h"
#include "ops/program_bytes.h"

namespace tokenmill {
namespace {

using Progress = std::function<bool(size_t)>;

class ClientAdapter final : public LoadedAdapter {
 public:
  ClientAdapter(const TmBackend* table, TmAdapter* handle, uint64_t bytes)
      : table_(table), handle_(handle), bytes_(bytes) {}
  ~ClientAdapter() override { table_->destroy_adapter(handle_); }
  ClientAdapter(const ClientAdapter&) = delete;
  ClientAdapter& operator=(const ClientAdapter&) = delete;

  size_t bytes() const override { return bytes_; }
  const TmAdapter* handle() const { return handle_; }

 private:
  const TmBackend* const table_;
  TmAdapter* const handle_;
  const uint64_t bytes_;
};

struct Weights {
  const WeightSource* source;
  const Progress* progress;
};

TmCode ReadWeight(void* context, int32_t weight, int64_t row, int64_t rows, void* out, TmMessage* message) {
  return CallGuarded(message, [&] {
    return static_cast<const Weights*>(context)->source->Read(weight, row, rows, out);
  });
}

// What throws ends the load too.
int32_t TellProgress(void* context, uint64_t bytes) {
  const Progress& progress = *static_cast<const Weights*>(context)->progress;
  bool go_on = false;
  TmMessage ignored;
  CallGuarded(&ignored, [&] {
    go_on = !progress || progress(bytes);
    return Status();
  });
  return go_on ? 1 : 0;
}

TmCode ReadFactor(void* context, uint64_t index, int32_t which, void* out, TmMessage* message) {
  return CallGuarded(message, [&] {
    return static_cast<const AdapterSource*>(context)->Read(
        index, which == TM_FACTOR_A ? AdapterFactor::kA : AdapterFactor::kB, out);
  });
}

void TakeLogits(void* context, uint64_t head_index, float* logits, uint64_t count, int32_t thread) {
  static_cast<LogitSink*>(context)->Take(head_index, {logits, static_cast<size_t>(count)}, thread);
}

class ClientExecutor final : public Executor {
 public:
  ClientExecutor(const TmBackend* table, TmExecutor* handle, int groups, int vocabulary, Progress progress)
      : table_(table), handle_(handle), vocabulary_(vocabulary), progress_(std::move(progress)) {
    table_->sizes(handle_, &sizes_);
    for (int g = 0; g < groups; ++g) page_bytes_.push_back(table_->page_bytes(handle_, g));
  }
  ~ClientExecutor() override { table_->destroy(handle_); }
  ClientExecutor(const ClientExecutor&) = delete;
  ClientExecutor& operator=(const ClientExecutor&) = delete;

  Status LoadWeights(const WeightSource& source) override {
    Weights weights = {&source, &progress_};
    const TmWeightSource given = {&weights, ReadWeight, TellProgress};
    TmMessage message;
    return ToStatus(table_->load_weights(handle_, &given, &message), message);
  }

  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override {
    TmMessage message;
    TmExecutor* twin = nullptr;
    TM_RETURN_IF_ERROR(ToStatus(table_->twin(handle_, max_rows, &twin, &message), message));
    const int groups = static_cast<int>(page_bytes_.size());
    return std::unique_ptr<Executor>(
        std::make_unique<ClientExecutor>(table_, twin, groups, vocabulary_, Progress()));
  }

  Status Run(const StepInput& input, StepResult* result) override {
    ReadSequences(input);
    MakeRoom(input, result);
    const TmSink sink = {input.sink, TakeLogits};
    const TmStep step = {input.tokens.data(),
                         sequences_.data(),
                         head_.data(),
                         input.sink != nullptr ? &sink : nullptr,
                         static_cast<uint32_t>(input.tokens.size()),
                         static_cast<uint32_t>(sequences_.size()),
                         static_cast<uint32_t>(head_.size())};
    TmMessage message;
    TM_RETURN_IF_ERROR(ToStatus(table_->run(handle_, &step, results_.data(), &message), message));
    for (size_t i = 0; i < results_.size(); ++i) Shorten(results_[i], &result->head[i]);
    return {};
  }

  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override {
    std::vector<TmFactors> factors;
    for (const AdapterFactors& one : source.factors())
      factors.push_back({one.matrix, one.rank, one.scale, static_cast<uint32_t>(one.dtype)});
    // The context is only given back to ReadFactor, which takes it as const.
    const TmAdapterSource given = {const_cast<AdapterSource*>(&source), factors.data(), factors.size(),
                                   ReadFactor};
    TmMessage message;
    TmAdapter* adapter = nullptr;
    uint64_t bytes = 0;
    TM_RETURN_IF_ERROR(ToStatus(table_->load_adapter(handle_, &given, &adapter, &bytes, &message), message));
    return std::shared_ptr<const LoadedAdapter>(std::make_shared<ClientAdapter>(table_, adapter, bytes));
  }

  size_t PageBytes(int group) const override { return page_bytes_[static_cast<size_t>(group)]; }
  Status AddSlab(int group, int slab, int pages) override {
    TmMessage message;
    return ToStatus(table_->add_slab(handle_, group, slab, pages, &message), message);
  }
  void RemoveSlab(int group, int slab) override { table_->remove_slab(handle_, group, slab); }
  void CopyPage(int group, PageId from, PageId to) override { table_->copy_page(handle_, group, from, to); }
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const override {
    table_->read_page(handle_, group, page, tokens, out);
  }
  void WritePage(int group, PageId page, const std::byte* in) override {
    table_->write_page(handle_, group, page, in);
  }

  size_t weight_bytes() const override { return sizes_.weight_bytes; }
  size_t scratch_bytes() const override { return sizes_.scratch_bytes; }
  uint64_t available_bytes() const override { return table_->available_bytes(handle_); }

 private:
  // Lists that others point into keep their place: they are as long as they become before anyone does.
  void ReadSequences(const StepInput& input) {
    sequences_.clear();
    adapters_.clear();
    for (const StepSequence& sequence : input.sequences) {
      for (const AdapterUse& use : sequence.adapters)
        adapters_.push_back({static_cast<const ClientAdapter*>(use.adapter)->handle(), use.scale});
    }
    size_t adapter = 0;
    for (const StepSequence& sequence : input.sequences) {
      TmSequence given = {sequence.row_begin, sequence.rows, sequence.position,
                          static_cast<uint32_t>(sequence.adapters.size()), adapters_.data() + adapter, {}};
      std::copy(sequence.pages.begin(), sequence.pages.end(), std::begin(given.pages));
      adapter += sequence.adapters.size();
      sequences_.push_back(given);
    }
  }

  size_t RoomFor(int candidates) const {
    return static_cast<size_t>(std::clamp(candidates, 0, vocabulary_));
  }

  // The library writes straight into the result's lists.
  void MakeRoom(const StepInput& input, StepResult* result) {
    head_.clear();
    results_.clear();
    result->head.resize(input.head.size());
    for (size_t i = 0; i < input.head.size(); ++i) {
      const HeadRow& row = input.head[i];
      head_.push_back({row.row, row.candidates, row.raw_top, row.full ? 1 : 0,
                       reinterpret_cast<const TmEdit*>(row.edits.data()), row.targets.data(),
                       static_cast<uint32_t>(row.edits.size()), static_cast<uint32_t>(row.targets.size())});
      HeadResult& room = result->head[i];
      room.candidates.resize(RoomFor(row.candidates));
      room.raw_top.resize(RoomFor(row.raw_top));
      room.targets.resize(row.targets.size());
      TmHeadResult written = {};
      written.candidates = reinterpret_cast<TmCandidate*>(room.candidates.data());
      written.raw_top = reinterpret_cast<TmCandidate*>(room.raw_top.data());
      written.targets = room.targets.data();
      results_.push_back(written);
    }
  }

  static void Shorten(const TmHeadResult& written, HeadResult* result) {
    result->finite = written.finite != 0;
    result->log_sum_exp = written.log_sum_exp;
    result->candidates.resize(std::min<size_t>(written.candidate_count, result->candidates.size()));
    result->raw_top.resize(std::min<size_t>(written.raw_top_count, result->raw_top.size()));
    result->targets.resize(std::min<size_t>(written.target_count, result->targets.size()));
  }

  const TmBackend* const table_;
  TmExecutor* const handle_;
  const int vocabulary_;
  const Progress progress_;
  TmSizes sizes_ = {};
  std::vector<size_t> page_bytes_;  // of each group
  std::vector<TmSequence> sequences_;  // of the step under way, and below
  std::vector<TmAdapterUse> adapters_;
  std::vector<TmHeadRow> head_;
  std::vector<TmHeadResult> results_;
};

BackendDevice FromTable(const TmDevice& device) {
  const auto text = [](const char* from, size_t capacity) {
    return std::string(from, std::find(from, from + capacity, '\0'));
  };
  return {text(device.name, sizeof(device.name)),
          text(device.problem, sizeof(device.problem)),
          device.index,
          device.major,
          device.minor,
          device.multiprocessors,
          device.memory_bytes};
}

bool IsOfThisVersion(const TmBackend* table) {
  if (table == nullptr || table->version != TM_BACKEND_VERSION) return false;
  const TmStructSizes sizes = BackendStructSizes();
  return table->error_codes == ErrorCodeCount() &&
         std::memcmp(&table->struct_sizes, &sizes, sizeof(sizes)) == 0;
}

}  // namespace

Result<std::shared_ptr<const Backend>> Backend::Open(const std::string& path) {
  TM_ASSIGN_OR_RETURN(const SharedLibrary library, SharedLibrary::Open(path));
  const auto entry = library.FindFunction<const TmBackend*(uint32_t)>(TM_BACKEND_SYMBOL);
  if (entry == nullptr) {
    return Error(Code::kDeviceUnavailable, "'%s' is no library of tokenmill: it lacks '%s'", path.c_str(),
                 TM_BACKEND_SYMBOL);
  }
  const TmBackend* table = entry(TM_BACKEND_VERSION);
  if (!IsOfThisVersion(table)) {
    return Error(Code::kDeviceUnavailable,
                 "'%s' is made for another version of tokenmill; install the one that goes with this",
                 path.c_str());
  }
  return std::shared_ptr<const Backend>(new Backend(table));
}

Result<std::vector<BackendDevice>> Backend::Devices() const {
  std::vector<TmDevice> devices(TM_DEVICES);
  uint64_t count = 0;
  TmMessage message;
  TM_RETURN_IF_ERROR(
      ToStatus(table_->devices(table_, devices.data(), devices.size(), &count, &message), message));
  std::vector<BackendDevice> found;
  for (size_t i = 0; i < std::min<size_t>(count, devices.size()); ++i) found.push_back(FromTable(devices[i]));
  return found;
}

Result<std::unique_ptr<Executor>> Backend::Compile(const Program& program, std::span<const int> devices,
                                                   const CompileOptions& options) const {
  TmOptions given = {};
  given.max_rows = options.max_rows;
  given.max_head_rows = options.max_head_rows;
  given.threads = options.threads;
  given.activation_terms = options.activation_terms;
  given.kv_type = options.kv_type == KvType::kInt8 ? TM_KV_INT8 : TM_KV_F16;
  given.device_count = static_cast<int32_t>(std::min<size_t>(devices.size(), TM_DEVICES));
  std::copy_n(devices.begin(), given.device_count, given.devices);
  const std::vector<std::byte> bytes = EncodeProgram(program);
  TmMessage message;
  TmExecutor* executor = nullptr;
  TM_RETURN_IF_ERROR(ToStatus(
      table_->compile(table_, bytes.data(), bytes.size(), &given, &executor, &message), message));
  return std::unique_ptr<Executor>(std::make_unique<ClientExecutor>(
      table_, executor, static_cast<int>(program.kv_groups.size()), program.vocabulary, options.on_progress));
}

}  // namespace tokenmill
