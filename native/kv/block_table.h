#pragma once

#include <array>
#include <span>
#include <vector>

#include "kv/block_pool.h"
#include "ops/program.h"

namespace tokenmill {

/// One sequence's pages: per KV group the page of each kPageTokens positions. Owns a reference on each page. Pages
/// may be shared with other tables and with the prefix index; a shared page is copied before it is written.
class BlockTable final : public PageHolder {
 public:
  using Pages = std::array<std::vector<PageId>, kMaxKvGroups>;

  BlockTable(BlockPool* pool, const std::vector<KvGroup>* groups) : pool_(pool), groups_(groups) {
    pool_->AddHolder(this);
  }
  ~BlockTable() {
    Clear();
    pool_->RemoveHolder(this);
  }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;

  /// Pages for positions `computed` … `end` - 1 that are this table's alone, and drops windowed pages that no
  /// position from `computed` on sees. False when the pool runs out; what was taken stays and the call can be
  /// repeated.
  bool Reserve(int computed, int end);

  /// Fills an empty table with pages that have other owners, kNoPage for those that a window has passed.
  void Share(Pages pages);
  /// Fills an empty table with the pages of this one's first `computed` positions. Both go on from there.
  void Fork(int computed, BlockTable* copy) const;
  /// Puts another page with the same contents in the place of a block's.
  void Replace(int group, size_t block, PageId page);

  void Renumber(const PageMoves& moves) noexcept override;

  /// Gives all pages back, the last block's first: the order in which cached ones are evicted.
  void Clear();

  const PageId* pages(int group) const { return tables_[static_cast<size_t>(group)].data(); }
  size_t blocks(int group) const { return tables_[static_cast<size_t>(group)].size(); }

  /// Pages held in one group, and over all groups.
  size_t held(int group) const {
    return tables_[static_cast<size_t>(group)].size() - dropped_[static_cast<size_t>(group)];
  }
  size_t held() const;
  /// Pages of one group that nobody holds but these tables, ascending.
  static std::vector<PageId> OwnedBy(const BlockPool& pool, std::span<const BlockTable* const> tables,
                                     int group);

  /// Most pages that a sequence of `tokens` positions, computed `chunk` rows at a time, holds in one group.
  static size_t PagesAtMost(const KvGroup& group, int tokens, int chunk);
  /// Blocks at the beginning that no position from `computed` on sees.
  static size_t UnseenBlocks(const KvGroup& group, int computed);

 private:
  bool MakeWritable(int group, size_t block);

  BlockPool* const pool_;
  const std::vector<KvGroup>* const groups_;
  Pages tables_;
  std::array<size_t, kMaxKvGroups> dropped_ = {};  // leading entries that are kNoPage
};

}  // namespace tokenmill
