#pragma once

// How keys and values lie in a page (views.h, KvLayerView): per layer of the group and kv head, kPageTokens keys
// [head_dim], as many values, and in the INT8 form f32 scales of the keys, then of the values. For host and device.
// A page's size and every offset is a multiple of 16 bytes when head_dim is one of 16; asynchronous copies need that.
//
// Two rules about what is stored let a position that a row does not see contribute exactly nothing to it:
//   f16   finite numbers beyond the range, and infinities, become ±65504. Values are never NaN: one whose elements
//         are is stored as zeros with its first key element NaN, so that whoever sees the position still gets NaN.
//   int8  levels round(x / scale), scale = largest magnitude / 127; NaN or infinite elements make the scale NaN and
//         the levels 0. Scales of positions that are not seen are not used.

#include <stdint.h>

#ifdef __CUDACC__
#define TM_KV_FN static __host__ __device__ __forceinline__ constexpr
#else
#include <cstddef>
#include <cstring>

#include "ops/program.h"
#define TM_KV_FN [[maybe_unused]] static constexpr
#endif

namespace tokenmill::cuda {

/// ops/program.h has the same numbers.
static constexpr int kKvPageTokens = 16;
static constexpr int kKvSegmentTokens = 256;

/// Bytes of 16 keys, or of 16 values.
TM_KV_FN int64_t KvRowsBytes(int head_dim, bool int8) { return int64_t{kKvPageTokens} * head_dim * (int8 ? 1 : 2); }
/// Where the 16 scales of the keys begin, followed by those of the values.
TM_KV_FN int64_t KvScalesOffset(int head_dim) { return 2 * KvRowsBytes(head_dim, true); }
/// Of one kv head in a page.
TM_KV_FN int64_t KvHeadBytes(int head_dim, bool int8) {
  return 2 * KvRowsBytes(head_dim, int8) + (int8 ? 2 * kKvPageTokens * int64_t{sizeof(float)} : 0);
}

#ifndef __CUDACC__
static_assert(kKvPageTokens == kPageTokens && kKvSegmentTokens == kSegmentTokens);

/// Bytes of a page of a group; with `layer`, where that layer's part begins in it.
inline int64_t KvPageBytes(const Program& program, int group, bool int8, int layer = -1) {
  int64_t bytes = 0;
  for (int i = 0; i < static_cast<int>(program.kv_layers.size()); ++i) {
    const KvLayer& of = program.kv_layers[static_cast<size_t>(i)];
    if (i == layer) return bytes;
    if (of.group == group) bytes += of.kv_heads * KvHeadBytes(of.head_dim, int8);
  }
  return bytes;
}

/// Zeros what lies behind the first `tokens` tokens of a page that was copied to the host.
inline void ClearKvPage(const Program& program, int group, bool int8, int tokens, std::byte* page) {
  const auto clear = [tokens](std::byte* first, int64_t bytes_of_token) {
    std::memset(first + tokens * bytes_of_token, 0,
                static_cast<size_t>((kPageTokens - tokens) * bytes_of_token));
  };
  for (const KvLayer& layer : program.kv_layers) {
    if (layer.group != group) continue;
    const int64_t rows_bytes = KvRowsBytes(layer.head_dim, int8);
    for (int h = 0; h < layer.kv_heads; ++h, page += KvHeadBytes(layer.head_dim, int8)) {
      clear(page, rows_bytes / kPageTokens);
      clear(page + rows_bytes, rows_bytes / kPageTokens);
      if (!int8) continue;
      clear(page + KvScalesOffset(layer.head_dim), sizeof(float));
      clear(page + KvScalesOffset(layer.head_dim) + kPageTokens * sizeof(float), sizeof(float));
    }
  }
}
#endif

}  // namespace tokenmill::cuda
