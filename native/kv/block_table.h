#pragma once

#include <array>
#include <vector>

#include "kv/block_pool.h"
#include "ops/program.h"

namespace tokenmill {

/// One sequence's pages: per KV group the page of each kPageTokens positions. Owns a reference on each page.
class BlockTable {
 public:
  BlockTable(BlockPool* pool, const std::vector<KvGroup>* groups) : pool_(pool), groups_(groups) {}
  ~BlockTable() { Clear(); }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;

  /// Pages for positions `computed` … `end` - 1, and drops windowed pages that no position from `computed` on
  /// sees. False when the pool runs out; what was taken stays and the call can be repeated.
  bool Reserve(int computed, int end);

  /// Gives all pages back.
  void Clear();

  const int32_t* pages(int group) const { return tables_[static_cast<size_t>(group)].data(); }

  /// Pages held in one group, and over all groups.
  size_t held(int group) const {
    return tables_[static_cast<size_t>(group)].size() - dropped_[static_cast<size_t>(group)];
  }
  size_t held() const;

  /// Most pages that a sequence of `tokens` positions, computed `chunk` rows at a time, holds in one group.
  static size_t PagesAtMost(const KvGroup& group, int tokens, int chunk);

 private:
  BlockPool* const pool_;
  const std::vector<KvGroup>* const groups_;
  std::array<std::vector<int32_t>, kMaxKvGroups> tables_;
  std::array<size_t, kMaxKvGroups> dropped_ = {};  // leading entries that are kNoPage
};

}  // namespace tokenmill
