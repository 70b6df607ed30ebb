#include "binding/engine_options.h"

#include "binding/convert.h"

namespace tokenmill::binding {

MemoryBudget ToBudget(const Napi::Value& value) {
  MemoryBudget budget;
  if (!value.IsObject()) return budget;
  const Napi::Object given = value.As<Napi::Object>();
  budget.bytes = static_cast<uint64_t>(GetNumber(given, "bytes", 0));
  budget.share = GetNumber(given, "share", budget.share);
  return budget;
}

EngineOptions ToEngineOptions(const Napi::Object& given) {
  EngineOptions options;
  const std::string device = GetString(given, "device", "cpu");
  if (device == "auto") options.device.kind = DeviceOptions::Kind::kAuto;
  if (device == "cuda") options.device.kind = DeviceOptions::Kind::kCuda;
  options.device.index = static_cast<int>(GetNumber(given, "deviceIndex", -1));
  options.device.library = GetString(given, "deviceLibrary", "");
  options.context_length = static_cast<int>(GetNumber(given, "contextLength", 0));
  options.threads = static_cast<int>(GetNumber(given, "threads", 0));
  options.budget = ToBudget(given.Get("budget"));
  options.max_rows = static_cast<int>(GetNumber(given, "maxRows", 0));
  options.max_queue = static_cast<int>(GetNumber(given, "maxQueue", 0));
  options.target_tpot_ms = GetNumber(given, "targetTpot", 0);
  options.high_precision = GetBool(given, "highPrecision", false);
  const std::string quantize = GetString(given, "quantize", "");
  if (quantize == "int8") options.quantization = LoadQuantization::kInt8;
  if (quantize == "int4") options.quantization = LoadQuantization::kInt4;
  options.kv_type = GetBool(given, "kvInt8", false) ? KvType::kInt8 : KvType::kF16;
  options.prefix_cache = GetBool(given, "prefixCache", true);
  options.prefix_cache_bytes = static_cast<uint64_t>(GetNumber(given, "prefixCacheBytes", 0));
  options.adapter_bytes = static_cast<uint64_t>(GetNumber(given, "adapterBytes", 0));
  if (given.Has("packedFolder")) options.packed.folder = given.Get("packedFolder").As<Napi::String>();
  options.packed.limit_bytes = static_cast<uint64_t>(GetNumber(given, "packedLimit", 0));
  return options;
}

}  // namespace tokenmill::binding
