#include "kv/block_pool.h"

#include <algorithm>
#include <bit>

namespace tokenmill {
namespace {

size_t SlabOf(PageId page) { return static_cast<size_t>(page / BlockPool::kSlabPages); }
uint16_t BitOf(PageId page) { return static_cast<uint16_t>(1u << page % BlockPool::kSlabPages); }

}  // namespace

BlockPool::BlockPool(PageMemory* memory, int groups, size_t limit_bytes)
    : memory_(memory), limit_bytes_(limit_bytes), groups_(static_cast<size_t>(groups)) {
  for (int g = 0; g < groups; ++g)
    groups_[static_cast<size_t>(g)].slab_bytes = memory->PageBytes(g) * kSlabPages;
}

BlockPool::~BlockPool() {
  for (int g = 0; g < groups(); ++g) {
    for (size_t slab = 0; slab < groups_[static_cast<size_t>(g)].slabs.size(); ++slab) {
      if (groups_[static_cast<size_t>(g)].slabs[slab].mapped) memory_->RemoveSlab(g, static_cast<int>(slab));
    }
  }
}

PageId BlockPool::Allocate(int group) {
  do {
    if (const PageId page = TakeFree(group); page != kNoPage) return page;
  } while (Grow(group) || EvictFor(group));
  return kNoPage;
}

PageId BlockPool::TakeFree(int group) {
  Group& g = groups_[static_cast<size_t>(group)];
  size_t slab = g.open_used.Lowest();
  if (slab == SlabSet::kNone) slab = g.open_unused.Lowest();
  if (slab == SlabSet::kNone) return kNoPage;
  const int bit = std::countr_zero(g.slabs[slab].free);
  const PageId page = static_cast<PageId>(slab) * kSlabPages + bit;
  g.slabs[slab].free &= static_cast<uint16_t>(~BitOf(page));
  --g.free;
  g.references[static_cast<size_t>(page)] = 1;
  AddUse(&g, page);
  return page;
}

void BlockPool::AddReference(int group, PageId page) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (++g.references[static_cast<size_t>(page)] > 1) return;
  g.cached.Remove(page);
  AddUse(&g, page);
}

void BlockPool::Release(int group, PageId page) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (--g.references[static_cast<size_t>(page)] > 0) return;
  if (g.kept[static_cast<size_t>(page)]) {
    g.cached.PushNewest(page, ++clock_);
  } else {
    MakeFree(&g, page);
  }
  DropUse(&g, page);
}

void BlockPool::Forget(int group, PageId page) {
  Group& g = groups_[static_cast<size_t>(group)];
  g.kept[static_cast<size_t>(page)] = false;
  if (g.references[static_cast<size_t>(page)] > 0) return;
  g.cached.Remove(page);
  MakeFree(&g, page);
  NoteOpen(&g, SlabOf(page));
  ++evicted_;
}

bool BlockPool::EvictCached() {
  bool any = false;
  for (int g = 0; g < groups(); ++g) {
    for (; cached(g) > 0; any = true) Evict(g, groups_[static_cast<size_t>(g)].cached.oldest());
  }
  return any;
}

void BlockPool::AddUse(Group* group, PageId page) {
  Slab& slab = group->slabs[SlabOf(page)];
  ++group->used;
  group->used_slabs += slab.used++ == 0;
  NoteOpen(group, SlabOf(page));
}

void BlockPool::DropUse(Group* group, PageId page) {
  Slab& slab = group->slabs[SlabOf(page)];
  --group->used;
  group->used_slabs -= --slab.used == 0;
  NoteOpen(group, SlabOf(page));
}

void BlockPool::MakeFree(Group* group, PageId page) {
  group->slabs[SlabOf(page)].free |= BitOf(page);
  ++group->free;
}

void BlockPool::NoteOpen(Group* group, size_t slab) {
  const Slab& changed = group->slabs[slab];
  group->open_used.Set(slab, changed.free != 0 && changed.used > 0);
  group->open_unused.Set(slab, changed.free != 0 && changed.used == 0);
}

bool BlockPool::Fits(std::span<const size_t> pages, std::span<const std::vector<PageId>> freed) const {
  size_t bytes = 0;  // of the slabs that would be in use
  for (size_t index = 0; index < groups_.size(); ++index) {
    const Group& g = groups_[index];
    size_t used = g.used, slabs = g.used_slabs;
    if (!freed.empty()) {
      used -= freed[index].size();
      slabs -= SlabsEmptiedBy(g, freed[index]);
    }
    const size_t beside = slabs * kSlabPages - used;
    const size_t more = pages[index] > beside ? pages[index] - beside : 0;
    bytes += (slabs + (more + kSlabPages - 1) / kSlabPages) * g.slab_bytes;
  }
  return bytes <= limit_bytes_;
}

// Slabs without a used page when these pages, in ascending order, are not used any more.
size_t BlockPool::SlabsEmptiedBy(const Group& group, const std::vector<PageId>& freed) {
  size_t emptied = 0;
  for (size_t begin = 0, end = 0; begin < freed.size(); begin = end) {
    const size_t slab = SlabOf(freed[begin]);
    while (end < freed.size() && SlabOf(freed[end]) == slab) ++end;
    emptied += static_cast<int>(end - begin) == group.slabs[slab].used;
  }
  return emptied;
}

size_t BlockPool::Maximum() const {
  size_t pages = 0, bytes_of_each = 0;
  for (const Group& g : groups_) {
    pages += g.used + g.cached.size() + g.free;
    bytes_of_each += g.slab_bytes;
  }
  return pages + (limit_bytes_ - committed_bytes_) / bytes_of_each * groups_.size() * kSlabPages;
}

size_t BlockPool::CountKept(int group) const {
  const std::vector<bool>& kept = groups_[static_cast<size_t>(group)].kept;
  return static_cast<size_t>(std::count(kept.begin(), kept.end(), true));
}

bool BlockPool::Grow(int group) {
  const size_t bytes = groups_[static_cast<size_t>(group)].slab_bytes;
  return TakeEmptySlabs(group, bytes) && MapSlab(group);
}

bool BlockPool::MapSlab(int group) {
  Group& g = groups_[static_cast<size_t>(group)];
  const auto unmapped =
      std::find_if(g.slabs.begin(), g.slabs.end(), [](const Slab& slab) { return !slab.mapped; });
  const size_t slab = static_cast<size_t>(unmapped - g.slabs.begin());
  if (slab == g.slabs.size()) {
    const size_t pages = (slab + 1) * kSlabPages;
    g.references.resize(pages);
    g.kept.resize(pages);
    g.cached.Resize(pages);
    g.open_used.Resize(slab + 1);
    g.open_unused.Resize(slab + 1);
    g.slabs.emplace_back();
  }
  if (!memory_->AddSlab(group, static_cast<int>(slab), kSlabPages).ok()) return false;
  g.slabs[slab] = {true, kAllFree, 0};
  NoteOpen(&g, slab);
  g.free += kSlabPages;
  committed_bytes_ += g.slab_bytes;
  return true;
}

// Returns slabs of the other groups whose pages are all free, until `bytes` more may be committed.
bool BlockPool::TakeEmptySlabs(int group, size_t bytes) {
  for (int other = 0; other < groups(); ++other) {
    if (other == group) continue;
    const std::vector<Slab>& slabs = groups_[static_cast<size_t>(other)].slabs;
    for (size_t slab = 0; slab < slabs.size(); ++slab) {
      if (committed_bytes_ + bytes <= limit_bytes_) return true;
      if (slabs[slab].mapped && slabs[slab].free == kAllFree) Unmap(other, static_cast<int>(slab));
    }
  }
  return committed_bytes_ + bytes <= limit_bytes_;
}

// Makes a page free that the group can have, or brings it nearer to a slab: evicts what was not used for longest.
// False when neither can be.
bool BlockPool::EvictFor(int group) {
  const PageLru& own = groups_[static_cast<size_t>(group)].cached;
  const CachedSlab other = SlabToTake(group, own.size() > 0 ? own.stamp(own.oldest()) : UINT64_MAX);
  if (other.slab >= 0) {
    EvictSlab(other);
  } else if (own.size() > 0) {
    Evict(group, own.oldest());
  } else {
    return false;
  }
  return true;
}

// Of the other groups' slabs that hold only cached pages, all last used before a time, the longest unused; none,
// with -1 for its slab, when they are not enough for a slab of this group.
BlockPool::CachedSlab BlockPool::SlabToTake(int group, uint64_t before) const {
  CachedSlab longest;
  size_t committed = committed_bytes_;
  for (int other = 0; other < groups(); ++other) {
    const Group& g = groups_[static_cast<size_t>(other)];
    if (other == group || g.cached.size() == 0 || g.cached.stamp(g.cached.oldest()) >= before) continue;
    for (size_t slab = 0; slab < g.slabs.size(); ++slab) {
      if (!g.slabs[slab].mapped || g.slabs[slab].used > 0 || g.slabs[slab].free == kAllFree) continue;
      const CachedSlab candidate{other, static_cast<int>(slab), LatestUse(g, slab)};
      if (candidate.latest >= before) continue;
      committed -= g.slab_bytes;
      if (candidate.latest < longest.latest) longest = candidate;
    }
  }
  const bool enough = committed + groups_[static_cast<size_t>(group)].slab_bytes <= limit_bytes_;
  return enough ? longest : CachedSlab();
}

uint64_t BlockPool::LatestUse(const Group& group, size_t slab) {
  uint64_t latest = 0;
  for (PageId page = static_cast<PageId>(slab) * kSlabPages, i = 0; i < kSlabPages; ++i, ++page) {
    if ((group.slabs[slab].free & BitOf(page)) == 0) latest = std::max(latest, group.cached.stamp(page));
  }
  return latest;
}

void BlockPool::EvictSlab(const CachedSlab& slab) {
  const Slab& cached = groups_[static_cast<size_t>(slab.group)].slabs[static_cast<size_t>(slab.slab)];
  for (PageId page = slab.slab * kSlabPages, i = 0; i < kSlabPages; ++i, ++page) {
    if ((cached.free & BitOf(page)) == 0) Evict(slab.group, page);
  }
}

void BlockPool::Unmap(int group, int slab) {
  Group& g = groups_[static_cast<size_t>(group)];
  memory_->RemoveSlab(group, slab);
  g.slabs[static_cast<size_t>(slab)] = Slab();
  NoteOpen(&g, static_cast<size_t>(slab));
  g.free -= kSlabPages;
  committed_bytes_ -= g.slab_bytes;
}

std::string BlockPool::CheckIntegrity() const {
  size_t bytes = 0;
  for (size_t index = 0; index < groups_.size(); ++index) {
    if (std::string problem = CheckGroup(index); !problem.empty()) return problem;
    for (const Slab& slab : groups_[index].slabs) bytes += slab.mapped ? groups_[index].slab_bytes : 0;
  }
  if (bytes != committed_bytes_)
    return Format("%zu bytes are mapped, %zu are counted", bytes, committed_bytes_);
  if (bytes > limit_bytes_) return Format("%zu bytes are mapped, the limit is %zu", bytes, limit_bytes_);
  return "";
}

std::string BlockPool::CheckGroup(size_t index) const {
  const Group& g = groups_[index];
  size_t used = 0, free = 0, cached = 0, used_slabs = 0;
  for (size_t slab = 0; slab < g.slabs.size(); ++slab) {
    if (std::string problem = CheckSlab(index, slab); !problem.empty()) return problem;
    used += static_cast<size_t>(g.slabs[slab].used);
    used_slabs += g.slabs[slab].used > 0;
    free += static_cast<size_t>(std::popcount(g.slabs[slab].free));
    cached += g.slabs[slab].mapped ? kSlabPages : 0;
  }
  cached -= used + free;
  if (used != g.used || free != g.free || cached != g.cached.size() || used_slabs != g.used_slabs) {
    return Format("group %zu: %zu pages used, %zu cached, %zu free; counted are %zu, %zu and %zu", index,
                  used, cached, free, g.used, g.cached.size(), g.free);
  }
  uint64_t stamp = 0;
  size_t listed = 0;
  for (PageId page = g.cached.oldest(); page != kNoPage && listed <= cached; page = g.cached.newer(page)) {
    ++listed;
    const size_t at = static_cast<size_t>(page);
    const bool is_cached = g.references[at] == 0 && g.kept[at];
    if (!is_cached || g.cached.stamp(page) <= stamp)
      return Format("group %zu: page %d is out of place among the cached ones", index, page);
    stamp = g.cached.stamp(page);
  }
  if (listed != cached) return Format("group %zu: %zu of %zu cached pages are listed", index, listed, cached);
  return "";
}

std::string BlockPool::CheckSlab(size_t group, size_t index) const {
  const Group& g = groups_[group];
  const Slab& slab = g.slabs[index];
  int used = 0;
  for (size_t page = index * kSlabPages; page < (index + 1) * kSlabPages; ++page) {
    const bool referenced = g.references[page] > 0;
    const bool free = slab.free & BitOf(static_cast<PageId>(page));
    used += referenced;
    if (free != (slab.mapped && !referenced && !g.kept[page]) ||
        (!slab.mapped && (referenced || g.kept[page]))) {
      return Format("group %zu page %zu: %u references, kept %d, free %d, mapped %d", group, page,
                    g.references[page], static_cast<int>(g.kept[page]), static_cast<int>(free),
                    static_cast<int>(slab.mapped));
    }
  }
  const bool open = slab.free != 0;
  if (used != slab.used || g.open_used.Contains(index) != (open && used > 0) ||
      g.open_unused.Contains(index) != (open && used == 0)) {
    return Format("group %zu slab %zu: %d pages are used, %d counted, or it is listed wrongly", group, index,
                  used, slab.used);
  }
  return "";
}

}  // namespace tokenmill
