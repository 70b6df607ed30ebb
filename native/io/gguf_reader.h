#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/header_cursor.h"

namespace tokenmill {

/// Reads one GGUF header. Nothing is allocated for a count or length before it is known to fit in the file,
/// and nothing that the file states is used before it is checked.
class GgufReader {
 public:
  static Result<std::shared_ptr<const GgufFile>> Read(std::shared_ptr<const File> file);

 private:
  // The shortest records: a key or name of one byte, one dimension.
  static constexpr uint64_t kMetadataBytesMin = 8 + 1 + 4 + 1;
  static constexpr uint64_t kTensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

  static constexpr char kFetchAgain[] = "the file is incomplete or damaged: fetch it again";

  explicit GgufReader(std::shared_ptr<const File> file);

  Status ReadHeader();
  Status ReadMagic();
  Status ReadVersion();
  Status ReadCounts();

  Status ReadMetadata();
  Status ReadKey(std::string* key);
  Status ReadValue(const std::string& key, GgufValue* value);
  Status ReadBool(const std::string& key, bool* value);
  Status ReadText(const std::string& key, std::string* text);
  Status ReadArray(const std::string& key, GgufValue* value);
  Status ReadArrayHead(const std::string& key, GgufType* element_type, uint64_t* count);
  Status SkipArray(const std::string& key, GgufType element_type, uint64_t count, int depth);
  Status ReadElements(const std::string& key, GgufType element_type, uint64_t count, GgufValue* value);
  Status ReadStrings(const std::string& key, uint64_t count, GgufValue* value);
  Status ReadBools(const std::string& key, uint64_t count, GgufValue* value);
  Status ReadUint64s(const std::string& key, uint64_t count, GgufValue* value);
  template <class Stored, class Element>
  Status ReadNumbers(uint64_t count, GgufValue* value);
  Status TakeAlignment();
  Status RefuseSplit() const;

  Status ReadTensors();
  Status ReadTensor(GgufTensor* tensor);
  Status ReadTensorName(std::string* name);
  Status ReadTensorShape(GgufTensor* tensor);
  Status ReadTensorType(GgufTensor* tensor);
  Status MeasureTensor(GgufTensor* tensor);
  Status PlaceTensors();
  Status RefuseOverlaps() const;

  /// CorruptFile: the path, `what`, and the byte in the file that it is about.
  Status Corrupt(uint64_t position, const std::string& what) const;

  std::shared_ptr<GgufFile> gguf_;
  HeaderCursor cursor_;
  uint64_t metadata_count_ = 0;
  uint64_t tensor_count_ = 0;
  std::vector<uint64_t> tensor_positions_;  // in the file, of each tensor's record
};

}  // namespace tokenmill
