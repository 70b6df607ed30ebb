#include <algorithm>
#include <bit>
#include <cinttypes>
#include <iterator>
#include <type_traits>

#include "io/gguf_reader.h"
#include "io/text.h"

namespace tokenmill {
namespace {

constexpr uint64_t kKeyBytesMax = 65'535;
constexpr uint64_t kAlignmentMin = 8;
constexpr uint64_t kAlignmentMax = 65'536;
constexpr uint64_t kArrayHeadBytes = 4 + 8;
constexpr int kArrayDepthMax = 8;

/// Bytes of a value in the file; of a string, those of its length. 0 for arrays and unknown types.
uint64_t StoredBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kString:
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

}  // namespace

Status GgufReader::ReadMetadata() {
  gguf_->metadata_.reserve(static_cast<size_t>(metadata_count_));
  for (uint64_t i = 0; i < metadata_count_; ++i) {
    const uint64_t position = cursor_.position();
    std::string key;
    GgufValue value;
    TM_RETURN_IF_ERROR(ReadKey(&key));
    if (!gguf_->metadata_index_.emplace(key, gguf_->metadata_.size()).second) {
      return Corrupt(position, Format("metadata key %s is there twice", Quoted(key).c_str()));
    }
    TM_RETURN_IF_ERROR(ReadValue(key, &value));
    gguf_->metadata_.emplace_back(std::move(key), std::move(value));
    gguf_->metadata_spans_.push_back({position, cursor_.position() - position});
  }
  return Status();
}

Status GgufReader::ReadKey(std::string* key) {
  const uint64_t position = cursor_.position();
  uint64_t bytes;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&bytes));
  if (bytes == 0) return Corrupt(position, "a metadata key is empty");
  if (bytes > kKeyBytesMax) {
    return Corrupt(position, Format("a metadata key of %" PRIu64 " bytes; expected at most %" PRIu64, bytes,
                                    kKeyBytesMax));
  }
  TM_RETURN_IF_ERROR(cursor_.ReadString(bytes, key));
  if (IsValidUtf8(*key)) return Status();
  return Corrupt(position, Format("metadata key %s is not valid UTF-8", Quoted(*key).c_str()));
}

Status GgufReader::ReadText(const std::string& key, std::string* text) {
  const uint64_t position = cursor_.position();
  uint64_t bytes;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&bytes));
  if (bytes <= cursor_.remaining()) return cursor_.ReadString(bytes, text);
  return Corrupt(position, Format("metadata %s: a string of %" PRIu64 " bytes, where %" PRIu64 " remain; %s",
                                  Quoted(key).c_str(), bytes, cursor_.remaining(), kFetchAgain));
}

Status GgufReader::ReadBool(const std::string& key, bool* value) {
  const uint64_t position = cursor_.position();
  uint8_t byte;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&byte));
  *value = byte != 0;
  if (byte <= 1) return Status();
  return Corrupt(position, Format("metadata %s: a bool of value %u; expected 0 or 1", Quoted(key).c_str(),
                                  unsigned{byte}));
}

Status GgufReader::ReadValue(const std::string& key, GgufValue* value) {
  const uint64_t position = cursor_.position();
  uint32_t type;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&type));
  value->type = value->element_type = static_cast<GgufType>(type);
  const auto number = [&](auto stored, auto widened) {
    Status status = cursor_.ReadScalar(&stored);
    value->value = static_cast<decltype(widened)>(stored);
    return status;
  };
  switch (value->type) {
    case GgufType::kUint8:
      return number(uint8_t{}, uint64_t{});
    case GgufType::kInt8:
      return number(int8_t{}, int64_t{});
    case GgufType::kUint16:
      return number(uint16_t{}, uint64_t{});
    case GgufType::kInt16:
      return number(int16_t{}, int64_t{});
    case GgufType::kUint32:
      return number(uint32_t{}, uint64_t{});
    case GgufType::kInt32:
      return number(int32_t{}, int64_t{});
    case GgufType::kFloat32:
      return number(float{}, double{});
    case GgufType::kUint64:
      return number(uint64_t{}, uint64_t{});
    case GgufType::kInt64:
      return number(int64_t{}, int64_t{});
    case GgufType::kFloat64:
      return number(double{}, double{});
    case GgufType::kBool:
      return ReadBool(key, &value->value.emplace<bool>());
    case GgufType::kString:
      return ReadText(key, &value->value.emplace<std::string>());
    case GgufType::kArray:
      return ReadArray(key, value);
  }
  return Corrupt(position, Format("metadata %s has the unknown type %" PRIu32 "; expected 0 to 12",
                                  Quoted(key).c_str(), type));
}

/// Reads an array's element type and count, and holds the count within the file.
Status GgufReader::ReadArrayHead(const std::string& key, GgufType* element_type, uint64_t* count) {
  const uint64_t position = cursor_.position();
  uint32_t type;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&type));
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(count));
  *element_type = static_cast<GgufType>(type);
  const bool nested = *element_type == GgufType::kArray;
  const uint64_t element_bytes = nested ? kArrayHeadBytes : StoredBytes(*element_type);
  if (element_bytes == 0) {
    return Corrupt(position,
                   Format("metadata %s is an array of the unknown type %" PRIu32 "; expected 0 to 12",
                          Quoted(key).c_str(), type));
  }
  if (*count > cursor_.remaining() / element_bytes) {
    return Corrupt(
        position + 4,
        Format("metadata %s: an array of %" PRIu64 " values of type %s, where %" PRIu64 " bytes remain; %s",
               Quoted(key).c_str(), *count, GgufTypeName(*element_type), cursor_.remaining(), kFetchAgain));
  }
  return Status();
}

/// Goes past the elements of an array within an array.
Status GgufReader::SkipArray(const std::string& key, GgufType element_type, uint64_t count, int depth) {
  if (element_type != GgufType::kArray) {
    GgufValue ignored;
    return ReadElements(key, element_type, count, &ignored);
  }
  if (depth >= kArrayDepthMax) {
    return Corrupt(cursor_.position(), Format("metadata %s: arrays are nested more than %d deep",
                                              Quoted(key).c_str(), kArrayDepthMax));
  }
  for (uint64_t i = 0; i < count; ++i) {
    GgufType inner_type;
    uint64_t inner_count;
    TM_RETURN_IF_ERROR(ReadArrayHead(key, &inner_type, &inner_count));
    TM_RETURN_IF_ERROR(SkipArray(key, inner_type, inner_count, depth + 1));
  }
  return Status();
}

Status GgufReader::ReadArray(const std::string& key, GgufValue* value) {
  uint64_t count;
  TM_RETURN_IF_ERROR(ReadArrayHead(key, &value->element_type, &count));
  if (value->element_type != GgufType::kArray) return ReadElements(key, value->element_type, count, value);
  value->value = GgufValue::Nested{count};
  return SkipArray(key, GgufType::kArray, count, 1);
}

Status GgufReader::ReadElements(const std::string& key, GgufType element_type, uint64_t count,
                                GgufValue* value) {
  switch (element_type) {
    case GgufType::kUint8:
      return ReadNumbers<uint8_t, int64_t>(count, value);
    case GgufType::kInt8:
      return ReadNumbers<int8_t, int64_t>(count, value);
    case GgufType::kUint16:
      return ReadNumbers<uint16_t, int64_t>(count, value);
    case GgufType::kInt16:
      return ReadNumbers<int16_t, int64_t>(count, value);
    case GgufType::kUint32:
      return ReadNumbers<uint32_t, int64_t>(count, value);
    case GgufType::kInt32:
      return ReadNumbers<int32_t, int64_t>(count, value);
    case GgufType::kUint64:
      return ReadUint64s(key, count, value);
    case GgufType::kInt64:
      return ReadNumbers<int64_t, int64_t>(count, value);
    case GgufType::kBool:
      return ReadBools(key, count, value);
    case GgufType::kFloat32:
      return ReadNumbers<float, float>(count, value);
    case GgufType::kFloat64:
      return ReadNumbers<double, float>(count, value);
    default:
      return ReadStrings(key, count, value);
  }
}

template <class Stored, class Element>
Status GgufReader::ReadNumbers(uint64_t count, GgufValue* value) {
  auto& elements = value->value.emplace<std::vector<Element>>(static_cast<size_t>(count));
  if constexpr (std::is_same_v<Stored, Element>) {
    return cursor_.Read(elements.data(), elements.size() * sizeof(Element));
  }
  Stored chunk[1024];
  for (size_t begin = 0; begin < elements.size(); begin += std::size(chunk)) {
    const size_t part = std::min(std::size(chunk), elements.size() - begin);
    TM_RETURN_IF_ERROR(cursor_.Read(chunk, part * sizeof(Stored)));
    for (size_t i = 0; i < part; ++i) elements[begin + i] = static_cast<Element>(chunk[i]);
  }
  return Status();
}

Status GgufReader::ReadBools(const std::string& key, uint64_t count, GgufValue* value) {
  const uint64_t position = cursor_.position();
  TM_RETURN_IF_ERROR((ReadNumbers<uint8_t, int64_t>(count, value)));
  const auto& bools = std::get<GgufValue::Integers>(value->value);
  for (size_t i = 0; i < bools.size(); ++i) {
    if (bools[i] <= 1) continue;
    return Corrupt(position + i, Format("metadata %s: bool %zu of the array has value %d; expected 0 or 1",
                                        Quoted(key).c_str(), i, static_cast<int>(bools[i])));
  }
  return Status();
}

Status GgufReader::ReadUint64s(const std::string& key, uint64_t count, GgufValue* value) {
  const uint64_t position = cursor_.position();
  TM_RETURN_IF_ERROR((ReadNumbers<uint64_t, int64_t>(count, value)));
  const auto& integers = std::get<GgufValue::Integers>(value->value);
  for (size_t i = 0; i < integers.size(); ++i) {
    if (integers[i] >= 0) continue;
    return Corrupt(position + 8 * i,
                   Format("metadata %s: value %zu of the array is %" PRIu64 "; expected less than 2^63",
                          Quoted(key).c_str(), i, static_cast<uint64_t>(integers[i])));
  }
  return Status();
}

Status GgufReader::ReadStrings(const std::string& key, uint64_t count, GgufValue* value) {
  auto& strings = value->value.emplace<GgufValue::Strings>();
  strings.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    TM_RETURN_IF_ERROR(ReadText(key, &strings.emplace_back()));
  }
  return Status();
}

Status GgufReader::RefuseSplit() const {
  TM_ASSIGN_OR_RETURN(const uint64_t parts, gguf_->GetUint("split.count", 1));
  if (parts <= 1) return Status();
  return Error(Code::kUnsupportedModel,
               "%s: one of %" PRIu64
               " parts of a split model, which are not read; merge them into one file first",
               gguf_->file().path().c_str(), parts);
}

Status GgufReader::TakeAlignment() {
  TM_ASSIGN_OR_RETURN(const uint64_t alignment, gguf_->GetUint("general.alignment", gguf_->alignment_));
  if (!std::has_single_bit(alignment) || alignment < kAlignmentMin || alignment > kAlignmentMax) {
    return Corrupt(cursor_.position(), Format("general.alignment is %" PRIu64
                                              "; expected a power of two from %" PRIu64 " to %" PRIu64,
                                              alignment, kAlignmentMin, kAlignmentMax));
  }
  gguf_->alignment_ = static_cast<uint32_t>(alignment);
  return Status();
}

}  // namespace tokenmill
