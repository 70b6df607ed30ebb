#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/status.h"
#include "io/file.h"

namespace tokenmill {

/// Reads a file's header front to back through one buffer, and never past a limit. Values are little-endian.
/// A caller asks `remaining` before it allocates for a length that the file states.
class HeaderCursor {
 public:
  /// `file` must outlive the cursor; bytes from `limit` on do not exist for it.
  HeaderCursor(const File& file, uint64_t limit);

  uint64_t position() const { return block_offset_ + at_; }
  uint64_t remaining() const { return limit_ - position(); }

  /// Copies `bytes` to `out`. CorruptFile when fewer remain.
  Status Read(void* out, size_t bytes);

  template <class T>
  Status ReadScalar(T* out) {
    static_assert(std::endian::native == std::endian::little, "headers are read as they are stored");
    if (sizeof(T) > Buffered()) return Read(out, sizeof(T));
    std::memcpy(out, block_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return Status();
  }

  /// A string of `bytes`. CorruptFile, before anything is allocated, when fewer remain.
  Status ReadString(uint64_t bytes, std::string* out);

 private:
  Status CheckRemaining(uint64_t bytes) const;
  Status Refill();
  size_t Buffered() const { return block_.size() - at_; }

  const File& file_;
  const uint64_t limit_;
  uint64_t block_offset_ = 0;  // of block_[0], in the file
  size_t at_ = 0;              // in block_
  std::vector<char> block_;
};

}  // namespace tokenmill
