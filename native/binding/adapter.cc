#include "binding/adapter.h"

#include "adapter/gguf_adapter.h"
#include "adapter/merge.h"
#include "binding/convert.h"
#include "binding/rewrite_work.h"

namespace tokenmill::binding {
namespace {

/// A number that TypeScript has checked to be a whole one.
uint64_t GetUint(const Napi::Object& object, const char* key) {
  const double value = GetNumber(object, key, 0);
  return value >= 0 && value <= 9007199254740991.0 ? static_cast<uint64_t>(value) : 0;
}

StoredFactor ToFactor(const Napi::Object& object) {
  const Napi::Env env = object.Env();
  StoredFactor factor;
  factor.tensor = GetString(object, "tensor", "");
  const std::string type = GetString(object, "dtype", "");
  const DTypeInfo* info = FindDType(type);
  if (info == nullptr) {
    throw ToError(env, Error(Code::kUnsupportedQuantization, "tensor '%s' has an unknown type '%s'",
                             factor.tensor.c_str(), type.c_str()));
  }
  factor.dtype = info->dtype;
  factor.rows = static_cast<int64_t>(GetUint(object, "rows"));
  factor.cols = static_cast<int64_t>(GetUint(object, "cols"));
  factor.offset = GetUint(object, "offset");
  factor.bytes = GetUint(object, "bytes");
  return factor;
}

Napi::Object FromFactor(Napi::Env env, const StoredFactor& factor) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("tensor", factor.tensor);
  object.Set("dtype", InfoOf(factor.dtype).name);
  object.Set("rows", static_cast<double>(factor.rows));
  object.Set("cols", static_cast<double>(factor.cols));
  object.Set("offset", static_cast<double>(factor.offset));
  object.Set("bytes", static_cast<double>(factor.bytes));
  return object;
}

Napi::Object FromSpec(Napi::Env env, const AdapterSpec& spec) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("path", spec.path);
  object.Set("fileBytes", static_cast<double>(spec.file_bytes));
  object.Set("names", spec.names == TargetNames::kModules ? "modules" : "tensors");
  object.Set("architecture", spec.architecture);
  Napi::Array entries = Napi::Array::New(env, spec.entries.size());
  for (uint32_t i = 0; i < spec.entries.size(); ++i) {
    const AdapterEntry& entry = spec.entries[i];
    Napi::Object item = Napi::Object::New(env);
    item.Set("target", entry.target);
    item.Set("scale", static_cast<double>(entry.scale));
    item.Set("a", FromFactor(env, entry.a));
    item.Set("b", FromFactor(env, entry.b));
    entries.Set(i, item);
  }
  object.Set("entries", entries);
  return object;
}

}  // namespace

AdapterSpec ToAdapterSpec(const Napi::Object& object) {
  AdapterSpec spec;
  spec.path = GetString(object, "path", "");
  spec.file_bytes = GetUint(object, "fileBytes");
  spec.names = GetString(object, "names", "") == "modules" ? TargetNames::kModules : TargetNames::kTensors;
  spec.architecture = GetString(object, "architecture", "");
  const Napi::Array entries = object.Get("entries").As<Napi::Array>();
  for (uint32_t i = 0; i < entries.Length(); ++i) {
    const Napi::Object entry = entries.Get(i).As<Napi::Object>();
    spec.entries.push_back({GetString(entry, "target", ""), static_cast<float>(GetNumber(entry, "scale", 1)),
                            ToFactor(entry.Get("a").As<Napi::Object>()),
                            ToFactor(entry.Get("b").As<Napi::Object>())});
  }
  return spec;
}

Napi::Value ReadGgufAdapterFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto file = Unwrap(env, GgufFile::Open(info[0].As<Napi::String>().Utf8Value()));
  const AdapterSpec spec = Unwrap(env, ReadGgufAdapter(*file));
  Napi::Object object = Napi::Object::New(env);
  object.Set("spec", FromSpec(env, spec));
  object.Set("name", Unwrap(env, file->GetString("general.name", "")));
  object.Set("baseModel", Unwrap(env, file->GetString("general.base_model.0.name", "")));
  object.Set("alpha", Unwrap(env, file->GetFloat("adapter.lora.alpha", 0)));
  return object;
}

Napi::Value MergeAdapterInto(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object given = info[3].As<Napi::Object>();
  MergeOptions options;
  options.scale = static_cast<float>(GetNumber(given, "scale", 1));
  const std::string type = GetString(given, "type", "");
  if (!type.empty()) options.type = ToFileType(env, type);
  options.rewrite = ToRewriteOptions(given);
  return StartRewrite(
      env, info[4].As<Napi::Function>(),
      [input = info[0].As<Napi::String>().Utf8Value(), spec = ToAdapterSpec(info[1].As<Napi::Object>()),
       output = info[2].As<Napi::String>().Utf8Value(), options](const RewriteProgress& on_progress) {
        return MergeAdapter(input, spec, output, options, on_progress);
      });
}

}  // namespace tokenmill::binding
