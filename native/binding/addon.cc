#include <napi.h>

#include "binding/inspect.h"
#include "binding/instance.h"
#include "binding/model.h"
#include "binding/tokenizer.h"
#include "core/status.h"
#include "engine/device.h"

namespace tokenmill::binding {
namespace {

// A C++ exception must not cross into Node: whatever escapes (in practice only want of memory) becomes a
// JavaScript error.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value Guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& exception) {
    throw Napi::Error::New(info.Env(), exception.what());
  }
}

Napi::Value ErrorCodes(const Napi::CallbackInfo& info) {
  Napi::Array codes = Napi::Array::New(info.Env());
#define TM_ERROR_CODE(name) codes.Set(codes.Length(), #name);
#include "core/error_codes.def"
#undef TM_ERROR_CODE
  return codes;
}

Napi::Value Isas(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const CpuIsa isa : AvailableIsas()) names.Set(names.Length(), IsaName(isa));
  return names;
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance();
  env.SetInstanceData(instance);
  instance->tokenizer_class = Napi::Persistent(TokenizerHandle::Define(env));
  instance->model_class = Napi::Persistent(ModelHandle::Define(env));
  exports.Set("errorCodes", Napi::Function::New<Guarded<ErrorCodes>>(env));
  exports.Set("availableIsas", Napi::Function::New<Guarded<Isas>>(env));
  exports.Set("inspectGguf", Napi::Function::New<Guarded<InspectGguf>>(env));
  exports.Set("openTokenizer", Napi::Function::New<Guarded<OpenTokenizer>>(env));
  exports.Set("makeTokenizer", Napi::Function::New<Guarded<MakeTokenizer>>(env));
  exports.Set("loadModel", Napi::Function::New<Guarded<LoadModel>>(env));
  return exports;
}

}  // namespace
}  // namespace tokenmill::binding

static Napi::Object InitializeAddon(Napi::Env env, Napi::Object exports) {
  return tokenmill::binding::Initialize(env, exports);
}

NODE_API_MODULE(tokenmill, InitializeAddon)
