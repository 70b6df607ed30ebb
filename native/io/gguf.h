#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "core/status.h"
#include "io/file.h"

namespace tokenmill {

/// Metadata element types, with the numbers of the GGUF specification.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

const char* GgufTypeName(GgufType type);

/// A metadata value. Integers of every width are widened to int64 or uint64, floats to double. Arrays hold
/// one element type; of arrays of arrays, which no model needs, only the length is kept.
struct GgufValue {
  using Integers = std::vector<int64_t>;
  using Floats = std::vector<float>;   // FLOAT64 arrays are narrowed
  using Strings = std::vector<std::string>;
  struct Nested {
    uint64_t length;
  };

  GgufType type;          // as stored; kArray for arrays
  GgufType element_type;  // of an array; equal to `type` otherwise
  std::variant<int64_t, uint64_t, double, bool, std::string, Integers, Floats, Strings, Nested> value;
};

/// Where a record is in the file.
struct GgufSpan {
  uint64_t offset;
  uint64_t bytes;
};

struct GgufTensor {
  std::string name;
  DType dtype;
  int rank;                          // 1 to 4
  std::array<uint64_t, 4> shape;     // shape[0] is the contiguous dimension (columns); unused ones are 1
  uint64_t offset;                   // absolute, in the file; offset + bytes <= file size
  uint64_t bytes;
};

/// The header of a GGUF file (versions 2 and 3, little-endian), read and checked against the file's size with
/// overflow-safe arithmetic. Immutable and safe to share between threads once opened.
class GgufFile {
 public:
  /// ModelNotFound, or CorruptFile with the reason and the offset. UnsupportedModel for what is sound but not
  /// read here: split files, big-endian files, other versions of the format.
  static Result<std::shared_ptr<const GgufFile>> Open(const std::string& path);
  static Result<std::shared_ptr<const GgufFile>> Open(std::shared_ptr<const File> file);

  const File& file() const { return *file_; }
  uint32_t version() const { return version_; }
  uint32_t alignment() const { return alignment_; }

  /// Metadata in file order.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }
  /// Key, type and value of metadata()[i] as stored.
  const GgufSpan& metadata_span(size_t i) const { return metadata_spans_[i]; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  /// The same without the arrays of its metadata, which a vocabulary makes large.
  std::shared_ptr<const GgufFile> WithoutArrays() const;

  const GgufValue* Find(std::string_view key) const;
  const GgufTensor* FindTensor(std::string_view name) const;

  /// Typed access. Absent or of another type: CorruptFile naming the key, what was found and what was
  /// expected; the overloads with a fallback return it only when the key is absent.
  Result<uint64_t> GetUint(std::string_view key) const;  // any integer type, not negative
  Result<uint64_t> GetUint(std::string_view key, uint64_t fallback) const;
  Result<double> GetFloat(std::string_view key) const;  // any float type; must be finite
  Result<double> GetFloat(std::string_view key, double fallback) const;
  Result<bool> GetBool(std::string_view key, bool fallback) const;
  Result<std::string> GetString(std::string_view key) const;
  Result<std::string> GetString(std::string_view key, std::string fallback) const;
  Result<const GgufValue::Strings*> GetStrings(std::string_view key) const;
  Result<const GgufValue::Integers*> GetIntegers(std::string_view key) const;
  Result<const GgufValue::Floats*> GetFloats(std::string_view key) const;

 private:
  std::shared_ptr<const File> file_;
  uint32_t version_ = 0;
  uint32_t alignment_ = 32;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufSpan> metadata_spans_;
  std::vector<GgufTensor> tensors_;
  // Trees: names from a hostile file can make a hash table quadratic.
  std::map<std::string, size_t, std::less<>> metadata_index_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
  friend class GgufReader;
};

}  // namespace tokenmill
