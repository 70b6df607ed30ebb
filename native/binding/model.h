#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

#include "binding/channel.h"
#include "engine/engine.h"

namespace tokenmill::binding {

/// A client of an engine, seen from JavaScript. Its channel carries the engine's events as arrays.
class ModelHandle : public Napi::ObjectWrap<ModelHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Object New(Napi::Env env, std::shared_ptr<Engine> engine, std::shared_ptr<Channel> channel);
  explicit ModelHandle(const Napi::CallbackInfo& info);
  ~ModelHandle() override;

 private:
  Napi::Value Info(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value TokenizeText(const Napi::CallbackInfo& info);
  Napi::Value DetokenizeTokens(const Napi::CallbackInfo& info);
  Napi::Value EncodePrompt(const Napi::CallbackInfo& info);
  void Submit(const Napi::CallbackInfo& info);
  void Cancel(const Napi::CallbackInfo& info);
  void AddCredits(const Napi::CallbackInfo& info);
  void SetMemoryBudget(const Napi::CallbackInfo& info);
  void ForkHold(const Napi::CallbackInfo& info);
  void ReleaseHold(const Napi::CallbackInfo& info);
  void ExportHold(const Napi::CallbackInfo& info);
  Napi::Value OpenSnapshot(const Napi::CallbackInfo& info);
  void ImportHold(const Napi::CallbackInfo& info);
  Napi::Value LoadAdapter(const Napi::CallbackInfo& info);
  void ReleaseAdapter(const Napi::CallbackInfo& info);
  void Ref(const Napi::CallbackInfo& info);
  void Unref(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Engine& engine(Napi::Env env);
  std::shared_ptr<Engine> Detach();
  static void DetachAtExit(void* self);

  Napi::Env env_;
  std::shared_ptr<Engine> engine_;  // null once closed
  std::shared_ptr<Channel> channel_;
  ClientId client_ = 0;
};

/// loadModel(path, options, callback) → { promise, abort() }, with options as lib/native.ts has them. The callback
/// gets (loaded, total) while loading and (events) afterwards.
Napi::Value LoadModel(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
