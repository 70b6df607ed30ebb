#include "kv/block_table.h"

#include <algorithm>

namespace tokenmill {

bool BlockTable::Reserve(int computed, int end) {
  const size_t needed = static_cast<size_t>((end + kPageTokens - 1) / kPageTokens);
  for (int g = 0; g < pool_->groups(); ++g) {
    std::vector<int32_t>& table = tables_[static_cast<size_t>(g)];
    size_t& dropped = dropped_[static_cast<size_t>(g)];
    const int window = (*groups_)[static_cast<size_t>(g)].window;
    const size_t unseen =
        window > 0 ? static_cast<size_t>(std::max(0, computed - window + 1) / kPageTokens) : 0;
    for (; dropped < std::min(unseen, table.size()); ++dropped) {
      pool_->Release(g, table[dropped]);
      table[dropped] = kNoPage;
    }
    while (table.size() < needed) {
      const PageId page = pool_->Allocate(g);
      if (page == kNoPage) return false;
      table.push_back(page);
    }
  }
  return true;
}

void BlockTable::Clear() {
  for (int g = 0; g < pool_->groups(); ++g) {
    for (const int32_t page : tables_[static_cast<size_t>(g)]) {
      if (page != kNoPage) pool_->Release(g, page);
    }
    tables_[static_cast<size_t>(g)].clear();
    dropped_[static_cast<size_t>(g)] = 0;
  }
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

}  // namespace tokenmill
