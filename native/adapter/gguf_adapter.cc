#include "adapter/gguf_adapter.h"

#include <cmath>
#include <string_view>

namespace tokenmill {
namespace {

constexpr std::string_view kASuffix = ".lora_a", kBSuffix = ".lora_b";

Status Expect(const GgufFile& file, const char* key, const char* expected) {
  TM_ASSIGN_OR_RETURN(const std::string found, file.GetString(key, ""));
  if (found == expected) return {};
  return Error(Code::kUnsupportedModel, "%s is no LoRA adapter: '%s' is \"%.40s\"; expected \"%s\"",
               file.file().path().c_str(), key, found.c_str(), expected);
}

Result<StoredFactor> FactorOf(const GgufTensor& tensor) {
  if (tensor.rank != 2) {
    return Error(Code::kUnsupportedModel, "tensor '%s' has %d dimensions; an adapter's factors are matrices",
                 tensor.name.c_str(), tensor.rank);
  }
  if (!InfoOf(tensor.dtype).runs) {
    return Error(Code::kUnsupportedQuantization,
                 "tensor '%s' has type %s, which cannot be read; convert the adapter to F16",
                 tensor.name.c_str(), InfoOf(tensor.dtype).name);
  }
  return StoredFactor{tensor.name,
                      tensor.dtype,
                      static_cast<int64_t>(tensor.shape[1]),
                      static_cast<int64_t>(tensor.shape[0]),
                      tensor.offset,
                      tensor.bytes};
}

Status RefuseTensor(const GgufTensor& tensor) {
  const bool norm = tensor.name.ends_with("_norm.weight");
  return Error(Code::kUnsupportedModel, "tensor '%s' of the adapter %s", tensor.name.c_str(),
               norm ? "replaces a norm, which adapters here cannot; convert it without"
                    : "is neither a lora_a nor a lora_b");
}

/// The entry whose lora_a this is, with its lora_b.
Result<AdapterEntry> EntryOf(const GgufFile& file, const GgufTensor& a, double alpha) {
  AdapterEntry entry;
  entry.target = a.name.substr(0, a.name.size() - kASuffix.size());
  const GgufTensor* b = file.FindTensor(entry.target + std::string(kBSuffix));
  if (b == nullptr) {
    return Error(Code::kCorruptFile, "tensor '%s' of the adapter has no lora_b beside it", a.name.c_str());
  }
  TM_ASSIGN_OR_RETURN(entry.a, FactorOf(a));
  TM_ASSIGN_OR_RETURN(entry.b, FactorOf(*b));
  // Without an alpha the field takes factors as they are.
  if (alpha != 0 && entry.a.rows > 0) {
    entry.scale = static_cast<float>(alpha / static_cast<double>(entry.a.rows));
  }
  return entry;
}

}  // namespace

Result<AdapterSpec> ReadGgufAdapter(const GgufFile& file) {
  TM_RETURN_IF_ERROR(Expect(file, "general.type", "adapter"));
  TM_RETURN_IF_ERROR(Expect(file, "adapter.type", "lora"));
  if (file.Find("adapter.alora.invocation_tokens") != nullptr) {
    return Error(
        Code::kUnsupportedModel,
        "%s has 'adapter.alora.invocation_tokens': it acts behind certain tokens alone (aLoRA), which "
        "cannot run",
        file.file().path().c_str());
  }
  TM_ASSIGN_OR_RETURN(const double alpha, file.GetFloat("adapter.lora.alpha", 0));
  AdapterSpec spec;
  spec.path = file.file().path();
  spec.file_bytes = file.file().size();
  TM_ASSIGN_OR_RETURN(spec.architecture, file.GetString("general.architecture", ""));
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(kASuffix)) {
      TM_ASSIGN_OR_RETURN(AdapterEntry entry, EntryOf(file, tensor, alpha));
      spec.entries.push_back(std::move(entry));
      continue;
    }
    if (!tensor.name.ends_with(kBSuffix)) return RefuseTensor(tensor);
    const std::string target = tensor.name.substr(0, tensor.name.size() - kBSuffix.size());
    if (file.FindTensor(target + std::string(kASuffix)) == nullptr) {
      return Error(Code::kCorruptFile, "tensor '%s' of the adapter has no lora_a beside it",
                   tensor.name.c_str());
    }
  }
  if (spec.entries.empty()) return Error(Code::kCorruptFile, "%s has no factors", spec.path.c_str());
  return spec;
}

}  // namespace tokenmill
