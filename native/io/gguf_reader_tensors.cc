#include <algorithm>
#include <cinttypes>
#include <limits>
#include <numeric>

#include "io/gguf_reader.h"
#include "io/text.h"

namespace tokenmill {
namespace {

constexpr uint64_t kTensorNameBytesMax = 255;

/// The name of a tensor type whose number was given up, or nullptr.
const char* RetiredType(uint32_t type) {
  switch (type) {
    case 4:
      return "Q4_2";
    case 5:
      return "Q4_3";
    case 31:
      return "Q4_0_4_4";
    case 32:
      return "Q4_0_4_8";
    case 33:
      return "Q4_0_8_8";
    case 36:
      return "IQ4_NL_4_4";
    case 37:
      return "IQ4_NL_4_8";
    case 38:
      return "IQ4_NL_8_8";
    default:
      return nullptr;
  }
}

std::string ShapeText(const GgufTensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; ++i) {
    text += Format("%s%" PRIu64, i == 0 ? "" : ", ", tensor.shape[static_cast<size_t>(i)]);
  }
  return text + "]";
}

}  // namespace

Status GgufReader::ReadTensors() {
  // Metadata has taken its part of what the count was first checked against.
  if (tensor_count_ > cursor_.remaining() / kTensorBytesMin) {
    return Corrupt(
        8, Format("a count of %" PRIu64 " tensors, where %" PRIu64 " bytes remain after the metadata; %s",
                  tensor_count_, cursor_.remaining(), kFetchAgain));
  }
  gguf_->tensors_.reserve(static_cast<size_t>(tensor_count_));
  tensor_positions_.reserve(static_cast<size_t>(tensor_count_));
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    tensor_positions_.push_back(cursor_.position());
    GgufTensor& tensor = gguf_->tensors_.emplace_back();
    TM_RETURN_IF_ERROR(ReadTensor(&tensor));
    if (!gguf_->tensor_index_.emplace(tensor.name, static_cast<size_t>(i)).second) {
      return Corrupt(tensor_positions_.back(),
                     Format("tensor %s is there twice", Quoted(tensor.name).c_str()));
    }
  }
  return Status();
}

Status GgufReader::ReadTensor(GgufTensor* tensor) {
  TM_RETURN_IF_ERROR(ReadTensorName(&tensor->name));
  TM_RETURN_IF_ERROR(ReadTensorShape(tensor));
  TM_RETURN_IF_ERROR(ReadTensorType(tensor));
  TM_RETURN_IF_ERROR(MeasureTensor(tensor));
  const uint64_t position = cursor_.position();
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&tensor->offset));
  if (tensor->offset % gguf_->alignment_ == 0) return Status();
  return Corrupt(position,
                 Format("tensor %s: its offset %" PRIu64 " is not a multiple of the alignment %" PRIu32,
                        Quoted(tensor->name).c_str(), tensor->offset, gguf_->alignment_));
}

Status GgufReader::ReadTensorName(std::string* name) {
  const uint64_t position = cursor_.position();
  uint64_t bytes;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&bytes));
  if (bytes == 0) return Corrupt(position, "a tensor's name is empty");
  if (bytes > kTensorNameBytesMax) {
    return Corrupt(position, Format("a tensor's name of %" PRIu64 " bytes; expected at most %" PRIu64, bytes,
                                    kTensorNameBytesMax));
  }
  TM_RETURN_IF_ERROR(cursor_.ReadString(bytes, name));
  if (IsValidUtf8(*name)) return Status();
  return Corrupt(position, Format("the tensor name %s is not valid UTF-8", Quoted(*name).c_str()));
}

Status GgufReader::ReadTensorShape(GgufTensor* tensor) {
  const uint64_t position = cursor_.position();
  uint32_t rank;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&rank));
  if (rank < 1 || rank > tensor->shape.size()) {
    return Corrupt(position, Format("tensor %s has %" PRIu32 " dimensions; expected 1 to 4",
                                    Quoted(tensor->name).c_str(), rank));
  }
  tensor->rank = static_cast<int>(rank);
  tensor->shape.fill(1);
  for (uint32_t i = 0; i < rank; ++i) {
    TM_RETURN_IF_ERROR(cursor_.ReadScalar(&tensor->shape[i]));
    if (tensor->shape[i] != 0) continue;
    return Corrupt(position + 4 + 8 * i,
                   Format("tensor %s: dimension %" PRIu32 " is zero", Quoted(tensor->name).c_str(), i));
  }
  return Status();
}

Status GgufReader::ReadTensorType(GgufTensor* tensor) {
  const uint64_t position = cursor_.position();
  uint32_t type;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&type));
  if (const DTypeInfo* info = FindDType(type)) {
    tensor->dtype = info->dtype;
    return Status();
  }
  if (const char* name = RetiredType(type)) {
    return Error(
        Code::kUnsupportedQuantization,
        "%s: tensor %s has the type %s, which was retired; use a file in a current format, such as Q4_0",
        gguf_->file().path().c_str(), Quoted(tensor->name).c_str(), name);
  }
  return Corrupt(position, Format("tensor %s has the unknown type %" PRIu32
                                  "; the file is damaged or needs a newer release of tokenmill",
                                  Quoted(tensor->name).c_str(), type));
}

/// Computes the tensor's bytes; neither they nor its elements may exceed 2^63 - 1.
Status GgufReader::MeasureTensor(GgufTensor* tensor) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  const DTypeInfo& info = InfoOf(tensor->dtype);
  const uint64_t position = tensor_positions_.back();
  if (tensor->shape[0] % info.block_elements != 0) {
    return Corrupt(position,
                   Format("tensor %s: rows of %" PRIu64 " elements; %s needs a multiple of %" PRIu32,
                          Quoted(tensor->name).c_str(), tensor->shape[0], info.name, info.block_elements));
  }
  uint64_t elements = 1;
  for (const uint64_t size : tensor->shape) {
    if (size > kMax / elements) {
      return Corrupt(position, Format("tensor %s of shape %s has too many elements; expected less than 2^63",
                                      Quoted(tensor->name).c_str(), ShapeText(*tensor).c_str()));
    }
    elements *= size;
  }
  const uint64_t blocks = elements / info.block_elements;
  if (blocks > kMax / info.block_bytes) {
    return Corrupt(position, Format("tensor %s of shape %s has too many bytes; expected less than 2^63",
                                    Quoted(tensor->name).c_str(), ShapeText(*tensor).c_str()));
  }
  tensor->bytes = blocks * info.block_bytes;
  return Status();
}

/// Makes the offsets absolute, and holds every tensor within the file.
Status GgufReader::PlaceTensors() {
  const uint64_t alignment = gguf_->alignment_;
  const uint64_t data = (cursor_.position() + alignment - 1) / alignment * alignment;
  const uint64_t size = gguf_->file().size();
  const uint64_t data_bytes = size > data ? size - data : 0;
  for (size_t i = 0; i < gguf_->tensors_.size(); ++i) {
    GgufTensor& tensor = gguf_->tensors_[i];
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
      return Corrupt(
          tensor_positions_[i],
          Format("tensor %s needs %" PRIu64 " bytes at %" PRIu64 " of the data, which start at byte %" PRIu64
                 ", where %" PRIu64 " bytes are there; %s",
                 Quoted(tensor.name).c_str(), tensor.bytes, tensor.offset, data, data_bytes, kFetchAgain));
    }
    tensor.offset += data;
  }
  return Status();
}

Status GgufReader::RefuseOverlaps() const {
  const std::vector<GgufTensor>& tensors = gguf_->tensors_;
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return tensors[a].offset < tensors[b].offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor& before = tensors[order[i - 1]];
    const GgufTensor& tensor = tensors[order[i]];
    if (tensor.offset - before.offset >= before.bytes) continue;
    return Corrupt(tensor_positions_[order[i]],
                   Format("tensors %s and %s overlap: bytes from %" PRIu64 " on belong to both",
                          Quoted(before.name).c_str(), Quoted(tensor.name).c_str(), tensor.offset));
  }
  return Status();
}

}  // namespace tokenmill
