#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "ops/page_memory.h"

namespace tokenmill {

using PageId = int32_t;
inline constexpr PageId kNoPage = -1;

/// The pages of the KV cache: reference-counted ids per KV group. Memory is taken from the system slab by slab
/// as pages are used, never beyond a byte limit that all groups share; slabs without a used page go from group to
/// group. The lowest free page is given first, so a sequence that grows from an empty pool never has pages in more
/// slabs than its most pages fill. Pages are opaque; not thread-safe.
class BlockPool {
 public:
  static constexpr int kSlabPages = 16;

  BlockPool(PageMemory* memory, int groups, size_t limit_bytes);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// A page with one reference, or kNoPage when the limit is reached or the system refuses.
  PageId Allocate(int group);
  void AddReference(int group, PageId page);
  /// Drops one reference; the last one makes the page free.
  void Release(int group, PageId page);

  /// Whether every group could be given so many more pages at once; one number a group.
  bool Fits(std::span<const size_t> pages) const;
  /// Pages that are mapped or could be: uncommitted bytes count once, as slabs of each group in turn.
  size_t Maximum() const;
  size_t used(int group) const { return groups_[static_cast<size_t>(group)].used; }
  size_t free(int group) const { return groups_[static_cast<size_t>(group)].free; }
  int groups() const { return static_cast<int>(groups_.size()); }
  size_t committed_bytes() const { return committed_bytes_; }
  size_t limit_bytes() const { return limit_bytes_; }

  /// Empty when pages with references lie in mapped slabs, and counts and bytes add up; else what is wrong. For
  /// tests and debug runs.
  std::string CheckIntegrity() const;

 private:
  struct Group {
    size_t slab_bytes = 0;
    std::vector<uint32_t> references;  // by page id
    std::vector<bool> mapped;  // by slab
    std::vector<int> used_in_slab;  // by slab
    size_t used = 0;
    size_t free = 0;  // in mapped slabs
  };

  bool Grow(int group);
  bool ReclaimFrom(int group, size_t bytes);
  void Unmap(int group, int slab);

  PageMemory* const memory_;
  const size_t limit_bytes_;
  size_t committed_bytes_ = 0;
  std::vector<Group> groups_;
};

}  // namespace tokenmill
