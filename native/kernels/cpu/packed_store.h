#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "core/immutable_file.h"
#include "kernels/cpu/packed_format.h"
#include "ops/backend.h"

// Packed matrices kept in a file between loads: a header, a checksum a piece (as they are packed), and at a
// multiple of 2 MiB the matrices as they lie in memory.

namespace tokenmill::cpu {

/// To be raised with every change of what PackPair writes, of the encoders, or of this file's form.
inline constexpr uint32_t kPackedStoreVersion = 3;

class PackedStore {
 public:
  /// The file is `options.packed_folder`'s, named for the program's weights, how they are packed and where they come
  /// from.
  PackedStore(const Program& program, const std::vector<PackedFormat>& formats, const CompileOptions& options,
              uint64_t bytes, size_t pieces);

  /// Where the matrices lie in the file from an earlier load; nullptr when there is no such file. Its pieces
  /// are still to be checked.
  const std::byte* Map();
  /// Whether a piece of a mapped file is as it was written. From any thread.
  bool Check(size_t piece, const void* data, size_t bytes) const;
  /// Drops a file that is not as it was written.
  void Discard();

  /// Starts a file; without one, or when writing fails, the load goes on and `problem` says why.
  void Create();
  /// From any thread; each piece once.
  void Put(size_t piece, uint64_t offset, const void* data, size_t bytes);
  void Publish();

  PackedCache state() const { return state_; }
  const std::string& problem() const { return problem_; }

 private:
  struct Header;
  Header MakeHeader() const;
  uint64_t body() const;
  void Fail(const Status& status);

  std::string path_;
  uint64_t key_[2] = {};
  uint64_t bytes_;
  uint64_t limit_bytes_;
  std::vector<uint64_t> sums_;  // a piece
  ImmutableFile mapped_;
  ImmutableFileWriter writer_;
  std::atomic<bool> writing_{false};
  PackedCache state_ = PackedCache::kOff;
  std::string problem_;
};

}  // namespace tokenmill::cpu
