#pragma once

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <memory>
#include <string>

#include "io/file.h"

namespace tokenmill {

/// A file that exists in memory only. `size` may claim more bytes than are given: those are missing, as in a
/// file that shrinks, or zeros, as in a sparse file.
class MemoryFile final : public File {
 public:
  enum class Rest { kMissing, kZeros };

  explicit MemoryFile(std::string bytes) : MemoryFile(bytes, bytes.size(), Rest::kMissing) {}
  MemoryFile(std::string bytes, uint64_t size, Rest rest) : bytes_(std::move(bytes)), rest_(rest) {
    identity_.size = size;
  }

  const std::string& path() const override { return path_; }
  const FileIdentity& identity() const override { return identity_; }

  Status ReadAt(uint64_t offset, void* out, size_t bytes) const override {
    const uint64_t end = rest_ == Rest::kZeros ? size() : bytes_.size();
    if (offset > end || bytes > end - offset) {
      return Error(Code::kCorruptFile, "%s: %zu bytes at byte %" PRIu64 " lie beyond the file's end",
                   path_.c_str(), bytes, offset);
    }
    const size_t given = offset < bytes_.size() ? std::min<size_t>(bytes, bytes_.size() - offset) : 0;
    std::memcpy(out, bytes_.data() + std::min<size_t>(offset, bytes_.size()), given);
    std::memset(static_cast<char*>(out) + given, 0, bytes - given);
    return Status();
  }

 private:
  const std::string path_ = "memory";
  const std::string bytes_;
  const Rest rest_;
  FileIdentity identity_;
};

}  // namespace tokenmill
