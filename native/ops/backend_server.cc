#include "ops/backend_server.h"

#include <algorithm>
#include <atomic>

#include "ops/backend_call.h"
#include "ops/program_bytes.h"

using namespace tokenmill;

/// An executor, and where it tells of the weights that it reads.
struct TmExecutor {
  std::unique_ptr<Executor> executor;
  std::shared_ptr<std::atomic<const TmWeightSource*>> progress;
  StepResult result;
  std::vector<StepSequence> sequences;  // of the step under way, and below
  std::vector<AdapterUse> adapters;
  std::vector<HeadRow> head;
};

struct TmAdapter {
  std::shared_ptr<const LoadedAdapter> adapter;
};

namespace tokenmill {
namespace {

static_assert(sizeof(TmEdit) == sizeof(LogitEdit) && sizeof(TmCandidate) == sizeof(Candidate));
static_assert(offsetof(TmEdit, subtract) == offsetof(LogitEdit, subtract));
static_assert(offsetof(TmCandidate, raw) == offsetof(Candidate, raw));
static_assert(TM_KV_GROUPS == kMaxKvGroups);

struct ServedBackend {
  TmBackend table;  // first, so that a pointer to it is one to this
  BackendLibrary* library;
};

BackendLibrary& LibraryOf(const TmBackend* self) {
  return *reinterpret_cast<const ServedBackend*>(self)->library;
}

class ForeignWeights final : public WeightSource {
 public:
  explicit ForeignWeights(const TmWeightSource& source) : source_(source) {}
  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
    TmMessage message;
    return ToStatus(source_.read(source_.context, weight, row, rows, out, &message), message);
  }

 private:
  const TmWeightSource& source_;
};

class ForeignAdapter final : public AdapterSource {
 public:
  static Result<std::unique_ptr<ForeignAdapter>> Open(const TmAdapterSource& source) {
    std::unique_ptr<ForeignAdapter> adapter(new ForeignAdapter(source));
    for (const TmFactors& given : std::span(source.factors, source.factor_count)) {
      const DTypeInfo* info = FindDType(given.dtype);
      if (info == nullptr)
        return Error(Code::kInvalidArgument, "an adapter has element type %u", given.dtype);
      adapter->factors_.push_back({given.matrix, given.rank, given.scale, info->dtype});
    }
    return adapter;
  }
  std::span<const AdapterFactors> factors() const override { return factors_; }
  Status Read(size_t index, AdapterFactor which, void* out) const override {
    TmMessage message;
    const int32_t factor = which == AdapterFactor::kA ? TM_FACTOR_A : TM_FACTOR_B;
    return ToStatus(source_.read(source_.context, index, factor, out, &message), message);
  }

 private:
  explicit ForeignAdapter(const TmAdapterSource& source) : source_(source) {}
  const TmAdapterSource& source_;
  std::vector<AdapterFactors> factors_;
};

class ForeignSink final : public LogitSink {
 public:
  explicit ForeignSink(const TmSink* sink) : sink_(sink) {}
  void Take(size_t head_index, std::span<float> logits, int thread) noexcept override {
    sink_->take(sink_->context, head_index, logits.data(), logits.size(), thread);
  }

 private:
  const TmSink* const sink_;
};

TmDevice ToTable(const BackendDevice& device) {
  TmDevice out = {};
  CopyText(device.name, out.name, sizeof(out.name));
  CopyText(device.problem, out.problem, sizeof(out.problem));
  out.index = device.index;
  out.major = device.major;
  out.minor = device.minor;
  out.multiprocessors = device.multiprocessors;
  out.memory_bytes = device.memory_bytes;
  return out;
}

TmCode Devices(const TmBackend* self, TmDevice* out, uint64_t capacity, uint64_t* count, TmMessage* message) {
  return CallGuarded(message, [&]() -> Status {
    TM_ASSIGN_OR_RETURN(const std::vector<BackendDevice> devices, LibraryOf(self).Devices());
    *count = devices.size();
    for (size_t i = 0; i < std::min<size_t>(devices.size(), capacity); ++i) out[i] = ToTable(devices[i]);
    return {};
  });
}

CompileOptions FromTable(const TmOptions& given) {
  CompileOptions options;
  options.max_rows = given.max_rows;
  options.max_head_rows = given.max_head_rows;
  options.threads = given.threads;
  options.activation_terms = given.activation_terms;
  options.kv_type = given.kv_type == TM_KV_INT8 ? KvType::kInt8 : KvType::kF16;
  options.pool = &ThreadPool::Process();
  return options;
}

TmCode Compile(const TmBackend* self, const void* program, uint64_t bytes, const TmOptions* given,
               TmExecutor** out, TmMessage* message) {
  return CallGuarded(message, [&]() -> Status {
    TM_ASSIGN_OR_RETURN(const Program decoded,
                        DecodeProgram({static_cast<const std::byte*>(program), static_cast<size_t>(bytes)}));
    if (given->device_count < 1 || given->device_count > TM_DEVICES)
      return Error(Code::kInternal, "a program is for %d devices", given->device_count);
    auto handle = std::make_unique<TmExecutor>();
    handle->progress = std::make_shared<std::atomic<const TmWeightSource*>>(nullptr);
    CompileOptions options = FromTable(*given);
    options.on_progress = [progress = handle->progress](size_t read) {
      const TmWeightSource* source = progress->load();
      return source == nullptr || source->progress(source->context, read) != 0;
    };
    const std::span<const int> devices(given->devices, static_cast<size_t>(given->device_count));
    TM_ASSIGN_OR_RETURN(handle->executor, LibraryOf(self).Compile(decoded, devices, options));
    *out = handle.release();
    return {};
  });
}

void Sizes(const TmExecutor* handle, TmSizes* out) {
  *out = {handle->executor->weight_bytes(), handle->executor->scratch_bytes()};
}

uint64_t PageBytes(const TmExecutor* handle, int32_t group) { return handle->executor->PageBytes(group); }

uint64_t AvailableBytes(const TmExecutor* handle) { return handle->executor->available_bytes(); }

TmCode LoadWeights(TmExecutor* handle, const TmWeightSource* source, TmMessage* message) {
  handle->progress->store(source);
  const TmCode code =
      CallGuarded(message, [&] { return handle->executor->LoadWeights(ForeignWeights(*source)); });
  handle->progress->store(nullptr);
  return code;
}

TmCode Twin(const TmExecutor* handle, int32_t max_rows, TmExecutor** out, TmMessage* message) {
  return CallGuarded(message, [&]() -> Status {
    auto twin = std::make_unique<TmExecutor>();
    twin->progress = handle->progress;
    TM_ASSIGN_OR_RETURN(twin->executor, handle->executor->Twin(max_rows));
    *out = twin.release();
    return {};
  });
}

// Lists that others point into keep their place: they are as long as they become before anyone does.
void ReadSequences(const TmStep& step, TmExecutor* handle) {
  const std::span<const TmSequence> given(step.sequences, step.sequence_count);
  handle->sequences.clear();
  handle->adapters.clear();
  for (const TmSequence& one : given) {
    for (const TmAdapterUse& use : std::span(one.adapters, one.adapter_count))
      handle->adapters.push_back({use.adapter->adapter.get(), use.scale});
  }
  size_t adapter = 0;
  for (const TmSequence& one : given) {
    StepSequence sequence = {one.row_begin, one.rows, one.position, {}};
    std::copy(std::begin(one.pages), std::end(one.pages), sequence.pages.begin());
    sequence.adapters = std::span<const AdapterUse>(handle->adapters).subspan(adapter, one.adapter_count);
    adapter += one.adapter_count;
    handle->sequences.push_back(sequence);
  }
}

void ReadHead(const TmStep& step, TmExecutor* handle) {
  handle->head.clear();
  for (const TmHeadRow& one : std::span(step.head, step.head_count)) {
    HeadRow row = {one.row, one.candidates, one.raw_top, one.full != 0, {}, {}};
    row.edits = {reinterpret_cast<const LogitEdit*>(one.edits), one.edit_count};
    row.targets = {one.targets, one.target_count};
    handle->head.push_back(row);
  }
}

void CopyCandidates(const std::vector<Candidate>& from, TmCandidate* to, uint32_t* count) {
  *count = static_cast<uint32_t>(from.size());
  std::transform(from.begin(), from.end(), to,
                 [](const Candidate& one) { return TmCandidate{one.token, one.logit, one.raw}; });
}

// More than a row asked for has no room.
bool Fits(const HeadResult& result, const HeadRow& row) {
  return result.candidates.size() <= static_cast<size_t>(std::max(row.candidates, 0)) &&
         result.raw_top.size() <= static_cast<size_t>(std::max(row.raw_top, 0)) &&
         result.targets.size() <= row.targets.size();
}

void WriteResult(const HeadResult& result, TmHeadResult* out) {
  CopyCandidates(result.candidates, out->candidates, &out->candidate_count);
  CopyCandidates(result.raw_top, out->raw_top, &out->raw_top_count);
  std::copy(result.targets.begin(), result.targets.end(), out->targets);
  out->target_count = static_cast<uint32_t>(result.targets.size());
  out->finite = result.finite ? 1 : 0;
  out->log_sum_exp = result.log_sum_exp;
}

TmCode Run(TmExecutor* handle, const TmStep* step, TmHeadResult* results, TmMessage* message) {
  return CallGuarded(message, [&]() -> Status {
    ReadSequences(*step, handle);
    ReadHead(*step, handle);
    ForeignSink sink(step->sink);
    const StepInput input = {{step->tokens, step->row_count},
                             handle->sequences,
                             handle->head,
                             step->sink != nullptr ? &sink : nullptr};
    TM_RETURN_IF_ERROR(handle->executor->Run(input, &handle->result));
    const std::vector<HeadResult>& head = handle->result.head;
    bool fits = head.size() == handle->head.size();
    for (size_t i = 0; fits && i < head.size(); ++i) fits = Fits(head[i], handle->head[i]);
    if (!fits) return Error(Code::kInternal, "a step has more results than were asked for");
    for (size_t i = 0; i < head.size(); ++i) WriteResult(head[i], &results[i]);
    return {};
  });
}

TmCode AddSlab(TmExecutor* handle, int32_t group, int32_t slab, int32_t pages, TmMessage* message) {
  return CallGuarded(message, [&] { return handle->executor->AddSlab(group, slab, pages); });
}

void RemoveSlab(TmExecutor* handle, int32_t group, int32_t slab) {
  handle->executor->RemoveSlab(group, slab);
}

void CopyPage(TmExecutor* handle, int32_t group, int32_t from, int32_t to) {
  handle->executor->CopyPage(group, from, to);
}

void ReadPage(const TmExecutor* handle, int32_t group, int32_t page, int32_t tokens, void* out) {
  handle->executor->ReadPage(group, page, tokens, static_cast<std::byte*>(out));
}

void WritePage(TmExecutor* handle, int32_t group, int32_t page, const void* in) {
  handle->executor->WritePage(group, page, static_cast<const std::byte*>(in));
}

TmCode LoadAdapter(const TmExecutor* handle, const TmAdapterSource* source, TmAdapter** out, uint64_t* bytes,
                   TmMessage* message) {
  return CallGuarded(message, [&]() -> Status {
    TM_ASSIGN_OR_RETURN(const std::unique_ptr<ForeignAdapter> adapter, ForeignAdapter::Open(*source));
    TM_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedAdapter> loaded, handle->executor->LoadAdapter(*adapter));
    *bytes = loaded->bytes();
    *out = new TmAdapter{std::move(loaded)};
    return {};
  });
}

void DestroyAdapter(TmAdapter* adapter) { delete adapter; }
void Destroy(TmExecutor* handle) { delete handle; }

TmBackend MakeTable() {
  TmBackend table = {};
  table.version = TM_BACKEND_VERSION;
  table.error_codes = ErrorCodeCount();
  table.struct_sizes = BackendStructSizes();
  table.devices = Devices;
  table.compile = Compile;
  table.sizes = Sizes;
  table.page_bytes = PageBytes;
  table.available_bytes = AvailableBytes;
  table.load_weights = LoadWeights;
  table.twin = Twin;
  table.run = Run;
  table.add_slab = AddSlab;
  table.remove_slab = RemoveSlab;
  table.copy_page = CopyPage;
  table.read_page = ReadPage;
  table.write_page = WritePage;
  table.load_adapter = LoadAdapter;
  table.destroy_adapter = DestroyAdapter;
  table.destroy = Destroy;
  return table;
}

}  // namespace

const TmBackend* ServeBackend(uint32_t version, BackendLibrary* (*make_library)()) {
  if (version != TM_BACKEND_VERSION) return nullptr;
  static const ServedBackend* const served = new ServedBackend{MakeTable(), make_library()};
  return &served->table;
}

}  // namespace tokenmill
