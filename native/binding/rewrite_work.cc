#include "binding/rewrite_work.h"

#include <atomic>
#include <memory>

#include "binding/channel.h"
#include "binding/convert.h"
#include "core/cpu_features.h"

namespace tokenmill::binding {
namespace {

class RewriteWorker final : public Napi::AsyncWorker {
 public:
  RewriteWorker(Napi::Env env, RewriteWork work, std::shared_ptr<Channel> channel)
      : Napi::AsyncWorker(env),
        work_(std::move(work)),
        channel_(std::move(channel)),
        aborted_(std::make_shared<std::atomic<bool>>(false)),
        deferred_(Napi::Promise::Deferred::New(env)) {
    napi_add_env_cleanup_hook(env, AbortAtExit, this);
  }
  ~RewriteWorker() override { napi_remove_env_cleanup_hook(Env(), AbortAtExit, this); }

  Napi::Promise promise() const { return deferred_.Promise(); }
  std::shared_ptr<std::atomic<bool>> aborted() const { return aborted_; }

  void Execute() override {
    result_ = work_([this](uint64_t done, uint64_t total) {
      Report(done, total);
      return !aborted_->load();
    });
  }

  void OnOK() override {
    channel_->Close();
    if (!result_.ok()) return deferred_.Reject(ToError(Env(), result_.status()).Value());
    const RewriteResult& result = result_.value();
    Napi::Object object = Napi::Object::New(Env());
    object.Set("inputBytes", static_cast<double>(result.input_bytes));
    object.Set("outputBytes", static_cast<double>(result.output_bytes));
    Napi::Array types = Napi::Array::New(Env());
    for (const auto& [type, share] : result.types) {
      Napi::Object entry = Napi::Object::New(Env());
      entry.Set("type", type);
      entry.Set("tensors", share.tensors);
      entry.Set("bytes", static_cast<double>(share.bytes));
      types.Set(types.Length(), entry);
    }
    object.Set("types", types);
    deferred_.Resolve(object);
  }

  void OnError(const Napi::Error& error) override {
    channel_->Close();
    deferred_.Reject(error.Value());
  }

 private:
  static void AbortAtExit(void* self) {
    auto* worker = static_cast<RewriteWorker*>(self);
    worker->aborted_->store(true);
    worker->channel_->Close();
  }

  /// A hundred reports; all come from the worker's thread.
  void Report(uint64_t done, uint64_t total) {
    const int percent = total > 0 ? static_cast<int>(done * 100 / total) : 100;
    if (percent <= reported_) return;
    reported_ = percent;
    channel_->Send([done, total](Napi::Env env, Napi::Function callback) {
      callback.Call({Napi::Number::New(env, static_cast<double>(done)),
                     Napi::Number::New(env, static_cast<double>(total))});
    });
  }

  const RewriteWork work_;
  const std::shared_ptr<Channel> channel_;
  const std::shared_ptr<std::atomic<bool>> aborted_;
  int reported_ = -1;
  Napi::Promise::Deferred deferred_;
  Result<RewriteResult> result_ = Status(Code::kInternal, "not written");
};

}  // namespace

RewriteOptions ToRewriteOptions(const Napi::Object& object) {
  const int threads = static_cast<int>(GetNumber(object, "threads", 0));
  return {GetBool(object, "overwrite", false), threads > 0 ? threads : UsableCores()};
}

FileType ToFileType(Napi::Env env, const std::string& name) {
  const FileType* type = FindFileType(name);
  if (type != nullptr) return *type;
  throw ToError(env, Error(Code::kInvalidArgument, "type is '%s'; expected one of %s", name.c_str(),
                           FileTypeNames().c_str()));
}

Napi::Object StartRewrite(Napi::Env env, Napi::Function on_progress, RewriteWork rewrite) {
  auto channel = std::make_shared<Channel>(env, on_progress, "tokenmill");
  auto* worker = new RewriteWorker(env, std::move(rewrite), channel);
  Napi::Object work = Napi::Object::New(env);
  work.Set("promise", worker->promise());
  work.Set("abort", Napi::Function::New(env, [aborted = worker->aborted()](const Napi::CallbackInfo&) {
             aborted->store(true);
           }));
  worker->Queue();
  return work;
}

}  // namespace tokenmill::binding
