#include "adapter/spec_store.h"

#include <algorithm>
#include <cstring>

#include "core/hash64.h"

namespace tokenmill {
namespace {

class Writer {
 public:
  template <class Value>
  void Put(Value value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Put(const std::string& text) {
    Put(static_cast<uint32_t>(text.size()));
    bytes_ += text;
  }
  void Put(const StoredFactor& factor, uint64_t start) {
    Put(factor.tensor);
    Put(factor.dtype);
    for (const int64_t length : {factor.rows, factor.cols}) Put(length);
    for (const uint64_t place : {factor.offset - start, factor.bytes}) Put(place);
  }

  std::string Take() {
    bytes_.shrink_to_fit();
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Reads what a Writer has written.
class Reader {
 public:
  explicit Reader(const std::string& bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool done() const { return at_ == end_; }

  template <class Value>
  void Get(Value* value) {
    std::memcpy(value, at_, sizeof(*value));
    at_ += sizeof(*value);
  }
  void Get(std::string* text) {
    uint32_t size = 0;
    Get(&size);
    text->assign(at_, size);
    at_ += size;
  }
  void Get(StoredFactor* factor, uint64_t start) {
    Get(&factor->tensor);
    Get(&factor->dtype);
    for (int64_t* length : {&factor->rows, &factor->cols}) Get(length);
    for (uint64_t* place : {&factor->offset, &factor->bytes}) Get(place);
    factor->offset += start;
  }

 private:
  const char* at_;
  const char* const end_;
};

uint64_t StartOf(const AdapterSpec& spec) {
  uint64_t start = UINT64_MAX;
  for (const AdapterEntry& entry : spec.entries) start = std::min({start, entry.a.offset, entry.b.offset});
  return start;
}

std::string LayoutOf(const AdapterSpec& spec, uint64_t start) {
  Writer writer;
  for (const AdapterEntry& entry : spec.entries) {
    writer.Put(entry.target);
    writer.Put(entry.scale);
    writer.Put(entry.a, start);
    writer.Put(entry.b, start);
  }
  return writer.Take();
}

}  // namespace

AdapterSpec StoredSpec::Get() const {
  AdapterSpec spec{path_, file_bytes_, names_, architecture_, {}};
  for (Reader reader(*layout_); !reader.done();) {
    AdapterEntry& entry = spec.entries.emplace_back();
    reader.Get(&entry.target);
    reader.Get(&entry.scale);
    reader.Get(&entry.a, start_);
    reader.Get(&entry.b, start_);
  }
  return spec;
}

StoredSpec SpecStore::Put(const AdapterSpec& spec) {
  StoredSpec stored;
  stored.path_ = spec.path;
  stored.architecture_ = spec.architecture;
  stored.file_bytes_ = spec.file_bytes;
  stored.names_ = spec.names;
  stored.start_ = StartOf(spec);
  auto layout = std::make_shared<const std::string>(LayoutOf(spec, stored.start_));
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(layouts_, [](const auto& known) { return known.second.expired(); });
  std::weak_ptr<const std::string>& known = layouts_[Hash64(layout->data(), layout->size())];
  const auto shared = known.lock();
  if (shared == nullptr) known = layout;
  stored.layout_ = shared != nullptr && *shared == *layout ? shared : std::move(layout);
  return stored;
}

}  // namespace tokenmill
