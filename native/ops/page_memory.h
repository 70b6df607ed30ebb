#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace tokenmill {

using PageId = int32_t;
inline constexpr PageId kNoPage = -1;

/// The memory behind the pages of a KV cache; what a page holds is its owner's matter.
class PageMemory {
 public:
  virtual ~PageMemory() = default;

  /// Bytes of one page of a KV group: kPageTokens tokens of all its layers.
  virtual size_t PageBytes(int group) const = 0;
  /// Maps the memory of pages slab * pages … (slab + 1) * pages - 1 of a group; OutOfMemory when the system
  /// refuses. Every group uses the same `pages` in all calls.
  virtual Status AddSlab(int group, int slab, int pages) = 0;
  /// Returns a slab's memory to the system.
  virtual void RemoveSlab(int group, int slab) = 0;
  /// Gives page `to` the contents of page `from`, both mapped, of one group. Not while a step runs.
  virtual void CopyPage(int group, PageId from, PageId to) = 0;
};

}  // namespace tokenmill
