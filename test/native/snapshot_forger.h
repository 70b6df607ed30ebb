#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "core/hash64.h"
#include "engine/snapshot.h"

namespace tokenmill {

/// Gives what is to pass for a snapshot the checksums of its bytes, as far as its header makes sense.
inline void FixChecksums(std::span<std::byte> bytes) {
  SnapshotHeader header;
  if (bytes.size() < sizeof(header)) return;
  std::memcpy(&header, bytes.data(), sizeof(header));
  auto hash_next = [&, at = sizeof(header)](uint64_t size, uint64_t seed) mutable {
    if (size > bytes.size() - at) return seed;
    at += size;
    return Hash64(bytes.data() + at - size, size, seed);
  };
  header.state_hash = hash_next(header.state_bytes, 0);
  header.tokens_hash = header.tokens > bytes.size() ? 0 : hash_next(header.tokens * sizeof(Token), 0);
  header.pages_hash = 0;
  const uint64_t blocks = header.tokens > bytes.size() ? 0 : (header.tokens + kPageTokens - 1) / kPageTokens;
  for (size_t g = 0; g < std::min<size_t>(header.identity.groups, kMaxKvGroups); ++g) {
    for (uint64_t block = header.first_block[g]; block < blocks; ++block)
      header.pages_hash = hash_next(header.identity.page_bytes[g], header.pages_hash);
  }
  header.header_hash = header.Hash();
  std::memcpy(bytes.data(), &header, sizeof(header));
}

}  // namespace tokenmill
