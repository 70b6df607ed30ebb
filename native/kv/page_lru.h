#pragma once

#include <cstdint>
#include <vector>

#include "ops/page_memory.h"

namespace tokenmill {

/// Pages in the order of their last use: a list through an array, so that only Resize allocates.
class PageLru {
 public:
  /// For page ids below `pages`.
  void Resize(size_t pages) { links_.resize(pages); }

  /// Stamps must not fall from call to call.
  void PushNewest(PageId page, uint64_t stamp) {
    link(page) = {newest_, kNoPage, stamp};
    (newest_ == kNoPage ? oldest_ : link(newest_).newer) = page;
    newest_ = page;
    ++size_;
  }

  void Remove(PageId page) {
    const Link& removed = link(page);
    (removed.older == kNoPage ? oldest_ : link(removed.older).newer) = removed.newer;
    (removed.newer == kNoPage ? newest_ : link(removed.newer).older) = removed.older;
    --size_;
  }

  /// Puts another page in the place of one.
  void Replace(PageId page, PageId other) {
    const Link moved = link(page);
    link(other) = moved;
    (moved.older == kNoPage ? oldest_ : link(moved.older).newer) = other;
    (moved.newer == kNoPage ? newest_ : link(moved.newer).older) = other;
  }

  size_t size() const { return size_; }
  PageId oldest() const { return oldest_; }
  PageId newer(PageId page) const { return links_[static_cast<size_t>(page)].newer; }
  uint64_t stamp(PageId page) const { return links_[static_cast<size_t>(page)].stamp; }

 private:
  struct Link {
    PageId older = kNoPage, newer = kNoPage;
    uint64_t stamp = 0;
  };

  Link& link(PageId page) { return links_[static_cast<size_t>(page)]; }

  std::vector<Link> links_;
  PageId oldest_ = kNoPage, newest_ = kNoPage;
  size_t size_ = 0;
};

}  // namespace tokenmill
