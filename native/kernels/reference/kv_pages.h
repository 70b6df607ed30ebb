#pragma once

#include <algorithm>
#include <vector>

#include "core/memory.h"
#include "ops/program.h"

namespace tokenmill::reference {

/// f32 pages of one KV group. A page holds for each of the group's layers and kv heads kPageTokens keys, then
/// kPageTokens values, each [head_dim].
class KvPages {
 public:
  KvPages(const Program& program, int group) {
    for (const KvLayer& layer : program.kv_layers) {
      if (layer.group != group) continue;
      layer_offsets_.push_back(page_floats_);
      page_floats_ +=
          size_t{2} * kPageTokens * static_cast<size_t>(layer.kv_heads) * static_cast<size_t>(layer.head_dim);
    }
  }

  size_t page_bytes() const { return page_floats_ * sizeof(float); }

  bool AddSlab(int slab, int pages) {
    slab_pages_ = pages;
    if (static_cast<size_t>(slab) >= slabs_.size()) slabs_.resize(static_cast<size_t>(slab) + 1);
    slabs_[static_cast<size_t>(slab)] = SystemBuffer(page_bytes() * static_cast<size_t>(pages));
    return static_cast<bool>(slabs_[static_cast<size_t>(slab)]);
  }
  void RemoveSlab(int slab) { slabs_[static_cast<size_t>(slab)] = SystemBuffer(); }
  void CopyPage(int from, int to) { std::copy_n(Page(from), page_floats_, Page(to)); }

  /// Key of a position that lies in `page`; the value follows kPageTokens * head_dim floats later.
  float* Key(const KvLayer& layer, int page, int kv_head, int64_t position) const {
    float* base = Page(page) + layer_offsets_[static_cast<size_t>(layer.index)];
    return base + (int64_t{kv_head} * 2 * kPageTokens + position % kPageTokens) * layer.head_dim;
  }
  float* Value(const KvLayer& layer, int page, int kv_head, int64_t position) const {
    return Key(layer, page, kv_head, position) + int64_t{kPageTokens} * layer.head_dim;
  }

 private:
  float* Page(int page) const {
    return slabs_[static_cast<size_t>(page / slab_pages_)].as<float>() +
           static_cast<size_t>(page % slab_pages_) * page_floats_;
  }

  size_t page_floats_ = 0;
  int slab_pages_ = 1;
  std::vector<size_t> layer_offsets_;
  std::vector<SystemBuffer> slabs_;
};

}  // namespace tokenmill::reference
