// A changed limit: which slabs go back to the system, and where their pages move.

#include <algorithm>
#include <bit>
#include <numeric>

#include "kv/block_pool.h"

namespace tokenmill {
namespace {

constexpr size_t kPages = BlockPool::kSlabPages;

size_t SlabsFor(size_t pages) { return (pages + kPages - 1) / kPages; }
bool IsFree(uint16_t free, size_t page) { return free >> page % kPages & 1; }
size_t Occupied(uint16_t free) { return kPages - static_cast<size_t>(std::popcount(free)); }

}  // namespace

bool BlockPool::EvictOldest() {
  int group = -1;
  uint64_t oldest = UINT64_MAX;
  for (int g = 0; g < groups(); ++g) {
    const PageLru& cached = groups_[static_cast<size_t>(g)].cached;
    if (cached.size() == 0 || cached.stamp(cached.oldest()) >= oldest) continue;
    oldest = cached.stamp(cached.oldest());
    group = g;
  }
  if (group < 0) return false;
  Evict(group, groups_[static_cast<size_t>(group)].cached.oldest());
  return true;
}

void BlockPool::TrimCached() {
  constexpr size_t kDefault = size_t{256} << 20;
  const size_t most = cached_maximum_ > 0 ? cached_maximum_ : std::max(limit_bytes_ / 4, kDefault);
  const auto bytes = [this] {
    size_t sum = 0;
    for (const Group& g : groups_) sum += g.cached.size() * (g.slab_bytes / kPages);
    return sum;
  };
  while (bytes() > most && EvictOldest()) {
  }
}

size_t BlockPool::PackedBytes() const {
  size_t bytes = 0;
  for (const Group& g : groups_) bytes += SlabsFor(g.used + g.cached.size()) * g.slab_bytes;
  return bytes;
}

void BlockPool::SetLimit(size_t bytes) {
  const std::vector<SlabOrder> orders = ChooseSlabs(bytes);
  const PageMoves moves = PlanMoves(orders);
  if (cache_ != nullptr) {
    for (int g = 0; g < groups(); ++g) cache_->MakeRoom(g, groups_[static_cast<size_t>(g)].references.size());
  }
  // From here on nothing takes memory.
  for (int g = 0; g < groups(); ++g) {
    const std::vector<PageId>& to = moves[static_cast<size_t>(g)];
    for (PageId page = 0; page < static_cast<PageId>(to.size()); ++page) {
      if (to[static_cast<size_t>(page)] != page) MovePage(g, page, to[static_cast<size_t>(page)]);
    }
  }
  if (cache_ != nullptr) cache_->Renumber(moves);
  for (PageHolder* holder : holders_) holder->Renumber(moves);
  for (int g = 0; g < groups(); ++g) {
    const SlabOrder& order = orders[static_cast<size_t>(g)];
    for (size_t i = order.keep; i < order.slabs.size(); ++i) Unmap(g, static_cast<int>(order.slabs[i]));
  }
  limit_bytes_ = bytes;
}

BlockPool::SlabOrder BlockPool::OrderSlabs(const Group& group) const {
  SlabOrder order;
  for (size_t slab = 0; slab < group.slabs.size(); ++slab) {
    if (group.slabs[slab].mapped) order.slabs.push_back(slab);
  }
  std::ranges::stable_sort(order.slabs, [&group](size_t a, size_t b) {
    return Occupied(group.slabs[a].free) > Occupied(group.slabs[b].free);
  });
  order.keep = order.slabs.size();
  order.needed = SlabsFor(group.used + group.cached.size());
  return order;
}

// Lets go of slabs until the rest has so many bytes, those with the fewest pages to move first.
std::vector<BlockPool::SlabOrder> BlockPool::ChooseSlabs(size_t bytes) const {
  std::vector<SlabOrder> orders;
  for (const Group& group : groups_) orders.push_back(OrderSlabs(group));
  for (size_t kept = committed_bytes_; kept > bytes;) {
    size_t chosen = groups_.size();
    size_t fewest = SIZE_MAX;
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (orders[g].keep == orders[g].needed) continue;
      const size_t pages = Occupied(groups_[g].slabs[orders[g].slabs[orders[g].keep - 1]].free);
      if (pages >= fewest) continue;
      fewest = pages;
      chosen = g;
    }
    if (chosen == groups_.size()) break;
    --orders[chosen].keep;
    kept -= groups_[chosen].slab_bytes;
  }
  return orders;
}

// The pages of slabs that go fill the others, the fullest first.
PageMoves BlockPool::PlanMoves(const std::vector<SlabOrder>& orders) const {
  PageMoves moves(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const SlabOrder& order = orders[g];
    moves[g].resize(group.references.size());
    std::iota(moves[g].begin(), moves[g].end(), PageId{0});
    size_t target = 0;  // the free page to be filled next, counted through the slabs that stay
    for (size_t i = order.keep; i < order.slabs.size(); ++i) {
      for (size_t page = order.slabs[i] * kPages, end = page + kPages; page < end; ++page) {
        if (IsFree(group.slabs[order.slabs[i]].free, page)) continue;
        while (!IsFree(group.slabs[order.slabs[target / kPages]].free, target)) ++target;
        moves[g][page] = static_cast<PageId>(order.slabs[target / kPages] * kPages + target % kPages);
        ++target;
      }
    }
  }
  return moves;
}

void BlockPool::MovePage(int group, PageId from, PageId to) {
  Group& g = groups_[static_cast<size_t>(group)];
  const size_t source = static_cast<size_t>(from), target = static_cast<size_t>(to);
  memory_->CopyPage(group, from, to);
  std::swap(g.references[source], g.references[target]);
  g.kept[target] = g.kept[source];
  g.kept[source] = false;
  g.slabs[source / kPages].free |= static_cast<uint16_t>(1u << source % kPages);
  g.slabs[target / kPages].free &= static_cast<uint16_t>(~(1u << target % kPages));
  if (g.references[target] == 0) {
    g.cached.Replace(from, to);
    NoteOpen(&g, target / kPages);
    NoteOpen(&g, source / kPages);
  } else {
    AddUse(&g, to);
    DropUse(&g, from);
  }
}

}  // namespace tokenmill
