#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/status.h"
#include "kv/page_lru.h"
#include "kv/page_moves.h"
#include "kv/slab_set.h"
#include "ops/page_memory.h"

namespace tokenmill {

/// Knows what kept pages hold, so that it can do without one of them.
class PageCache {
 public:
  virtual ~PageCache() = default;
  /// Forgets a kept page (BlockPool::Forget), and those that are of no use without it.
  virtual void Evict(int group, PageId page) noexcept = 0;
  /// Takes the memory that it needs to keep any page below `pages`, ahead of Renumber. May throw.
  virtual void MakeRoom(int group, size_t pages) = 0;
  /// Kept pages, in use or not, have moved.
  virtual void Renumber(const PageMoves& moves) noexcept = 0;
};

/// The pages of the KV cache: reference-counted ids per KV group. Memory is taken from the system slab by slab
/// as pages are used, never beyond a byte limit that all groups share; slabs without a used page go from group to
/// group. Slabs that have used pages are filled before others, the lowest first, so a sequence that grows without
/// company never has pages in more slabs than its most pages fill, as long as no page is cached.
///
/// Pages that are kept stay cached when their last reference goes, and can be referenced again. They are evicted,
/// the longest unused first, when there is neither a free page nor room for a slab: slabs of other groups that hold
/// only cached pages when they are enough and all unused for longer than the group's own pages, else one of those.
/// The limit can change: pages then move together, so that slabs become free and go back to the system.
/// Pages are opaque; not thread-safe.
class BlockPool {
 public:
  static constexpr int kSlabPages = 16;

  BlockPool(PageMemory* memory, int groups, size_t limit_bytes);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// Who keeps pages; must outlive every call but the destructor's.
  void SetCache(PageCache* cache) { cache_ = cache; }
  /// Whoever has page ids is to be told when pages move.
  void AddHolder(PageHolder* holder) { holders_.insert(holder); }
  void RemoveHolder(PageHolder* holder) { holders_.erase(holder); }

  /// A page with one reference, or kNoPage when the limit is reached or the system refuses.
  PageId Allocate(int group);
  /// Of a page that has references or is cached.
  void AddReference(int group, PageId page);
  /// Drops one reference; the last one makes the page free, or cached when it is kept.
  void Release(int group, PageId page);

  /// Keeps a page that has a reference.
  void Keep(int group, PageId page) {
    groups_[static_cast<size_t>(group)].kept[static_cast<size_t>(page)] = true;
  }
  /// Keeps it no longer; a cached one becomes free.
  void Forget(int group, PageId page);
  /// Has the cache do without a kept page.
  void Evict(int group, PageId page) { cache_->Evict(group, page); }
  /// What cached pages may take: by default a quarter of the limit, or 256 MiB where that is more.
  void SetCachedMaximum(size_t bytes) { cached_maximum_ = bytes; }
  /// Evicts the longest unused of the cached pages that are beyond that. Not while the cache is being asked.
  void TrimCached();
  /// Evicts all cached pages; whether there were any.
  bool EvictCached();
  /// Evicts the cached page that was not used for longest in all groups; whether there was any.
  bool EvictOldest();

  /// Bytes of the slabs that all used and cached pages would fill if they lay together.
  size_t PackedBytes() const;
  /// Changes the limit, which must hold PackedBytes: moves pages out of the slabs that are beyond it, the emptiest
  /// ones, and gives these back to the system. Not while a step runs. May throw; then nothing has changed.
  void SetLimit(size_t bytes);

  /// The contents of `from` also in `to`.
  void CopyPage(int group, PageId from, PageId to) { memory_->CopyPage(group, from, to); }

  /// Whether every group could be given so many more pages at once, cached ones evicted and those of `freed` given
  /// back; a number and an ascending list a group.
  bool Fits(std::span<const size_t> pages, std::span<const std::vector<PageId>> freed = {}) const;
  /// Pages that are mapped or could be: uncommitted bytes count once, as slabs of each group in turn.
  size_t Maximum() const;

  /// Page ids of a group are below this.
  size_t page_ids(int group) const { return groups_[static_cast<size_t>(group)].references.size(); }
  uint32_t references(int group, PageId page) const {
    return groups_[static_cast<size_t>(group)].references[static_cast<size_t>(page)];
  }
  bool kept(int group, PageId page) const {
    return groups_[static_cast<size_t>(group)].kept[static_cast<size_t>(page)];
  }
  size_t CountKept(int group) const;
  /// A group's pages with references, cached ones, and free ones in mapped slabs.
  size_t used(int group) const { return groups_[static_cast<size_t>(group)].used; }
  size_t cached(int group) const { return groups_[static_cast<size_t>(group)].cached.size(); }
  size_t free(int group) const { return groups_[static_cast<size_t>(group)].free; }
  int groups() const { return static_cast<int>(groups_.size()); }
  size_t committed_bytes() const { return committed_bytes_; }
  size_t limit_bytes() const { return limit_bytes_; }
  /// Cached pages that were evicted since the pool was made.
  uint64_t evicted() const { return evicted_; }

  /// Empty when each page of the mapped slabs is either used, cached or free, and counts, order and bytes add up;
  /// else what is wrong. For tests and debug runs.
  std::string CheckIntegrity() const;

 private:
  struct Slab {
    bool mapped = false;
    uint16_t free = 0;  // a bit a page
    int used = 0;  // pages with references
  };

  struct Group {
    size_t slab_bytes = 0;
    std::vector<uint32_t> references;  // by page id
    std::vector<bool> kept;  // likewise
    std::vector<Slab> slabs;
    SlabSet open_used;  // slabs with a free page and a used one
    SlabSet open_unused;  // slabs with a free page and no used one
    PageLru cached;
    size_t used = 0;
    size_t free = 0;
    size_t used_slabs = 0;
  };

  struct CachedSlab {
    int group = -1;
    int slab = -1;
    uint64_t latest = UINT64_MAX;  // stamp of the page that was used last
  };

  static constexpr uint16_t kAllFree = UINT16_MAX;
  static_assert(kSlabPages == 16, "Slab::free has a bit a page");

  /// A group's mapped slabs, the fullest first, of which the first `keep` stay.
  struct SlabOrder {
    std::vector<size_t> slabs;
    size_t keep = 0;
    size_t needed = 0;  // slabs that the pages fill when they lie together
  };

  PageId TakeFree(int group);
  void AddUse(Group* group, PageId page);
  void DropUse(Group* group, PageId page);
  void MakeFree(Group* group, PageId page);
  void NoteOpen(Group* group, size_t slab);
  bool Grow(int group);
  bool MapSlab(int group);
  static size_t SlabsEmptiedBy(const Group& group, const std::vector<PageId>& freed);
  bool TakeEmptySlabs(int group, size_t bytes);
  bool EvictFor(int group);
  CachedSlab SlabToTake(int group, uint64_t before) const;
  static uint64_t LatestUse(const Group& group, size_t slab);
  void EvictSlab(const CachedSlab& slab);
  void Unmap(int group, int slab);
  SlabOrder OrderSlabs(const Group& group) const;
  std::vector<SlabOrder> ChooseSlabs(size_t bytes) const;
  PageMoves PlanMoves(const std::vector<SlabOrder>& orders) const;
  void MovePage(int group, PageId from, PageId to);
  std::string CheckSlab(size_t group, size_t slab) const;
  std::string CheckGroup(size_t group) const;

  PageMemory* const memory_;
  PageCache* cache_ = nullptr;
  std::unordered_set<PageHolder*> holders_;
  size_t limit_bytes_;
  size_t cached_maximum_ = 0;  // 0: the default
  size_t committed_bytes_ = 0;
  uint64_t clock_ = 0;  // stamps of cached pages
  uint64_t evicted_ = 0;
  std::vector<Group> groups_;
};

}  // namespace tokenmill
