#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "harness.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"

namespace tokenmill {

/// What a position's keys and values stand for: everything up to it.
using History = uint64_t;

inline History HistoryOf(uint64_t space, const std::vector<int32_t>& tokens, size_t length) {
  History history = 1469598103934665603ull ^ space;
  for (size_t i = 0; i < length; ++i)
    history = (history ^ static_cast<uint64_t>(tokens[i])) * 1099511628211ull;
  return history;
}

/// Pages that hold the history of each position.
class TokenMemory final : public PageMemory {
 public:
  explicit TokenMemory(std::vector<size_t> page_bytes) : page_bytes_(std::move(page_bytes)) {}

  size_t PageBytes(int group) const override { return page_bytes_[static_cast<size_t>(group)]; }
  Status AddSlab(int group, int slab, int pages) override {
    for (int p = 0; p < pages; ++p) EXPECT(pages_.try_emplace({group, slab * pages + p}, kPageTokens).second);
    return {};
  }
  void RemoveSlab(int group, int slab) override {
    for (int p = 0; p < BlockPool::kSlabPages; ++p) {
      const auto removed = pages_.erase({group, slab * BlockPool::kSlabPages + p});
      EXPECT_EQ(removed, 1u);
    }
  }
  void CopyPage(int group, PageId from, PageId to) override {
    pages_.at({group, to}) = pages_.at({group, from});
    ++copies;
  }

  History& Slot(int group, PageId page, size_t position) {
    return pages_.at({group, page})[position % kPageTokens];
  }

  /// As a step would: to all groups, and only to pages that nobody else reads.
  void Write(const BlockPool& pool, const BlockTable& table, uint64_t space,
             const std::vector<int32_t>& tokens, size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const History history = HistoryOf(space, tokens, p + 1);
      for (int g = 0; g < pool.groups(); ++g) {
        const PageId page = table.pages(g)[p / kPageTokens];
        EXPECT(pool.references(g, page) == 1 && !pool.kept(g, page));
        Slot(g, page, p) = history;
      }
    }
  }

  /// Whether a table shows what the next position is to see.
  bool Shows(const BlockTable& table, const std::vector<KvGroup>& groups, uint64_t space,
             const std::vector<int32_t>& tokens, size_t computed) {
    for (size_t p = 0; p < computed; ++p) {
      const History history = HistoryOf(space, tokens, p + 1);
      for (size_t g = 0; g < groups.size(); ++g) {
        const size_t window = static_cast<size_t>(groups[g].window);
        if (window > 0 && p + window <= computed) continue;
        const PageId page = table.pages(static_cast<int>(g))[p / kPageTokens];
        if (page == kNoPage || Slot(static_cast<int>(g), page, p) != history) return false;
      }
    }
    return true;
  }

  int copies = 0;

 private:
  std::vector<size_t> page_bytes_;
  std::map<std::pair<int, PageId>, std::vector<History>> pages_;
};

/// Whether the tables' pages are all the references that a pool counts.
template <class Tables>
bool ReferencesMatch(const BlockPool& pool, const Tables& tables) {
  for (int g = 0; g < pool.groups(); ++g) {
    std::map<PageId, uint32_t> references;
    for (const BlockTable* table : tables) {
      for (size_t b = 0; b < table->blocks(g); ++b) {
        if (table->pages(g)[b] != kNoPage) ++references[table->pages(g)[b]];
      }
    }
    for (const auto& [page, count] : references) {
      if (count != pool.references(g, page)) return false;
    }
    if (references.size() != pool.used(g)) return false;
  }
  return true;
}

}  // namespace tokenmill
