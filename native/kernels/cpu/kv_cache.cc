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
    layers_.push_back({layer.group, layer.kv_heads, layer.head_dim, group.page_bytes, key_bytes, head_bytes});
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

void KvCache::ReadPage(int group_index, PageId page, int tokens, std::byte* out) const {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  std::memcpy(out, group.Page(page), group.page_bytes);
  const size_t kept = static_cast<size_t>(tokens), rest = kPageTokens - kept;
  if (rest == 0) return;
  const size_t element = static_cast<size_t>(element_bytes());
  const auto clear = [&](std::byte* first, size_t bytes_of_token) {  // [kPageTokens] of so many bytes
    std::memset(first + kept * bytes_of_token, 0, rest * bytes_of_token);
  };
  for (const Layer& layer : layers_) {
    if (layer.group != group_index) continue;
    for (int h = 0; h < layer.kv_heads; ++h) {
      std::byte* keys = out + layer.offset + static_cast<size_t>(h) * layer.head_bytes;
      for (int d = 0; d < layer.head_dim; ++d)
        clear(keys + static_cast<size_t>(d) * kPageTokens * element, element);
      clear(keys + layer.key_bytes + scale_bytes(), element * static_cast<size_t>(PaddedDim(layer.head_dim)));
      if (type_ == KvType::kF16) continue;
      clear(keys + layer.key_bytes, sizeof(float));
      clear(keys + layer.head_bytes - scale_bytes(), sizeof(float));
    }
  }
}

void KvCache::WritePage(int group_index, PageId page, const std::byte* in) {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  std::memcpy(group.Page(page), in, group.page_bytes);
}

}  // namespace tokenmill::cpu
