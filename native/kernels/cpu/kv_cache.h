#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "kernels/cpu/kernels.h"
#include "ops/backend.h"
#include "ops/program.h"

namespace tokenmill::cpu {

/// One kv head's part of a page. The scales, one a token, are null where elements are not scaled.
struct KvHead {
  std::byte* keys;  // [head_dim][kPageTokens]
  float* key_scales;
  std::byte* values;  // [kPageTokens][head_dim rounded up to 16]
  float* value_scales;
};

/// The KV pages of a program, in f16, or in int8 with a scale per token and head. A page of a group holds for each
/// of its layers and kv heads keys, their scales, values and theirs.
class KvCache {
 public:
  KvCache(const Program& program, KvType type);

  KvElement element() const { return type_ == KvType::kInt8 ? KvElement::kInt8 : KvElement::kHalf; }
  int element_bytes() const { return type_ == KvType::kInt8 ? 1 : 2; }

  size_t page_bytes(int group) const { return groups_[static_cast<size_t>(group)].page_bytes; }
  Status AddSlab(int group, int slab, int pages);
  void RemoveSlab(int group, int slab);
  void CopyPage(int group, PageId from, PageId to);
  /// As Executor has them.
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const;
  void WritePage(int group, PageId page, const std::byte* in);

  /// A layer's head in a page of the layer's group.
  KvHead Head(int kv_layer, int kv_head, PageId page) const {
    const Layer& layer = layers_[static_cast<size_t>(kv_layer)];
    const Group& group = groups_[static_cast<size_t>(layer.group)];
    std::byte* keys = group.Page(page) + layer.offset + static_cast<size_t>(kv_head) * layer.head_bytes;
    std::byte* values = keys + layer.key_bytes + scale_bytes();
    if (type_ == KvType::kF16) return {keys, nullptr, values, nullptr};
    std::byte* value_scales = keys + layer.head_bytes - scale_bytes();
    return {keys, reinterpret_cast<float*>(keys + layer.key_bytes), values,
            reinterpret_cast<float*>(value_scales)};
  }
  static int PaddedDim(int head_dim) { return (head_dim + 15) / 16 * 16; }

 private:
  struct Layer {
    int group;
    int kv_heads, head_dim;
    size_t offset;  // in a page
    size_t key_bytes;
    size_t head_bytes;
  };
  struct Group {
    size_t page_bytes = 0;
    int slab_pages = 1;
    std::vector<SystemBuffer> slabs;

    std::byte* Page(PageId page) const {
      return slabs[static_cast<size_t>(page / slab_pages)].data() +
             static_cast<size_t>(page % slab_pages) * page_bytes;
    }
  };

  size_t scale_bytes() const { return type_ == KvType::kF16 ? 0 : kPageTokens * sizeof(float); }

  const KvType type_;
  std::vector<Layer> layers_;
  std::vector<Group> groups_;
};

}  // namespace tokenmill::cpu
