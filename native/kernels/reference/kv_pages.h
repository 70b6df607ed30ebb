#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
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
      head_dims_.push_back(static_cast<size_t>(layer.head_dim));
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
  /// As Executor has them.
  void ReadPage(int page, int tokens, std::byte* out) const {
    std::memcpy(out, Page(page), page_bytes());
    for (size_t i = 0; i < head_dims_.size(); ++i) {
      const size_t dim = head_dims_[i],
                   end = i + 1 < head_dims_.size() ? layer_offsets_[i + 1] : page_floats_;
      const size_t kept = static_cast<size_t>(tokens) * dim;
      for (size_t at = layer_offsets_[i]; at < end; at += dim * kPageTokens)
        std::memset(out + (at + kept) * sizeof(float), 0, (dim * kPageTokens - kept) * sizeof(float));
    }
  }
  void WritePage(int page, const std::byte* in) { std::memcpy(Page(page), in, page_bytes()); }

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
  std::vector<size_t> head_dims_;  // likewise
  std::vector<SystemBuffer> slabs_;
};

}  // namespace tokenmill::reference
