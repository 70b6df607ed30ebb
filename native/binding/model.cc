#include "binding/model.h"

#include <algorithm>
#include <cinttypes>
#include <new>
#include <system_error>
#include <thread>

#include "binding/adapter.h"
#include "binding/convert.h"
#include "binding/engine_options.h"
#include "binding/instance.h"
#include "binding/snapshot.h"
#include "binding/tokenizer.h"

namespace tokenmill::binding {
namespace {

class ChannelSink final : public EventSink {
 public:
  explicit ChannelSink(std::shared_ptr<Channel> channel) : channel_(std::move(channel)) {}

  void Deliver(std::vector<Event>&& events) override {
    const auto batch = std::make_shared<std::vector<Event>>();
    Channel::Message message = [batch](Napi::Env env, Napi::Function callback) {
      Napi::Array array = Napi::Array::New(env, batch->size());
      for (uint32_t i = 0; i < batch->size(); ++i) array.Set(i, FromEvent(env, (*batch)[i]));
      callback.Call({array});
    };
    batch->swap(events);
    try {
      channel_->Send(std::move(message));
    } catch (const std::bad_alloc&) {
      batch->swap(events);
      throw;
    }
  }

 private:
  const std::shared_ptr<Channel> channel_;
};

// Joins an engine's threads away from the event loop, when this was its last client.
class CloseWorker final : public Napi::AsyncWorker {
 public:
  CloseWorker(Napi::Env env, std::shared_ptr<Engine> engine)
      : Napi::AsyncWorker(env), engine_(std::move(engine)), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override { engine_.reset(); }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }

 private:
  std::shared_ptr<Engine> engine_;
  Napi::Promise::Deferred deferred_;
};

// Tokenizes a prompt away from the event loop.
class EncodeWorker final : public Napi::AsyncWorker {
 public:
  EncodeWorker(Napi::Env env, std::shared_ptr<Engine> engine, std::vector<PromptPiece> pieces, bool bos)
      : Napi::AsyncWorker(env),
        engine_(std::move(engine)),
        pieces_(std::move(pieces)),
        bos_(bos),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      tokens_ = engine_->Encode(pieces_, bos_);
    } catch (const std::bad_alloc&) {
      status_ = Status(Code::kOutOfMemory, "the system refused memory to tokenize a prompt");
    }
    engine_.reset();
  }

  void OnOK() override {
    if (!status_.ok()) return deferred_.Reject(ToError(Env(), status_).Value());
    Napi::Int32Array tokens = Napi::Int32Array::New(Env(), tokens_.size());
    std::copy(tokens_.begin(), tokens_.end(), tokens.Data());
    deferred_.Resolve(tokens);
  }

 private:
  std::shared_ptr<Engine> engine_;
  const std::vector<PromptPiece> pieces_;
  const bool bos_;
  Napi::Promise::Deferred deferred_;
  std::vector<Token> tokens_;
  Status status_;
};

// Reads an adapter away from the event loop.
class AdapterWorker final : public Napi::AsyncWorker {
 public:
  AdapterWorker(Napi::Env env, std::shared_ptr<Engine> engine, ClientId client, AdapterSpec spec)
      : Napi::AsyncWorker(env),
        engine_(std::move(engine)),
        client_(client),
        spec_(std::move(spec)),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      result_ = engine_->LoadAdapter(client_, spec_);
    } catch (const std::bad_alloc&) {
      result_ = Status(Code::kOutOfMemory, "the system refused memory to load an adapter");
    } catch (const std::exception& exception) {
      result_ = Error(Code::kInternal, "an adapter was not loaded: %s", exception.what());
    }
    engine_.reset();
  }

  void OnOK() override {
    const Napi::Env env = Env();
    if (!result_.ok()) return deferred_.Reject(ToError(env, result_.status()).Value());
    const AdapterInfo& info = result_.value();
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", static_cast<double>(info.id));
    object.Set("digest", Format("%016" PRIx64 "%016" PRIx64, info.digest.first, info.digest.second));
    object.Set("bytes", static_cast<double>(info.bytes));
    Napi::Array targets = Napi::Array::New(env, info.targets.size());
    for (uint32_t i = 0; i < info.targets.size(); ++i) targets.Set(i, info.targets[i]);
    object.Set("targets", targets);
    deferred_.Resolve(object);
  }

 private:
  std::shared_ptr<Engine> engine_;
  const ClientId client_;
  const AdapterSpec spec_;
  Napi::Promise::Deferred deferred_;
  Result<AdapterInfo> result_ = Status(Code::kInternal, "not loaded");
};

const char* PackedCacheName(PackedCache state) {
  constexpr const char* kNames[] = {"off", "read", "written", "failed"};
  return kNames[static_cast<int>(state)];
}

// NativeDevice of lib/native.ts.
Napi::Object FromDevice(Napi::Env env, const Device& device, int threads) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("reason", device.reason);
  if (device.gpus.empty()) {
    object.Set("type", "cpu");
    object.Set("isa", IsaName(device.isa));
    object.Set("threads", threads);
    object.Set("problem", device.problem);
    return object;
  }
  const BackendDevice& gpu = device.gpus.front();
  object.Set("type", "cuda");
  object.Set("name", gpu.name);
  object.Set("index", gpu.index);
  object.Set("computeCapability", Format("%d.%d", gpu.major, gpu.minor));
  return object;
}

// A load on a thread of its own: work in libuv's queue would have to end before an environment could.
class LoadTask {
 public:
  static Napi::Promise Start(Napi::Env env, std::string path, EngineOptions options,
                             std::shared_ptr<Channel> channel, std::shared_ptr<std::atomic<bool>> aborted) {
    auto* task =
        new LoadTask(env, std::move(path), std::move(options), std::move(channel), std::move(aborted));
    const Napi::Promise promise = task->deferred_.Promise();
    napi_add_env_cleanup_hook(env, AbortAtExit, task);
    task->channel_->Ref(env);
    try {
      task->thread_ = std::thread([task] { task->Run(); });
    } catch (const std::system_error& error) {
      task->result_ = Error(Code::kOutOfMemory, "the system refused a thread to load with: %s", error.what());
      task->Finish(env);
    }
    return promise;
  }

 private:
  LoadTask(Napi::Env env, std::string path, EngineOptions options, std::shared_ptr<Channel> channel,
           std::shared_ptr<std::atomic<bool>> aborted)
      : env_(env),
        path_(std::move(path)),
        options_(std::move(options)),
        channel_(std::move(channel)),
        aborted_(std::move(aborted)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  void Run() {
    try {
      result_ = AcquireEngine(path_, options_, [this](uint64_t loaded, uint64_t total) {
        if (total > 0) Report(loaded, total);
        return !aborted_->load();
      });
    } catch (const std::exception& exception) {
      result_ = Error(Code::kInternal, "loading '%s' failed: %s", path_.c_str(), exception.what());
    }
    channel_->Send([this](Napi::Env env, Napi::Function) { Finish(env); });
  }

  // On the JavaScript thread, unless the environment ends first.
  void Finish(Napi::Env env) {
    const std::unique_ptr<LoadTask> self(this);
    if (thread_.joinable()) thread_.join();
    napi_remove_env_cleanup_hook(env_, AbortAtExit, this);
    channel_->Unref(env);
    if (result_.ok()) {
      deferred_.Resolve(ModelHandle::New(env, std::move(result_).value(), channel_));
    } else {
      channel_->Close();
      deferred_.Reject(ToError(env, result_.status()).Value());
    }
  }

  static void AbortAtExit(void* self) {
    const std::unique_ptr<LoadTask> task(static_cast<LoadTask*>(self));
    task->aborted_->store(true);
    task->channel_->Close();
    if (task->thread_.joinable()) task->thread_.join();
  }

  // A hundred reports a load, in order, from whichever thread passes the next percent.
  void Report(uint64_t loaded, uint64_t total) {
    const int percent = static_cast<int>(loaded * 100 / total);
    const std::lock_guard<std::mutex> lock(report_mutex_);
    if (percent <= reported_) return;
    reported_ = percent;
    channel_->Send([loaded, total](Napi::Env env, Napi::Function callback) {
      callback.Call({Napi::Number::New(env, static_cast<double>(loaded)),
                     Napi::Number::New(env, static_cast<double>(total))});
    });
  }

  const napi_env env_;
  const std::string path_;
  const EngineOptions options_;
  const std::shared_ptr<Channel> channel_;
  const std::shared_ptr<std::atomic<bool>> aborted_;
  std::mutex report_mutex_;
  int reported_ = -1;
  Napi::Promise::Deferred deferred_;
  Result<std::shared_ptr<Engine>> result_ = Status(Code::kInternal, "not loaded");
  std::thread thread_;
};

}  // namespace

Napi::Function ModelHandle::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeModel",
      {InstanceMethod("info", &ModelHandle::Info), InstanceMethod("stats", &ModelHandle::Stats),
       InstanceMethod("tokenize", &ModelHandle::TokenizeText),
       InstanceMethod("detokenize", &ModelHandle::DetokenizeTokens),
       InstanceMethod("encodePrompt", &ModelHandle::EncodePrompt),
       InstanceMethod("submit", &ModelHandle::Submit), InstanceMethod("cancel", &ModelHandle::Cancel),
       InstanceMethod("addCredits", &ModelHandle::AddCredits),
       InstanceMethod("setMemoryBudget", &ModelHandle::SetMemoryBudget),
       InstanceMethod("forkHold", &ModelHandle::ForkHold),
       InstanceMethod("releaseHold", &ModelHandle::ReleaseHold),
       InstanceMethod("exportHold", &ModelHandle::ExportHold),
       InstanceMethod("openSnapshot", &ModelHandle::OpenSnapshot),
       InstanceMethod("importHold", &ModelHandle::ImportHold),
       InstanceMethod("loadAdapter", &ModelHandle::LoadAdapter),
       InstanceMethod("releaseAdapter", &ModelHandle::ReleaseAdapter),
       InstanceMethod("ref", &ModelHandle::Ref), InstanceMethod("unref", &ModelHandle::Unref),
       InstanceMethod("close", &ModelHandle::Close)});
}

Napi::Object ModelHandle::New(Napi::Env env, std::shared_ptr<Engine> engine,
                              std::shared_ptr<Channel> channel) {
  Napi::Object object = InstanceOf(env).model_class.New({});
  ModelHandle* handle = Napi::ObjectWrap<ModelHandle>::Unwrap(object);
  handle->client_ = engine->AddClient(std::make_shared<ChannelSink>(channel));
  handle->engine_ = std::move(engine);
  handle->channel_ = std::move(channel);
  return object;
}

ModelHandle::ModelHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ModelHandle>(info), env_(info.Env()) {
  // At the environment's end (exit, a terminated worker) the engine is left before its threads could call in.
  napi_add_env_cleanup_hook(env_, DetachAtExit, this);
}

ModelHandle::~ModelHandle() {
  napi_remove_env_cleanup_hook(env_, DetachAtExit, this);
  Detach().reset();
}

void ModelHandle::DetachAtExit(void* self) { static_cast<ModelHandle*>(self)->Detach().reset(); }

std::shared_ptr<Engine> ModelHandle::Detach() {
  if (!engine_) return nullptr;
  channel_->Close();
  engine_->RemoveClient(client_, Status(Code::kDisposed, "the model was disposed"));
  return std::exchange(engine_, nullptr);
}

Engine& ModelHandle::engine(Napi::Env env) {
  if (!engine_) throw ToError(env, Status(Code::kDisposed, "the model was disposed; load it again"));
  return *engine_;
}

Napi::Value ModelHandle::EncodePrompt(const Napi::CallbackInfo& info) {
  engine(info.Env());
  auto* worker = new EncodeWorker(info.Env(), engine_, ToPieces(info[0]), info[1].ToBoolean());
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

void ModelHandle::Submit(const Napi::CallbackInfo& info) {
  const Napi::Object object = info[0].As<Napi::Object>();
  Request request = ToRequest(object);
  const Napi::Value draft = object.Get("draftModel");
  if (draft.IsObject()) {
    ModelHandle* lender = Napi::ObjectWrap<ModelHandle>::Unwrap(draft.As<Napi::Object>());
    request.draft = lender->engine(info.Env()).draft_source();
  }
  engine(info.Env()).Submit(client_, std::move(request));
}

void ModelHandle::Cancel(const Napi::CallbackInfo& info) {
  if (engine_) engine_->Cancel(client_, static_cast<RequestId>(info[0].ToNumber().DoubleValue()));
}

void ModelHandle::AddCredits(const Napi::CallbackInfo& info) {
  if (!engine_) return;
  engine_->AddCredits(client_, static_cast<RequestId>(info[0].ToNumber().DoubleValue()),
                      info[1].ToNumber().Int64Value());
}

void ModelHandle::SetMemoryBudget(const Napi::CallbackInfo& info) {
  engine(info.Env())
      .SetMemoryBudget(client_, static_cast<RequestId>(info[0].ToNumber().DoubleValue()), ToBudget(info[1]));
}

void ModelHandle::ForkHold(const Napi::CallbackInfo& info) {
  engine(info.Env())
      .ForkHold(client_, static_cast<HoldId>(info[0].ToNumber().DoubleValue()),
                static_cast<HoldId>(info[1].ToNumber().DoubleValue()));
}

void ModelHandle::ReleaseHold(const Napi::CallbackInfo& info) {
  if (engine_) engine_->ReleaseHold(client_, static_cast<HoldId>(info[0].ToNumber().DoubleValue()));
}

void ModelHandle::ExportHold(const Napi::CallbackInfo& info) {
  engine(info.Env())
      .ExportHold(client_, static_cast<RequestId>(info[0].ToNumber().DoubleValue()),
                  static_cast<HoldId>(info[1].ToNumber().DoubleValue()), info[2].ToString().Utf8Value(),
                  ToAdapterKey(info[3]));
}

Napi::Value ModelHandle::OpenSnapshot(const Napi::CallbackInfo& info) {
  engine(info.Env());
  return binding::OpenSnapshot(info, engine_);
}

void ModelHandle::ImportHold(const Napi::CallbackInfo& info) {
  engine(info.Env())
      .ImportHold(client_, static_cast<RequestId>(info[0].ToNumber().DoubleValue()),
                  static_cast<HoldId>(info[1].ToNumber().DoubleValue()), SnapshotOf(info.Env(), info[2]),
                  info[3].ToString().Utf8Value(), ToAdapterKey(info[4]));
}

Napi::Value ModelHandle::LoadAdapter(const Napi::CallbackInfo& info) {
  engine(info.Env());
  auto* worker = new AdapterWorker(info.Env(), engine_, client_, ToAdapterSpec(info[0].As<Napi::Object>()));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

void ModelHandle::ReleaseAdapter(const Napi::CallbackInfo& info) {
  if (engine_) engine_->ReleaseAdapter(client_, static_cast<AdapterId>(info[0].ToNumber().DoubleValue()));
}

void ModelHandle::Ref(const Napi::CallbackInfo& info) { channel_->Ref(info.Env()); }
void ModelHandle::Unref(const Napi::CallbackInfo& info) { channel_->Unref(info.Env()); }

Napi::Value ModelHandle::TokenizeText(const Napi::CallbackInfo& info) {
  return Tokenize(info, *engine(info.Env()).model().tokenizer);
}

Napi::Value ModelHandle::DetokenizeTokens(const Napi::CallbackInfo& info) {
  return Detokenize(info, *engine(info.Env()).model().tokenizer);
}

Napi::Value ModelHandle::Close(const Napi::CallbackInfo& info) {
  auto* worker = new CloseWorker(info.Env(), Detach());
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value ModelHandle::Info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Engine& engine = this->engine(env);
  const ModelFile& model = engine.model();
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", model.name);
  object.Set("path", model.file->file().path());
  object.Set("architecture", model.architecture);
  object.Set("parameters", static_cast<double>(model.parameters));
  object.Set("fileBytes", static_cast<double>(model.file->file().size()));
  object.Set("quantization", model.quantization);
  object.Set("contextLength", engine.context_length());
  object.Set("trainedContextLength", model.spec.context_length);
  object.Set("embeddingLength", model.spec.width);
  object.Set("layers", model.spec.layers);
  object.Set("device", FromDevice(env, engine.device(), engine.threads()));
  std::string problem;
  object.Set("packedCache", PackedCacheName(engine.packed_cache(&problem)));
  object.Set("packedCacheProblem", problem);
  object.Set("chatTemplate", model.chat_template);
  object.Set("tokenizer", DescribeTokenizer(env, *model.tokenizer));
  Napi::Object sampling = Napi::Object::New(env);
  const auto set = [&](const char* key, const auto& value) {
    if (value) sampling.Set(key, static_cast<double>(*value));
  };
  set("temperature", model.sampling.temperature);
  set("topK", model.sampling.top_k);
  set("topP", model.sampling.top_p);
  set("minP", model.sampling.min_p);
  set("repetitionPenalty", model.sampling.repetition_penalty);
  object.Set("sampling", sampling);
  return object;
}

Napi::Value ModelHandle::Stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const EngineStats stats = engine(env).Stats();
  Napi::Object object = Napi::Object::New(env);
  const auto set = [](Napi::Object target, const char* key, auto value) {
    target.Set(key, static_cast<double>(value));
  };
  set(object, "queued", stats.scheduler.queued);
  set(object, "running", stats.scheduler.running);
  set(object, "paused", stats.scheduler.paused);
  set(object, "finished", stats.scheduler.finished);
  set(object, "aborted", stats.scheduler.aborted);
  set(object, "failed", stats.scheduler.failed);
  set(object, "preempted", stats.scheduler.preempted);
  set(object, "promptTokens", stats.scheduler.prompt_tokens);
  set(object, "cachedTokens", stats.scheduler.cached_tokens);
  set(object, "completionTokens", stats.scheduler.completion_tokens);
  set(object, "steps", stats.scheduler.steps);
  object.Set("histograms", FromHistograms(env, stats.scheduler.histograms));
  Napi::Object pages = Napi::Object::New(env);
  set(pages, "size", kPageTokens);
  set(pages, "used", stats.pages_used);
  set(pages, "cached", stats.pages_cached);
  set(pages, "free", stats.pages_free);
  set(pages, "maximum", stats.pages_maximum);
  object.Set("pages", pages);
  Napi::Object prefix = Napi::Object::New(env);
  set(prefix, "lookups", stats.scheduler.prefix.lookups);
  set(prefix, "hits", stats.scheduler.prefix.hits);
  set(prefix, "hitTokens", stats.scheduler.prefix.hit_tokens);
  set(prefix, "evictedPages", stats.pages_evicted);
  object.Set("prefix", prefix);
  Napi::Object draft = Napi::Object::New(env);
  set(draft, "guessedTokens", stats.scheduler.guessed_tokens);
  set(draft, "acceptedTokens", stats.scheduler.right_guesses);
  object.Set("draft", draft);
  Napi::Object bytes = Napi::Object::New(env);
  set(bytes, "weights", stats.weight_bytes);
  set(bytes, "kv", stats.kv_bytes);
  set(bytes, "scratch", stats.scratch_bytes);
  set(bytes, "budget", stats.budget_bytes);
  object.Set("bytes", bytes);
  Napi::Object adapters = Napi::Object::New(env);
  set(adapters, "registered", stats.adapters.registered);
  set(adapters, "loaded", stats.adapters.loaded);
  set(adapters, "bytes", stats.adapters.bytes);
  set(adapters, "budget", stats.adapters.budget_bytes);
  set(adapters, "reloads", stats.adapters.reloads);
  object.Set("adapters", adapters);
  return object;
}

Napi::Value LoadModel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EngineOptions options = ToEngineOptions(info[1].As<Napi::Object>());
  auto channel = std::make_shared<Channel>(env, info[2].As<Napi::Function>(), "tokenmill");
  const auto aborted = std::make_shared<std::atomic<bool>>(false);
  Napi::Object load = Napi::Object::New(env);
  load.Set("promise",
           LoadTask::Start(env, info[0].As<Napi::String>().Utf8Value(), options, channel, aborted));
  load.Set("abort", Napi::Function::New(env, [aborted](const Napi::CallbackInfo&) { aborted->store(true); }));
  return load;
}

}  // namespace tokenmill::binding
