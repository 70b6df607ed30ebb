#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/gguf.h"

namespace tokenmill {

/// Builds the bytes of a GGUF file in memory. Checks nothing, so that it can write bad files too.
class GgufWriter {
 public:
  uint32_t version = 3;
  uint32_t alignment = 32;  // add general.alignment yourself when it is another

  template <class T>
  void Add(std::string_view key, GgufType type, T value) {
    BeginKey(key, type);
    Put(&metadata_, value);
  }

  /// `bytes` are what follows the type.
  void AddRaw(std::string_view key, GgufType type, std::string_view bytes) {
    BeginKey(key, type);
    metadata_.append(bytes);
  }

  void AddString(std::string_view key, std::string_view text) {
    BeginKey(key, GgufType::kString);
    PutString(&metadata_, text);
  }

  template <class T>
  void AddArray(std::string_view key, GgufType element_type, const std::vector<T>& values) {
    BeginArray(key, element_type, values.size());
    for (const T value : values) Put(&metadata_, value);
  }

  void AddStrings(std::string_view key, const std::vector<std::string>& texts) {
    BeginArray(key, GgufType::kString, texts.size());
    for (const std::string& text : texts) PutString(&metadata_, text);
  }

  /// The tensor's data follow those of the one before, aligned.
  void AddTensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                 std::string_view data) {
    PutString(&tensors_, name);
    Put(&tensors_, static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) Put(&tensors_, size);
    Put(&tensors_, type);
    Align(&data_);
    Put(&tensors_, static_cast<uint64_t>(data_.size()));
    data_.append(data);
    ++tensor_count_;
  }

  std::string Bytes() const {
    std::string bytes = "GGUF";
    Put(&bytes, version);
    Put(&bytes, tensor_count_);
    Put(&bytes, metadata_count_);
    bytes += metadata_ + tensors_;
    if (!data_.empty()) Align(&bytes);
    return bytes + data_;
  }

 private:
  template <class T>
  static void Put(std::string* out, T value) {
    out->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  static void PutString(std::string* out, std::string_view text) {
    Put(out, static_cast<uint64_t>(text.size()));
    out->append(text);
  }

  void BeginKey(std::string_view key, GgufType type) {
    PutString(&metadata_, key);
    Put(&metadata_, static_cast<uint32_t>(type));
    ++metadata_count_;
  }

  void BeginArray(std::string_view key, GgufType element_type, size_t count) {
    BeginKey(key, GgufType::kArray);
    Put(&metadata_, static_cast<uint32_t>(element_type));
    Put(&metadata_, static_cast<uint64_t>(count));
  }

  void Align(std::string* out) const { out->resize((out->size() + alignment - 1) / alignment * alignment); }

  std::string metadata_, tensors_, data_;
  uint64_t metadata_count_ = 0, tensor_count_ = 0;
};

}  // namespace tokenmill
