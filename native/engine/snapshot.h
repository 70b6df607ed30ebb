#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "ops/program.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// What the pages in a snapshot mean something to: engines that agree in all of this compute the same bits for the same
/// tokens, on whatever machine.
struct SnapshotIdentity {
  uint64_t model = 0;  // of metadata, tensor table and samples of each tensor
  uint32_t kv_type = 0;
  uint32_t arithmetic = 0;  // of quantization at load, precision, and kernels that differ in their results
  uint32_t page_tokens = kPageTokens;
  uint32_t groups = 0;
  std::array<uint64_t, kMaxKvGroups> page_bytes = {};
  std::array<uint64_t, kMaxKvGroups> windows = {};  // tokens; 0: all
};

/// How a snapshot begins.
struct SnapshotHeader {
  static constexpr std::array<char, 8> kMagic = {'\x89', 'T', 'M', 'S', 'N', 'A', 'P', '\n'};
  static constexpr uint32_t kVersion = 2;

  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t header_bytes = 0;
  SnapshotIdentity identity;
  uint64_t state_bytes = 0, tokens = 0, total_bytes = 0;
  std::array<uint64_t, kMaxKvGroups> first_block = {};
  uint64_t state_hash = 0, tokens_hash = 0, pages_hash = 0;
  uint64_t header_hash = 0;  // of all before it

  uint64_t Hash() const;
};

/// Where the parts of a snapshot lie. Native byte order, little-endian on all that is supported. After the header
/// come the state, the tokens and for each group the pages from a block on, without gaps: at least those that the token
/// after them sees.
///
/// The header has a checksum of each part and one of itself, so every byte is under one.
struct SnapshotLayout {
  using FirstBlocks = std::array<size_t, kMaxKvGroups>;

  SnapshotLayout(const SnapshotIdentity& identity, size_t state_bytes, size_t tokens,
                 const FirstBlocks& first);

  size_t state_offset, tokens_offset, pages_offset, total_bytes;
  size_t blocks;  // of the tokens; the last one may be in part
  FirstBlocks first_block;
};

/// Checksum of pages: begins with 0 and goes on with each page.
uint64_t PagesHash(uint64_t hash, const void* page, size_t bytes);

/// A snapshot that is being filled: the caller writes the pages in their order, then closes it.
class SnapshotWriter {
 public:
  /// OutOfMemory when the system refuses the bytes.
  static Result<std::unique_ptr<SnapshotWriter>> Make(const SnapshotIdentity& identity,
                                                      std::string_view state, std::span<const Token> tokens,
                                                      const SnapshotLayout::FirstBlocks& first);

  const SnapshotLayout& layout() const { return layout_; }
  /// Where the next page belongs; PageWritten follows.
  std::byte* NextPage() { return bytes_->data() + end_; }
  void PageWritten(size_t bytes);
  /// The whole snapshot. The last call; takes no memory.
  std::shared_ptr<const SystemBuffer> Close(size_t* size);

 private:
  SnapshotWriter(const SnapshotIdentity& identity, const SnapshotLayout& layout)
      : identity_(identity), layout_(layout), end_(layout.pages_offset) {}

  const SnapshotIdentity identity_;
  const SnapshotLayout layout_;
  size_t state_bytes_ = 0, tokens_ = 0;
  std::shared_ptr<SystemBuffer> bytes_;
  size_t end_;
  uint64_t pages_hash_ = 0;
};

/// A snapshot that was found to be whole and to belong to an engine. Immutable.
class Snapshot {
 public:
  /// Takes over a copy of its bytes. CorruptFile for what is damaged or none, Incompatible for what is another
  /// version's or belongs to another model or to other options.
  static Result<std::shared_ptr<const Snapshot>> Open(std::vector<std::byte> bytes,
                                                      const SnapshotIdentity& identity, Token vocabulary);

  std::string_view state() const;
  std::span<const Token> tokens() const { return tokens_; }
  const SnapshotLayout& layout() const { return layout_; }
  const std::byte* pages() const { return bytes_.data() + layout_.pages_offset; }

 private:
  Snapshot(std::vector<std::byte> bytes, const SnapshotLayout& layout)
      : bytes_(std::move(bytes)), layout_(layout) {}

  std::vector<std::byte> bytes_;
  SnapshotLayout layout_;
  std::vector<Token> tokens_;
};

}  // namespace tokenmill
