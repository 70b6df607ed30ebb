#include "io/gguf_layout.h"

#include <algorithm>

namespace tokenmill {
namespace {

constexpr uint32_t kVersion = 3;

template <class T>
void Put(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string* out, const std::string& text) {
  Put(out, static_cast<uint64_t>(text.size()));
  out->append(text);
}

void PutUint(std::string* out, const GgufUint& value) {
  PutString(out, value.first);
  Put(out, static_cast<uint32_t>(GgufType::kUint32));
  Put(out, value.second);
}

uint64_t Aligned(uint64_t bytes, uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

uint64_t TensorBytes(const GgufTensor& tensor) {
  const uint64_t rows = tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
  return RowBytes(tensor.dtype, static_cast<int64_t>(tensor.shape[0])) * rows;
}

/// Appends the metadata of `source` and gives their number.
Result<uint64_t> PutMetadata(const GgufFile& source, const std::vector<GgufUint>& values, std::string* out) {
  uint64_t count = source.metadata().size();
  for (size_t i = 0; i < source.metadata().size(); ++i) {
    const std::string& key = source.metadata()[i].first;
    const auto value =
        std::find_if(values.begin(), values.end(), [&](const GgufUint& set) { return set.first == key; });
    if (value != values.end()) {
      PutUint(out, *value);
      continue;
    }
    const GgufSpan& span = source.metadata_span(i);
    const size_t begin = out->size();
    out->resize(begin + static_cast<size_t>(span.bytes));
    TM_RETURN_IF_ERROR(
        source.file().ReadAt(span.offset, out->data() + begin, static_cast<size_t>(span.bytes)));
  }
  for (const GgufUint& value : values) {
    if (source.Find(value.first) != nullptr) continue;
    PutUint(out, value);
    ++count;
  }
  return count;
}

}  // namespace

Result<GgufLayout> LayOutGguf(const GgufFile& source, const std::vector<GgufTensor>& tensors,
                              const std::vector<GgufUint>& values) {
  GgufLayout layout;
  std::string metadata;
  TM_ASSIGN_OR_RETURN(const uint64_t count, PutMetadata(source, values, &metadata));
  std::string& header = layout.header;
  header = "GGUF";
  Put(&header, kVersion);
  Put(&header, static_cast<uint64_t>(tensors.size()));
  Put(&header, count);
  header += metadata;
  uint64_t data_bytes = 0;
  for (const GgufTensor& tensor : tensors) {
    PutString(&header, tensor.name);
    Put(&header, static_cast<uint32_t>(tensor.rank));
    for (int d = 0; d < tensor.rank; ++d) Put(&header, tensor.shape[static_cast<size_t>(d)]);
    Put(&header, static_cast<uint32_t>(tensor.dtype));
    Put(&header, data_bytes);
    layout.offsets.push_back(data_bytes);
    data_bytes = Aligned(data_bytes + TensorBytes(tensor), source.alignment());
  }
  header.resize(Aligned(header.size(), source.alignment()));
  for (uint64_t& offset : layout.offsets) offset += header.size();
  layout.bytes = header.size() + data_bytes;
  return layout;
}

}  // namespace tokenmill
