#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

namespace tokenmill::binding {

/// A way from native threads to one JavaScript function. It does not keep the process alive unless ref'ed.
/// Close belongs to the JavaScript thread and comes before the environment's end; sends after it are dropped.
class Channel {
 public:
  using Message = std::function<void(Napi::Env, Napi::Function)>;

  Channel(Napi::Env env, Napi::Function callback, const char* name)
      : function_(Function::New(env, callback, name, 0, 1)) {
    function_.Unref(env);
  }

  /// From any thread; never blocks.
  void Send(Message message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    auto owned = std::make_unique<Message>(std::move(message));
    if (function_.NonBlockingCall(owned.get()) == napi_ok) owned.release();
  }

  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    closed_ = true;
    function_.Release();
  }

  void Ref(Napi::Env env) {
    if (!closed_) function_.Ref(env);
  }
  void Unref(Napi::Env env) {
    if (!closed_) function_.Unref(env);
  }

 private:
  // Also called, without an environment, for what waits when that ends.
  static void Run(Napi::Env env, Napi::Function callback, std::nullptr_t*, Message* owned) {
    const std::unique_ptr<Message> message(owned);
    if (env == nullptr) return;
    try {
      (*message)(env, callback);
    } catch (const Napi::Error& error) {
      error.ThrowAsJavaScriptException();  // the callback's own: an uncaughtException of the caller
    }
  }
  using Function = Napi::TypedThreadSafeFunction<std::nullptr_t, Message, Run>;

  std::mutex mutex_;
  bool closed_ = false;
  Function function_;
};

}  // namespace tokenmill::binding
