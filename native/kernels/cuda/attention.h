#pragma once

// PagedAttention of ops/program.h over f16 or int8 pages (kv_layout.h), for decode and prefill, with the same bits for
// a row from either kernel and from any tiles:
//
//   blocks of 64 absolute positions (32 for heads of 128 and 256): scores by mma over ascending elements of the head;
//     the block's own maximum m, weights w = 2^(score - m), their sum, and the sum of weight * value from zero by mma
//   segments of 256 positions: blocks merge in ascending order, from nothing
//   the row: segments merge in ascending order, from nothing; then it is divided by the sum
//
// Merging takes (m, sum, out) to (m', sum * a + sum' * b, out * a + out' * b) by fma, with m' the larger maximum,
// a = 2^(m - m') and b likewise; what a row does not see at all leaves its bits as they are.
//
// Rounding: q / 2^e to f16, where 2^e brings the head's largest magnitude into [2^11, 2^12) (e = 0 for a head of zeros
// or one that is not finite, and at least -100); keys and values as stored; weights to f16, for int8 values after they
// were multiplied by the values' scales and divided by the power of two below the block's largest such product.
// Scores, sums and outputs are f32.

#include <stdint.h>

#include "kernels/cuda/views.h"

namespace tokenmill::cuda {

struct AttentionParams {
  StepView step;
  KvLayerView kv;
  const AttentionTile* tiles;
  const int32_t* tile_count;  // in device memory, for example &step.counts->attention_tiles
  const float* q;             // [rows, query_heads * head_dim]
  float* out;                 // likewise, not q; AttentionPrefill keeps sums of earlier segments there
  float scale;
  float softcap;  // 0: none

  // Of AttentionDecode alone. Unwritten: of any contents.
  float* partials;     // AttentionPartialFloats(…)
  int32_t* counters;   // [tiles_max * AttentionHeadTiles(…)], zeros; zeros again after each launch
  int32_t segments;    // for each tile: at least AttentionSegments of every tile
  int32_t tile_queries;  // rows of a tile times query heads of a kv head (at most 16 of them): at least every tile's
};

}  // namespace tokenmill::cuda

#ifndef __CUDACC__
#include "core/status.h"
#include "kernels/cuda/driver.h"

namespace tokenmill::cuda {

/// Whether there are kernels for heads of so many elements.
bool HasAttention(int head_dim);

/// The most rows of a tile: of AttentionDecode's, and of AttentionPrefill's, which takes decode's as well.
inline int AttentionDecodeRows(int query_heads, int kv_heads) {
  const int group = query_heads / kv_heads;
  return group >= 16 ? 1 : 16 / group;
}
inline int AttentionPrefillRows(int query_heads, int kv_heads) {
  const int group = query_heads / kv_heads;
  return group >= 16 ? 4 : 64 / group;
}

/// Units of work of a tile: its kv heads, each several times when more than 16 query heads share it.
inline int AttentionHeadTiles(int query_heads, int kv_heads) {
  return kv_heads * ((query_heads / kv_heads + 15) / 16);
}

/// Segments that a tile sees whose first row is at `position`.
inline int AttentionSegments(int position, int rows, int window) {
  const int first = window > 0 && position >= window ? position - window + 1 : 0;
  return (position + rows - 1) / 256 - first / 256 + 1;
}

inline int64_t AttentionPartialFloats(const KvLayerView& kv, int tiles_max, int segments, int tile_queries) {
  return int64_t{tiles_max} * AttentionHeadTiles(kv.query_heads, kv.kv_heads) * segments * tile_queries *
         (kv.head_dim + 2);
}

/// A block walks all positions of up to 64 queries. The grid covers `tiles_max` tiles.
Status LaunchAttentionPrefill(Driver& driver, const AttentionParams& params, int tiles_max);

/// Up to 16 queries a tile; segments are spread over `splits` blocks, of which the last to finish merges. The grid
/// covers tiles_max tiles; any number of splits gives the same bits.
Status LaunchAttentionDecode(Driver& driver, const AttentionParams& params, int tiles_max, int splits);

}  // namespace tokenmill::cuda
#endif
