#include "kv/block_pool.h"

#include <algorithm>

namespace tokenmill {

BlockPool::BlockPool(PageMemory* memory, int groups, size_t limit_bytes)
    : memory_(memory), limit_bytes_(limit_bytes), groups_(static_cast<size_t>(groups)) {
  for (int g = 0; g < groups; ++g)
    groups_[static_cast<size_t>(g)].slab_bytes = memory->PageBytes(g) * kSlabPages;
}

BlockPool::~BlockPool() {
  for (int g = 0; g < groups(); ++g) {
    for (size_t slab = 0; slab < groups_[static_cast<size_t>(g)].mapped.size(); ++slab) {
      if (groups_[static_cast<size_t>(g)].mapped[slab]) memory_->RemoveSlab(g, static_cast<int>(slab));
    }
  }
}

PageId BlockPool::Allocate(int group) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (g.free == 0 && !Grow(group)) return kNoPage;
  size_t slab = 0;
  while (!g.mapped[slab] || g.used_in_slab[slab] == kSlabPages) ++slab;
  size_t page = slab * kSlabPages;
  while (g.references[page] > 0) ++page;
  g.references[page] = 1;
  ++g.used_in_slab[slab];
  ++g.used;
  --g.free;
  return static_cast<PageId>(page);
}

void BlockPool::AddReference(int group, PageId page) {
  ++groups_[static_cast<size_t>(group)].references[static_cast<size_t>(page)];
}

void BlockPool::Release(int group, PageId page) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (--g.references[static_cast<size_t>(page)] > 0) return;
  --g.used_in_slab[static_cast<size_t>(page / kSlabPages)];
  --g.used;
  ++g.free;
}

bool BlockPool::Fits(std::span<const size_t> pages) const {
  size_t bytes = 0;  // of the slabs that would be in use
  for (size_t index = 0; index < groups_.size(); ++index) {
    const Group& g = groups_[index];
    const auto unused = std::count(g.used_in_slab.begin(), g.used_in_slab.end(), 0);
    const size_t slabs = g.used_in_slab.size() - static_cast<size_t>(unused);
    const size_t beside = slabs * kSlabPages - g.used;
    const size_t more = pages[index] > beside ? pages[index] - beside : 0;
    bytes += (slabs + (more + kSlabPages - 1) / kSlabPages) * g.slab_bytes;
  }
  return bytes <= limit_bytes_;
}

size_t BlockPool::Maximum() const {
  size_t pages = 0, bytes_of_each = 0;
  for (const Group& g : groups_) {
    pages += g.used + g.free;
    bytes_of_each += g.slab_bytes;
  }
  return pages + (limit_bytes_ - committed_bytes_) / bytes_of_each * groups_.size() * kSlabPages;
}

bool BlockPool::Grow(int group) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (committed_bytes_ + g.slab_bytes > limit_bytes_ && !ReclaimFrom(group, g.slab_bytes)) return false;
  const size_t slab =
      static_cast<size_t>(std::find(g.mapped.begin(), g.mapped.end(), false) - g.mapped.begin());
  if (!memory_->AddSlab(group, static_cast<int>(slab), kSlabPages).ok()) return false;
  if (slab == g.mapped.size()) {
    g.mapped.push_back(false);
    g.used_in_slab.push_back(0);
    g.references.resize(g.references.size() + kSlabPages);
  }
  g.mapped[slab] = true;
  committed_bytes_ += g.slab_bytes;
  g.free += kSlabPages;
  return true;
}

// Returns slabs of the other groups that no page uses, until `bytes` more may be committed.
bool BlockPool::ReclaimFrom(int group, size_t bytes) {
  for (int other = 0; other < groups(); ++other) {
    if (other == group) continue;
    Group& o = groups_[static_cast<size_t>(other)];
    for (size_t slab = 0; slab < o.mapped.size(); ++slab) {
      if (committed_bytes_ + bytes <= limit_bytes_) return true;
      if (o.mapped[slab] && o.used_in_slab[slab] == 0) Unmap(other, static_cast<int>(slab));
    }
  }
  return committed_bytes_ + bytes <= limit_bytes_;
}

void BlockPool::Unmap(int group, int slab) {
  Group& g = groups_[static_cast<size_t>(group)];
  memory_->RemoveSlab(group, slab);
  g.mapped[static_cast<size_t>(slab)] = false;
  g.free -= kSlabPages;
  committed_bytes_ -= g.slab_bytes;
}

std::string BlockPool::CheckIntegrity() const {
  size_t bytes = 0;
  for (size_t index = 0; index < groups_.size(); ++index) {
    const Group& g = groups_[index];
    size_t used = 0, pages = 0;
    for (size_t slab = 0; slab < g.mapped.size(); ++slab) {
      const auto first = g.references.begin() + static_cast<std::ptrdiff_t>(slab * kSlabPages);
      const auto unused = std::count(first, first + kSlabPages, 0u);
      const int in_slab = kSlabPages - static_cast<int>(unused);
      if (in_slab != g.used_in_slab[slab] || (in_slab > 0 && !g.mapped[slab])) {
        return Format("group %zu slab %zu: %d pages have references, %d are counted, mapped %d", index, slab,
                      in_slab, g.used_in_slab[slab], static_cast<int>(g.mapped[slab]));
      }
      used += static_cast<size_t>(in_slab);
      pages += g.mapped[slab] ? kSlabPages : 0;
      bytes += g.mapped[slab] ? g.slab_bytes : 0;
    }
    if (used != g.used || pages != g.used + g.free) {
      return Format("group %zu: %zu of %zu pages have references, %zu used and %zu free are counted", index,
                    used, pages, g.used, g.free);
    }
  }
  if (bytes != committed_bytes_)
    return Format("%zu bytes are mapped, %zu are counted", bytes, committed_bytes_);
  return "";
}

}  // namespace tokenmill
