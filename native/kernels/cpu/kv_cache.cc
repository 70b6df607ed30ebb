#include "kernels/cpu/kv_cache.h"

#include <cstring>

namespace tokenmill::cpu {

KvCache::KvCache(const Program& program, KvType type) : type_(type), groups_(program.kv_groups.size()) {
  for (const KvLayer& layer : program.kv_layers) {
    Group& group = groups_[static_cast<size_t>(layer.group)];
    const size_t line_bytes = static_cast<size_t>(element_bytes()) * kPageTokens;
    const size_t key_bytes = line_bytes * static_cast<size_t>(layer.head_dim);
    const size_t value_bytes = line_bytes * static_cast<size_t>(PaddedDim(layer.head_dim));
    const size_t head_bytes = key_bytes + value_bytes + 2 * scale_bytes();
    layers_.push_back({layer.group, group.page_bytes, key_bytes, head_bytes});
    group.page_bytes += static_cast<size_t>(layer.kv_heads) * head_bytes;
  }
}

Status KvCache::AddSlab(int group_index, int slab, int pages) {
  Group& group = groups_[static_cast<size_t>(group_index)];
  group.slab_pages = pages;
  const size_t bytes = group.page_bytes * static_cast<size_t>(pages);
  if (static_cast<size_t>(slab) >= group.slabs.size()) group.slabs.resize(static_cast<size_t>(slab) + 1);
  group.slabs[static_cast<size_t>(slab)] = SystemBuffer(bytes);
  if (group.slabs[static_cast<size_t>(slab)]) return {};
  return Error(Code::kOutOfMemory, "the system refused %zu bytes for %d pages of the KV cache", bytes, pages);
}

void KvCache::RemoveSlab(int group, int slab) {
  groups_[static_cast<size_t>(group)].slabs[static_cast<size_t>(slab)] = SystemBuffer();
}

void KvCache::CopyPage(int group_index, PageId from, PageId to) {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  std::memcpy(group.Page(to), group.Page(from), group.page_bytes);
}

}  // namespace tokenmill::cpu
