#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "ops/program.h"

namespace tokenmill::cpu {

/// The KV pages of a program, in f16. A page of a group holds for each of its layers and kv heads
///   keys [head_dim][kPageTokens], then values [kPageTokens][head_dim rounded up to 16].
class KvCache {
 public:
  explicit KvCache(const Program& program);

  size_t page_bytes(int group) const { return groups_[static_cast<size_t>(group)].page_bytes; }
  Status AddSlab(int group, int slab, int pages);
  void RemoveSlab(int group, int slab);

  /// Keys of a layer's head in a page of the layer's group.
  uint16_t* Keys(int kv_layer, int kv_head, int32_t page) const {
    const Layer& layer = layers_[static_cast<size_t>(kv_layer)];
    const Group& group = groups_[static_cast<size_t>(layer.group)];
    std::byte* base = group.slabs[static_cast<size_t>(page / group.slab_pages)].data();
    return reinterpret_cast<uint16_t*>(base +
                                       static_cast<size_t>(page % group.slab_pages) * group.page_bytes +
                                       layer.offset + static_cast<size_t>(kv_head) * layer.head_bytes);
  }
  /// From keys to values of the same head and page, in elements.
  static int64_t ValuesOffset(int head_dim) { return int64_t{kPageTokens} * head_dim; }
  static int PaddedDim(int head_dim) { return (head_dim + 15) / 16 * 16; }

 private:
  struct Layer {
    int group;
    size_t offset;  // in a page
    size_t head_bytes;
  };
  struct Group {
    size_t page_bytes = 0;
    int slab_pages = 1;
    std::vector<SystemBuffer> slabs;
  };

  std::vector<Layer> layers_;
  std::vector<Group> groups_;
};

}  // namespace tokenmill::cpu
