#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

namespace tokenmill {

/// A file that is written under a temporary name beside its own, so that others see all of it or nothing. The
/// destructor removes what was not published.
class OutputFile {
 public:
  virtual ~OutputFile() = default;

  /// InvalidArgument when the folder is absent, may not be written to, or `path` exists and is not to be
  /// overwritten.
  static Result<std::unique_ptr<OutputFile>> Create(const std::string& path, bool overwrite);

  /// Safe to use from several threads at once. OutOfMemory when the disk is full.
  virtual Status WriteAt(uint64_t offset, const void* data, size_t bytes) = 0;

  /// Makes sure that the bytes are on the disk and gives the file its name. Once.
  virtual Status Publish() = 0;
};

}  // namespace tokenmill
