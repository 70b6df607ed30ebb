// Fuzzes the GGUF header reader over a file in memory. Whatever it accepts must keep the promises of
// io/gguf.h.

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "../native/gguf_writer.h"
#include "../native/memory_file.h"
#include "fuzz.h"
#include "io/gguf.h"
#include "io/text.h"

namespace tokenmill {
namespace {

size_t accepted = 0;
std::map<std::string, size_t> reasons;  // for refusals, less the names and numbers in them

void Require(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

/// A message without what is particular to one file.
std::string ReasonOf(const std::string& message) {
  std::string reason;
  bool quoted = false;
  for (size_t i = 0; i < message.size(); ++i) {
    if (message[i] == '\\') {
      ++i;
    } else if (message[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && !std::isdigit(static_cast<unsigned char>(message[i]))) {
      reason += message[i];
    }
  }
  return reason;
}

void CheckRefusal(const Status& status) {
  Require(status.code() == Code::kCorruptFile || status.code() == Code::kUnsupportedModel ||
              status.code() == Code::kUnsupportedQuantization,
          "a refusal has one of three codes");
  Require(status.message().rfind("memory: ", 0) == 0, "a refusal names the file");
  Require(IsValidUtf8(status.message()), "a message is UTF-8");
  for (const char c : status.message())
    Require(static_cast<unsigned char>(c) >= 0x20, "a message is one line");
  ++reasons[ReasonOf(status.message())];
}

void CheckMetadata(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    Require(IsValidUtf8(key) && !key.empty(), "keys are UTF-8");
    Require(file.Find(key) == &value, "keys are found");
    const bool is_array = std::holds_alternative<GgufValue::Integers>(value.value) ||
                          std::holds_alternative<GgufValue::Floats>(value.value) ||
                          std::holds_alternative<GgufValue::Strings>(value.value);
    Require(is_array == (value.type == GgufType::kArray), "arrays say that they are");
    const bool is_uint = file.GetUint(key).ok();
    const bool is_string = file.GetString(key).ok();
    Require(is_uint + file.GetFloat(key).ok() + file.GetBool(key, false).ok() + is_string +
                    file.GetStrings(key).ok() + file.GetIntegers(key).ok() + file.GetFloats(key).ok() <=
                1,
            "a value has one type");
    Require(!is_array || (!is_uint && !is_string), "arrays are not scalars");
  }
}

void CheckTensors(const GgufFile& file, uint64_t size) {
  const std::vector<GgufTensor>& tensors = file.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = tensors[i];
    Require(IsValidUtf8(tensor.name) && !tensor.name.empty(), "names are UTF-8");
    Require(file.FindTensor(tensor.name) == &tensor, "names are found");
    Require(tensor.rank >= 1 && tensor.rank <= 4, "tensors have 1 to 4 dimensions");
    uint64_t elements = 1;
    for (const uint64_t dimension : tensor.shape) elements *= dimension;
    const DTypeInfo& info = InfoOf(tensor.dtype);
    Require(elements > 0 && tensor.bytes == elements / info.block_elements * info.block_bytes,
            "bytes fit the shape");
    Require(tensor.shape[0] % info.block_elements == 0, "rows are whole blocks");
    Require(tensor.offset <= size && tensor.bytes <= size - tensor.offset, "tensors lie in the file");
    Require(tensor.offset % file.alignment() == 0, "tensors are aligned");
    for (size_t j = 0; j < i; ++j) {
      const GgufTensor& other = tensors[j];
      Require(tensor.offset >= other.offset + other.bytes || other.offset >= tensor.offset + tensor.bytes,
              "tensors do not overlap");
    }
  }
}

GgufWriter ScalarsSeed() {
  GgufWriter writer;
  writer.Add<uint8_t>("a", GgufType::kUint8, 1);
  writer.Add<int16_t>("b", GgufType::kInt16, -1);
  writer.Add<uint32_t>("general.alignment", GgufType::kUint32, 64);
  writer.Add<int64_t>("d", GgufType::kInt64, 1);
  writer.Add<float>("e", GgufType::kFloat32, 1e-5f);
  writer.Add<double>("f", GgufType::kFloat64, 0.5);
  writer.Add<uint8_t>("g", GgufType::kBool, 1);
  writer.AddString("h", "text");
  writer.Add<uint16_t>("split.count", GgufType::kUint16, 1);
  return writer;
}

GgufWriter ArraysSeed() {
  GgufWriter writer;
  writer.version = 2;
  writer.AddStrings("s", {"a", "", "bc"});
  writer.AddArray<int32_t>("i", GgufType::kInt32, {1, 3});
  writer.AddArray<uint64_t>("u", GgufType::kUint64, {1});
  writer.AddArray<uint8_t>("b", GgufType::kBool, {1, 0});
  writer.AddArray<float>("f", GgufType::kFloat32, {1});
  writer.AddArray<double>("d", GgufType::kFloat64, {1});
  return writer;
}

GgufWriter TensorsSeed() {
  GgufWriter writer;
  writer.AddTensor("a", {2, 1, 1, 2}, 0, std::string(16, 'a'));
  writer.AddTensor("b", {32, 2}, 2, std::string(36, 'b'));
  writer.AddTensor("c", {5}, 30, std::string(10, 'c'));
  return writer;
}

}  // namespace
}  // namespace tokenmill

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tokenmill;
  const auto file = std::make_shared<MemoryFile>(std::string(reinterpret_cast<const char*>(data), size));
  const auto gguf = GgufFile::Open(file);
  if (!gguf.ok()) {
    CheckRefusal(gguf.status());
    return 0;
  }
  ++accepted;
  CheckMetadata(*gguf.value());
  CheckTensors(*gguf.value(), size);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  using namespace tokenmill;
  std::string mixed = ScalarsSeed().Bytes().substr(24) + ArraysSeed().Bytes().substr(24);
  return {ScalarsSeed().Bytes(), ArraysSeed().Bytes(), TensorsSeed().Bytes(), GgufWriter().Bytes(), mixed};
}

bool FuzzReport(std::string* line) {
  using namespace tokenmill;
  *line = Format("%zu accepted, %zu kinds of refusal", accepted, reasons.size());
  return accepted > 0 && reasons.size() >= 35;
}
