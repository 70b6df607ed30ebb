#include "binding/estimate.h"

#include "binding/convert.h"
#include "binding/engine_options.h"

namespace tokenmill::binding {
namespace {

class EstimateWorker final : public Napi::AsyncWorker {
 public:
  EstimateWorker(Napi::Env env, std::string path, EngineOptions options)
      : Napi::AsyncWorker(env),
        path_(std::move(path)),
        options_(std::move(options)),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override { result_ = EstimateEngine(path_, options_); }

  void OnOK() override {
    if (!result_.ok()) return deferred_.Reject(ToError(Env(), result_.status()).Value());
    const MemoryEstimate& estimate = result_.value();
    Napi::Object object = Napi::Object::New(Env());
    const auto set = [&object](const char* key, auto value) { object.Set(key, static_cast<double>(value)); };
    set("weights", estimate.weights);
    set("kv", estimate.kv);
    set("scratch", estimate.scratch);
    set("total", estimate.total());
    set("contextLength", estimate.context_length);
    set("budget", estimate.budget);
    set("available", estimate.available);
    object.Set("fits", estimate.fits);
    deferred_.Resolve(object);
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  const std::string path_;
  const EngineOptions options_;
  Napi::Promise::Deferred deferred_;
  Result<MemoryEstimate> result_ = Status(Code::kInternal, "not estimated");
};

}  // namespace

Napi::Value EstimateMemory(const Napi::CallbackInfo& info) {
  auto* worker = new EstimateWorker(info.Env(), info[0].As<Napi::String>().Utf8Value(),
                                    ToEngineOptions(info[1].As<Napi::Object>()));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace tokenmill::binding
