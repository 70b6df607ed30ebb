#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

namespace tokenmill {

/// What makes two paths the same file: the key of the process-wide engine registry.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified_ns = 0;
};

/// A file opened for reading at given offsets. Safe to use from several threads at once. Files are read, not
/// mapped: a mapped file that shrinks is a SIGBUS that no one can catch.
class File {
 public:
  virtual ~File() = default;

  /// ModelNotFound when the path is absent or not a regular file that can be read.
  static Result<std::shared_ptr<File>> Open(const std::string& path);

  virtual const std::string& path() const = 0;
  virtual const FileIdentity& identity() const = 0;
  uint64_t size() const { return identity().size; }

  /// Reads exactly `bytes` at `offset`; CorruptFile when the file has fewer, as after a truncation.
  virtual Status ReadAt(uint64_t offset, void* out, size_t bytes) const = 0;
};

}  // namespace tokenmill
