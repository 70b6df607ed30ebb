#pragma once

#include <vector>

#include "ops/page_memory.h"

namespace tokenmill {

/// Where the pages of a pool go when they move, by group and page id; a page that stays goes to itself.
using PageMoves = std::vector<std::vector<PageId>>;

/// Has ids of pages in use, whose numbers change when pages move.
class PageHolder {
 public:
  virtual void Renumber(const PageMoves& moves) noexcept = 0;

 protected:
  ~PageHolder() = default;
};

}  // namespace tokenmill
