#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tokenizer/merge_table.h"

namespace tokenmill {

/// A part of a piece while it merges.
struct Symbol {
  Token id;        // -1: no token has these bytes
  uint32_t begin;  // first byte within the piece; it ends where the next symbol begins
};

/// Byte-pair merging: again and again the neighbours with the lowest rank, the leftmost of equals, become
/// one. Short pieces scan an array; long ones keep a heap, so that time is n log n and memory linear whatever
/// the text. One object serves one thread and is reused from piece to piece.
class Merger {
 public:
  /// The symbols to merge; refilled by the caller, in order, before each Run.
  std::vector<Symbol> symbols;

  /// Merges `symbols` in place. `size` is the piece's length in bytes. `lookup(left, right, end)` is the
  /// Merge of two neighbours, of which the right one ends at byte `end` of the piece.
  template <class Lookup>
  void Run(uint32_t size, const Lookup& lookup) {
    if (symbols.size() < 2) return;
    if (symbols.size() <= kShort) {
      RunShort(size, lookup);
    } else {
      RunLong(size, lookup);
    }
  }

 private:
  static constexpr size_t kShort = 48;
  static constexpr uint32_t kEnd = UINT32_MAX;

  template <class Lookup>
  void RunShort(uint32_t size, const Lookup& lookup) {
    size_t count = symbols.size();
    Symbol* const s = symbols.data();
    Merge merges[kShort];  // merges[i] is that of symbols i and i + 1
    const auto find = [&](size_t i) { return lookup(s[i], s[i + 1], i + 2 < count ? s[i + 2].begin : size); };
    for (size_t i = 0; i + 1 < count; ++i) merges[i] = find(i);
    while (count > 1) {
      size_t best = 0;
      for (size_t i = 1; i + 1 < count; ++i) {
        if (merges[i].rank < merges[best].rank) best = i;
      }
      if (merges[best].rank == Merge::kNone) break;
      s[best].id = merges[best].product;
      std::copy(s + best + 2, s + count, s + best + 1);
      std::copy(merges + best + 1, merges + count - 1, merges + best);
      --count;
      if (best > 0) merges[best - 1] = find(best - 1);
      if (best + 1 < count) merges[best] = find(best);
    }
    symbols.resize(count);
  }

  template <class Lookup>
  void RunLong(uint32_t size, const Lookup& lookup) {
    const uint32_t count = static_cast<uint32_t>(symbols.size());
    links_.resize(count);
    heap_.clear();
    const auto refresh = [&](uint32_t i) {
      Link& link = links_[i];
      if (link.next == kEnd) {
        link.merge = {};
        return false;
      }
      const uint32_t after = links_[link.next].next;
      link.merge = lookup(symbols[i], symbols[link.next], after == kEnd ? size : symbols[after].begin);
      return link.merge.rank != Merge::kNone;
    };
    for (uint32_t i = 0; i < count; ++i)
      links_[i] = {i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1, {}};
    for (uint32_t i = 0; i < count; ++i) {
      if (refresh(i)) heap_.push_back(HeapKey(i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const uint64_t key = heap_.back();
      heap_.pop_back();
      const uint32_t at = static_cast<uint32_t>(key);
      // An entry is out of date when its neighbours have merged with others: then the rank there is another.
      if (links_[at].merge.rank != static_cast<uint32_t>(key >> 32)) continue;
      MergeWithNext(at);
      for (const uint32_t i : {links_[at].previous, at}) {
        if (i == kEnd || !refresh(i)) continue;
        heap_.push_back(HeapKey(i));
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
      }
    }
    Compact();
  }

  uint64_t HeapKey(uint32_t at) const { return static_cast<uint64_t>(links_[at].merge.rank) << 32 | at; }

  void MergeWithNext(uint32_t at) {
    const uint32_t gone = links_[at].next;
    symbols[at].id = links_[at].merge.product;
    links_[at].next = links_[gone].next;
    if (links_[gone].next != kEnd) links_[links_[gone].next].previous = at;
    links_[gone].merge = {};
  }

  /// Closes the gaps that merged symbols left.
  void Compact() {
    size_t kept = 0;
    for (uint32_t i = 0; i != kEnd; i = links_[i].next) symbols[kept++] = symbols[i];
    symbols.resize(kept);
  }

  struct Link {
    uint32_t previous, next;  // kEnd: none
    Merge merge;  // with the next symbol
  };
  std::vector<Link> links_;
  std::vector<uint64_t> heap_;  // rank << 32 | index, least first
};

}  // namespace tokenmill
