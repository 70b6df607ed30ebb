#include <napi.h>

#include "binding/adapter.h"
#include "binding/estimate.h"
#include "binding/inspect.h"
#include "binding/instance.h"
#include "binding/model.h"
#include "binding/quantize.h"
#include "binding/tokenizer.h"
#include "core/status.h"
#include "engine/device.h"

namespace tokenmill::binding {
namespace {

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
  exports.Set("errorCodes", Napi::Function::New<ErrorCodes>(env));
  exports.Set("availableIsas", Napi::Function::New<Isas>(env));
  exports.Set("inspectGguf", Napi::Function::New<InspectGguf>(env));
  exports.Set("openTokenizer", Napi::Function::New<OpenTokenizer>(env));
  exports.Set("makeTokenizer", Napi::Function::New<MakeTokenizer>(env));
  exports.Set("loadModel", Napi::Function::New<LoadModel>(env));
  exports.Set("estimateMemory", Napi::Function::New<EstimateMemory>(env));
  exports.Set("quantizeModel", Napi::Function::New<QuantizeModel>(env));
  exports.Set("readGgufAdapter", Napi::Function::New<ReadGgufAdapterFile>(env));
  exports.Set("mergeAdapter", Napi::Function::New<MergeAdapterInto>(env));
  return exports;
}

}  // namespace
}  // namespace tokenmill::binding

static Napi::Object InitializeAddon(Napi::Env env, Napi::Object exports) {
  return tokenmill::binding::Initialize(env, exports);
}

NODE_API_MODULE(tokenmill, InitializeAddon)
