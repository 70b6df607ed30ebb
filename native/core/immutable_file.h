#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/status.h"

namespace tokenmill {

/// Files of our own that are never changed: they appear under their name whole and leave by being unlinked, so
/// that one may be mapped. (Files of others may shrink, which would be a signal that no one can catch.)

/// One such file, mapped for reading and shared with every process that maps it.
class ImmutableFile {
 public:
  ImmutableFile() = default;
  /// Empty when there is no such file or it cannot be mapped.
  explicit ImmutableFile(const std::string& path);
  ~ImmutableFile();
  ImmutableFile(ImmutableFile&& other) noexcept { swap(other); }
  ImmutableFile& operator=(ImmutableFile&& other) noexcept {
    swap(other);
    return *this;
  }

  explicit operator bool() const { return data_ != nullptr; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(ImmutableFile& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Writes such a file; without Publish nothing of it stays.
class ImmutableFileWriter {
 public:
  /// `bytes` is what will be written; fails where the disk would be left with less than that free.
  Status Open(const std::string& path, uint64_t bytes);
  ~ImmutableFileWriter();

  /// From any thread.
  Status WriteAt(uint64_t offset, const void* data, size_t bytes);
  /// Gives the file its name, unless there is one of that name by now.
  Status Publish();

 private:
  std::string path_;
  std::string temporary_;  // empty where the file has no name before it is published
  int descriptor_ = -1;
};

/// Removes a file; whoever maps it keeps it.
void RemoveImmutableFile(const std::string& path);

}  // namespace tokenmill
