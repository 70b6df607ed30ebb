#include "binding/inspect.h"

#include <algorithm>

#include "binding/convert.h"
#include "io/gguf.h"

namespace tokenmill::binding {
namespace {

constexpr size_t kHeadElements = 8;

template <class T>
Napi::Value FromArray(Napi::Env env, const std::vector<T>& values) {
  Napi::Array head = Napi::Array::New(env);
  for (size_t i = 0; i < std::min(values.size(), kHeadElements); ++i) {
    if constexpr (std::is_same_v<T, std::string>) {
      head.Set(static_cast<uint32_t>(i), Napi::String::New(env, values[i]));
    } else {
      head.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(values[i])));
    }
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("length", static_cast<double>(values.size()));
  object.Set("head", head);
  return object;
}

Napi::Value FromValue(Napi::Env env, const GgufValue& value) {
  return std::visit(
      [env](const auto& held) -> Napi::Value {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, bool>) {
          return Napi::Boolean::New(env, held);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return Napi::String::New(env, held);
        } else if constexpr (std::is_arithmetic_v<T>) {
          return Napi::Number::New(env, static_cast<double>(held));
        } else if constexpr (std::is_same_v<T, GgufValue::Nested>) {
          Napi::Object object = FromArray(env, std::vector<double>()).template As<Napi::Object>();
          object.Set("length", static_cast<double>(held.length));
          return object;
        } else {
          return FromArray(env, held);
        }
      },
      value.value);
}

std::string TypeName(const GgufValue& value) {
  if (value.type != GgufType::kArray) return GgufTypeName(value.type);
  return std::string("array of ") + GgufTypeName(value.element_type);
}

}  // namespace

Napi::Value InspectGguf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto file = Unwrap(env, GgufFile::Open(info[0].As<Napi::String>().Utf8Value()));
  Napi::Object object = Napi::Object::New(env);
  object.Set("version", file->version());
  object.Set("alignment", file->alignment());
  object.Set("fileBytes", static_cast<double>(file->file().size()));
  Napi::Array metadata = Napi::Array::New(env, file->metadata().size());
  for (uint32_t i = 0; i < file->metadata().size(); ++i) {
    const auto& [key, value] = file->metadata()[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("key", key);
    entry.Set("type", TypeName(value));
    entry.Set("value", FromValue(env, value));
    metadata.Set(i, entry);
  }
  object.Set("metadata", metadata);
  Napi::Array tensors = Napi::Array::New(env, file->tensors().size());
  for (uint32_t i = 0; i < file->tensors().size(); ++i) {
    const GgufTensor& tensor = file->tensors()[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", tensor.name);
    entry.Set("type", InfoOf(tensor.dtype).name);
    Napi::Array shape = Napi::Array::New(env, static_cast<size_t>(tensor.rank));
    for (int d = 0; d < tensor.rank; ++d) {
      shape.Set(static_cast<uint32_t>(d), static_cast<double>(tensor.shape[static_cast<size_t>(d)]));
    }
    entry.Set("shape", shape);
    entry.Set("offset", static_cast<double>(tensor.offset));
    entry.Set("bytes", static_cast<double>(tensor.bytes));
    tensors.Set(i, entry);
  }
  object.Set("tensors", tensors);
  return object;
}

}  // namespace tokenmill::binding
