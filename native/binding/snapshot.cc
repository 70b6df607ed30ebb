#include "binding/snapshot.h"

#include <new>

#include "binding/convert.h"

namespace tokenmill::binding {
namespace {

constexpr napi_type_tag kSnapshotTag = {0x5d4e7c1fb1c04a6eu, 0x9a2f6d3085e7c412u};

class OpenWorker final : public Napi::AsyncWorker {
 public:
  OpenWorker(Napi::Env env, std::shared_ptr<Engine> engine, const Napi::Uint8Array& bytes)
      : Napi::AsyncWorker(env),
        engine_(std::move(engine)),
        bytes_(reinterpret_cast<const std::byte*>(bytes.Data()),
               reinterpret_cast<const std::byte*>(bytes.Data()) + bytes.ByteLength()),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    result_ = Open();
    engine_.reset();
  }

  void OnOK() override {
    const Napi::Env env = Env();
    if (!result_.ok()) return deferred_.Reject(ToError(env, result_.status()).Value());
    using Owner = std::shared_ptr<const Snapshot>;
    auto owner = std::make_unique<Owner>(result_.value());
    Napi::Object object = Napi::Object::New(env);
    const std::string_view state = result_.value()->state();
    object.Set("state", Napi::String::New(env, state.data(), state.size()));
    Napi::External<Owner> pages =
        Napi::External<Owner>::New(env, owner.get(), [](Napi::Env, Owner* held) { delete held; });
    owner.release();
    pages.TypeTag(&kSnapshotTag);
    object.Set("pages", pages);
    deferred_.Resolve(object);
  }

 private:
  Result<std::shared_ptr<const Snapshot>> Open() {
    try {
      TM_ASSIGN_OR_RETURN(const SnapshotIdentity identity, engine_->IdentifySnapshots());
      return Snapshot::Open(std::move(bytes_), identity, engine_->model().tokenizer->vocabulary_size());
    } catch (const std::bad_alloc&) {
      return Error(Code::kOutOfMemory, "the system refused memory to read a snapshot");
    }
  }

  std::shared_ptr<Engine> engine_;
  std::vector<std::byte> bytes_;  // copied in the call: the original can change, or go, meanwhile
  Napi::Promise::Deferred deferred_;
  Result<std::shared_ptr<const Snapshot>> result_ = Status(Code::kInternal, "not opened");
};

}  // namespace

Napi::Value OpenSnapshot(const Napi::CallbackInfo& info, std::shared_ptr<Engine> engine) {
  try {
    auto* worker = new OpenWorker(info.Env(), std::move(engine), info[0].As<Napi::Uint8Array>());
    const Napi::Promise promise = worker->promise();
    worker->Queue();
    return promise;
  } catch (const std::bad_alloc&) {
    throw ToError(info.Env(), Status(Code::kOutOfMemory, "the system refused memory to read a snapshot"));
  }
}

std::shared_ptr<const Snapshot> SnapshotOf(Napi::Env env, const Napi::Value& pages) {
  const auto external = pages.As<Napi::External<std::shared_ptr<const Snapshot>>>();
  if (!pages.IsExternal() || !external.CheckTypeTag(&kSnapshotTag))
    throw ToError(env, Status(Code::kInvalidArgument, "these are no pages of a snapshot"));
  return *external.Data();
}

}  // namespace tokenmill::binding
