#include "kv/block_table.h"

#include <algorithm>

namespace tokenmill {

bool BlockTable::Reserve(int computed, int end) {
  const size_t needed = static_cast<size_t>((end + kPageTokens - 1) / kPageTokens);
  const size_t written = static_cast<size_t>(computed / kPageTokens);
  for (int g = 0; g < pool_->groups(); ++g) {
    std::vector<PageId>& table = tables_[static_cast<size_t>(g)];
    size_t& dropped = dropped_[static_cast<size_t>(g)];
    const size_t unseen = UnseenBlocks((*groups_)[static_cast<size_t>(g)], computed);
    for (; dropped < std::min(unseen, table.size()); ++dropped) {
      pool_->Release(g, table[dropped]);
      table[dropped] = kNoPage;
    }
    if (written < table.size() && !MakeWritable(g, written)) return false;
    table.reserve(needed);
    while (table.size() < needed) {
      const PageId page = pool_->Allocate(g);
      if (page == kNoPage) return false;
      table.push_back(page);
    }
  }
  return true;
}

// Copies the page if others may read it. Where there is no page for a copy, the prefix index has to do without it.
bool BlockTable::MakeWritable(int group, size_t block) {
  PageId& page = tables_[static_cast<size_t>(group)][block];
  const bool shared = pool_->references(group, page) > 1;
  if (!shared && !pool_->kept(group, page)) return true;
  const PageId copy = pool_->Allocate(group);
  if (copy != kNoPage) {
    pool_->CopyPage(group, page, copy);
    pool_->Release(group, std::exchange(page, copy));
  } else if (!shared && pool_->kept(group, page)) {  // asking for a page may have evicted it already
    pool_->Evict(group, page);
  }
  return copy != kNoPage || !shared;
}

void BlockTable::Share(Pages pages) {
  tables_ = std::move(pages);
  for (int g = 0; g < pool_->groups(); ++g) {
    for (const PageId page : tables_[static_cast<size_t>(g)]) {
      if (page != kNoPage) {
        pool_->AddReference(g, page);
      } else {
        ++dropped_[static_cast<size_t>(g)];
      }
    }
  }
}

void BlockTable::Fork(int computed, BlockTable* copy) const {
  Pages pages = tables_;
  const size_t blocks = static_cast<size_t>((computed + kPageTokens - 1) / kPageTokens);
  for (std::vector<PageId>& group : pages) group.resize(std::min(group.size(), blocks));
  copy->Share(std::move(pages));
}

void BlockTable::Replace(int group, size_t block, PageId page) {
  pool_->AddReference(group, page);
  pool_->Release(group, std::exchange(tables_[static_cast<size_t>(group)][block], page));
}

void BlockTable::Renumber(const PageMoves& moves) noexcept {
  for (int g = 0; g < pool_->groups(); ++g) {
    const std::vector<PageId>& to = moves[static_cast<size_t>(g)];
    for (PageId& page : tables_[static_cast<size_t>(g)]) {
      if (page != kNoPage) page = to[static_cast<size_t>(page)];
    }
  }
}

void BlockTable::Clear() {
  for (int g = 0; g < pool_->groups(); ++g) {
    std::vector<PageId>& table = tables_[static_cast<size_t>(g)];
    for (; !table.empty(); table.pop_back()) {
      if (table.back() != kNoPage) pool_->Release(g, table.back());
    }
    dropped_[static_cast<size_t>(g)] = 0;
  }
}

std::vector<PageId> BlockTable::OwnedBy(const BlockPool& pool, std::span<const BlockTable* const> tables,
                                        int group) {
  std::vector<PageId> owned;
  if (tables.empty()) return owned;
  std::vector<uint32_t> references(pool.page_ids(group));
  for (const BlockTable* table : tables) {
    for (const PageId page : table->tables_[static_cast<size_t>(group)]) {
      if (page != kNoPage) ++references[static_cast<size_t>(page)];
    }
  }
  for (size_t id = 0; id < references.size(); ++id) {
    const PageId page = static_cast<PageId>(id);
    if (references[id] > 0 && references[id] == pool.references(group, page)) owned.push_back(page);
  }
  return owned;
}

size_t BlockTable::held() const {
  size_t held = 0;
  for (int g = 0; g < pool_->groups(); ++g) held += this->held(g);
  return held;
}

size_t BlockTable::PagesAtMost(const KvGroup& group, int tokens, int chunk) {
  const auto pages = [](int count) { return static_cast<size_t>((count + kPageTokens - 1) / kPageTokens); };
  if (group.window == 0) return pages(tokens);
  return std::min(pages(tokens), pages(group.window + chunk) + 1);
}

size_t BlockTable::UnseenBlocks(const KvGroup& group, int computed) {
  return group.window > 0 ? static_cast<size_t>(std::max(0, computed - group.window + 1) / kPageTokens) : 0;
}

}  // namespace tokenmill
