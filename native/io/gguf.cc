#include "io/gguf.h"

#include <cinttypes>
#include <cmath>
#include <new>

#include "io/gguf_reader.h"
#include "io/text.h"

namespace tokenmill {
namespace {

std::string WithArticle(const char* name) { return std::string(*name == 'i' ? "an " : "a ") + name; }

std::string TypeText(const GgufValue& value) {
  if (value.type != GgufType::kArray) return WithArticle(GgufTypeName(value.type));
  return std::string("an array of ") + GgufTypeName(value.element_type);
}

Status Absent(const GgufFile& file, std::string_view key, const char* expected) {
  return Error(Code::kCorruptFile, "%s: metadata %s is absent; expected %s", file.file().path().c_str(),
               Quoted(key).c_str(), expected);
}

Status Mistyped(const GgufFile& file, std::string_view key, const std::string& found, const char* expected) {
  return Error(Code::kCorruptFile, "%s: metadata %s is %s; expected %s", file.file().path().c_str(),
               Quoted(key).c_str(), found.c_str(), expected);
}

Result<uint64_t> AsUint(const GgufFile& file, std::string_view key, const GgufValue& value) {
  static constexpr char kExpected[] = "an integer that is not negative";
  if (const uint64_t* integer = std::get_if<uint64_t>(&value.value)) return *integer;
  const int64_t* integer = std::get_if<int64_t>(&value.value);
  if (integer == nullptr) return Mistyped(file, key, TypeText(value), kExpected);
  if (*integer < 0) return Mistyped(file, key, Format("%" PRId64, *integer), kExpected);
  return static_cast<uint64_t>(*integer);
}

Result<double> AsFloat(const GgufFile& file, std::string_view key, const GgufValue& value) {
  static constexpr char kExpected[] = "a finite float";
  const double* number = std::get_if<double>(&value.value);
  if (number == nullptr) return Mistyped(file, key, TypeText(value), kExpected);
  if (!std::isfinite(*number)) return Mistyped(file, key, Format("%g", *number), kExpected);
  return *number;
}

Result<bool> AsBool(const GgufFile& file, std::string_view key, const GgufValue& value) {
  if (const bool* flag = std::get_if<bool>(&value.value)) return *flag;
  return Mistyped(file, key, TypeText(value), "a bool");
}

Result<std::string> AsString(const GgufFile& file, std::string_view key, const GgufValue& value) {
  if (const std::string* text = std::get_if<std::string>(&value.value)) return *text;
  return Mistyped(file, key, TypeText(value), "a string");
}

template <class Array>
Result<const Array*> GetArray(const GgufFile& file, std::string_view key, const char* expected) {
  const GgufValue* value = file.Find(key);
  if (value == nullptr) return Absent(file, key, expected);
  if (const Array* array = std::get_if<Array>(&value->value)) return array;
  return Mistyped(file, key, TypeText(*value), expected);
}

}  // namespace

const char* GgufTypeName(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return "uint8";
    case GgufType::kInt8:
      return "int8";
    case GgufType::kUint16:
      return "uint16";
    case GgufType::kInt16:
      return "int16";
    case GgufType::kUint32:
      return "uint32";
    case GgufType::kInt32:
      return "int32";
    case GgufType::kFloat32:
      return "float32";
    case GgufType::kBool:
      return "bool";
    case GgufType::kString:
      return "string";
    case GgufType::kArray:
      return "array";
    case GgufType::kUint64:
      return "uint64";
    case GgufType::kInt64:
      return "int64";
    case GgufType::kFloat64:
      return "float64";
  }
  return "unknown";
}

Result<std::shared_ptr<const GgufFile>> GgufFile::Open(const std::string& path) {
  TM_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::Open(path));
  return Open(std::move(file));
}

Result<std::shared_ptr<const GgufFile>> GgufFile::Open(std::shared_ptr<const File> file) {
  const std::string path = file->path();
  try {
    return GgufReader::Read(std::move(file));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "%s: not enough memory to read the file's header", path.c_str());
  }
}

std::shared_ptr<const GgufFile> GgufFile::WithoutArrays() const {
  auto copy = std::make_shared<GgufFile>();
  copy->file_ = file_;
  copy->version_ = version_;
  copy->alignment_ = alignment_;
  for (size_t i = 0; i < metadata_.size(); ++i) {
    if (metadata_[i].second.type == GgufType::kArray) continue;
    copy->metadata_index_.emplace(metadata_[i].first, copy->metadata_.size());
    copy->metadata_.push_back(metadata_[i]);
    copy->metadata_spans_.push_back(metadata_spans_[i]);
  }
  copy->tensors_ = tensors_;
  copy->tensor_index_ = tensor_index_;
  return copy;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = metadata_index_.find(key);
  return found == metadata_index_.end() ? nullptr : &metadata_[found->second].second;
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<uint64_t> GgufFile::GetUint(std::string_view key) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsUint(*this, key, *value) : Absent(*this, key, "an integer");
}

Result<uint64_t> GgufFile::GetUint(std::string_view key, uint64_t fallback) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsUint(*this, key, *value) : fallback;
}

Result<double> GgufFile::GetFloat(std::string_view key) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsFloat(*this, key, *value) : Absent(*this, key, "a float");
}

Result<double> GgufFile::GetFloat(std::string_view key, double fallback) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsFloat(*this, key, *value) : fallback;
}

Result<bool> GgufFile::GetBool(std::string_view key, bool fallback) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsBool(*this, key, *value) : fallback;
}

Result<std::string> GgufFile::GetString(std::string_view key) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsString(*this, key, *value) : Absent(*this, key, "a string");
}

Result<std::string> GgufFile::GetString(std::string_view key, std::string fallback) const {
  const GgufValue* value = Find(key);
  return value != nullptr ? AsString(*this, key, *value) : fallback;
}

Result<const GgufValue::Strings*> GgufFile::GetStrings(std::string_view key) const {
  return GetArray<GgufValue::Strings>(*this, key, "an array of strings");
}

Result<const GgufValue::Integers*> GgufFile::GetIntegers(std::string_view key) const {
  return GetArray<GgufValue::Integers>(*this, key, "an array of integers");
}

Result<const GgufValue::Floats*> GgufFile::GetFloats(std::string_view key) const {
  return GetArray<GgufValue::Floats>(*this, key, "an array of floats");
}

}  // namespace tokenmill
