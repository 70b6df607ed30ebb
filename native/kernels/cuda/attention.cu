#include "kernels/cuda/attention.h"

#include "kernels/cuda/attention_block.h"
#include "kernels/cuda/gpu.h"

// attention_prefill_{f16,int8}_DIM: grid (tiles, head tiles), 4 warps. Each warp has 16 of the tile's queries (up to
// 64) and walks all positions that the tile sees; keys and values of the next block of positions are copied while
// one is worked off. Sums of earlier segments wait in `out`. Tiles are taken from the last on, which see most.
//
// attention_decode_{f16,int8}_DIM: grid (tiles, head tiles, splits), 4 warps. All warps have the same 16 queries;
// each takes one of four blocks of positions, first keys, then values in the same memory, and leaves its weighted
// sums there, which all threads then merge. A split takes every splits-th segment; with more than one segment,
// results go to partials, and the last block of threads to finish a tile merges them.

namespace tokenmill::cuda {
namespace {

constexpr int kWarps = 4;
/// What a block can have on compute capability 8.6, 8.9 and 12.0.
constexpr int kSharedBytesMax = 99 * 1024;

// --- Prefill

template <class S>
struct PrefillShared {
  KvRows<S> keys[2], values[2];
  KvScales<S> scales[2];
  QueryFragment queries[S::kDim > 128 ? kWarps : 1][S::kDim > 128 ? S::kChunks : 1][32];
};

/// A warp's queries: in registers, or for wide heads, whose sums take those, in shared memory, each lane its own.
template <class S>
struct PrefillQueries {
  static constexpr bool kShared = S::kDim > 128;
  QueryFragment fragments[kShared ? 1 : S::kChunks];
};

GPU_FN void ReadFragment(const QueryFragment& fragment, uint32_t (&a)[4]) {
  const QueryFragment read = fragment;
  a[0] = read.x, a[1] = read.y, a[2] = read.z, a[3] = read.w;
}

/// Sums of the segment at hand, and what has been merged before it.
template <class S>
struct PrefillSums {
  ChunkSums segment[S::kChunks];
  Merged in_segment;
  Merged before;
  bool started = false;  // `out` has the sums before
};

template <class S>
GPU_FN void ClearSegment(PrefillSums<S>& sums) {
  GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
    GPU_UNROLL for (int i = 0; i < 8; ++i) sums.segment[c].x[i / 4][i % 4] = 0;
  }
  sums.in_segment = Merged();
}

template <class S>
GPU_FN void CopyBlock(const AttentionParams& p, const Tile& tile, int block, int stage, PrefillShared<S>& shared) {
  const int base = block * S::kPositions;
  GPU_UNROLL for (int unit = gpu::warp(); unit < 2 * S::kPages; unit += kWarps) {
    const int page = unit % S::kPages;
    if (unit < S::kPages) {
      CopyPage<S>(p, tile, base, page, false, shared.keys[stage]);
      CopyScales<S>(p, tile, base, page, shared.scales[stage]);
    } else {
      CopyPage<S>(p, tile, base, page, true, shared.values[stage]);
    }
  }
  gpu::cp_async_commit();
}

/// Merges the segment into `out`; the warp's last one also divides by the sum of weights.
template <class S>
GPU_FN void FinishSegment(const AttentionParams& p, const Queries& queries, bool last, PrefillSums<S>& sums) {
  const MergeFactors factors = Merge(sums.before, sums.in_segment.maximum, sums.in_segment.sum);
  float inverse[2];
  GPU_UNROLL for (int h = 0; h < 2; ++h) inverse[h] = Reciprocal(sums.before.sum[h]);
  GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
    // Keeps the compiler from loading all chunks at once, for which there are no registers.
    gpu::sync_warp();
    ChunkSums total = {};
    GPU_UNROLL for (int h = 0; h < 2; ++h) {
      if (sums.started && queries.head[h] >= 0) LoadChunk<S>(p.out + int64_t{queries.head[h]} * S::kDim, c, h, total);
    }
    MergeSums(total, sums.segment[c], factors);
    GPU_UNROLL for (int h = 0; h < 2; ++h) {
      if (queries.head[h] < 0) continue;
      if (last) {
        GPU_UNROLL for (int i = 0; i < 4; ++i) total.x[i / 2][2 * h + i % 2] *= inverse[h];
      }
      StoreChunk<S>(p.out + int64_t{queries.head[h]} * S::kDim, c, h, total);
    }
  }
  sums.started = true;
  ClearSegment(sums);
}

template <class S>
GPU_FN void Prefill(const AttentionParams& p) {
  static_assert(sizeof(PrefillShared<S>) <= kSharedBytesMax);
  DYN_SMEM(PrefillShared<S>, shared);
  const int index = *p.tile_count - 1 - gpu::block_x();
  if (index < 0) return;
  const Tile tile = LoadTile(p, index, gpu::block_y());
  const int warp = gpu::warp(), lane = gpu::lane(), first_query = 16 * warp;
  PrefillQueries<S> fragments;
  const auto set = [&](int c, const uint32_t(&a)[4]) {
    const QueryFragment fragment = {a[0], a[1], a[2], a[3]};
    if constexpr (PrefillQueries<S>::kShared) {
      shared.queries[warp][c][lane] = fragment;
    } else {
      fragments.fragments[c] = fragment;
    }
  };
  const auto get = [&](int c, uint32_t(&a)[4]) {
    if constexpr (PrefillQueries<S>::kShared) {
      ReadFragment(shared.queries[warp][c][lane], a);
    } else {
      ReadFragment(fragments.fragments[c], a);
    }
  };
  const Queries queries = LoadQueries<S>(p, tile, first_query, set);
  // What this warp's queries see; nothing when it has none.
  const int first_row = first_query / tile.heads;
  const int last_row = gpu::min((first_query + 15) / tile.heads, tile.rows - 1);
  const int window = p.kv.table.window;
  const int first = window > 0 ? gpu::max(0, tile.position + first_row - window + 1) : 0;
  const int last = first_row < tile.rows ? tile.position + last_row : -1;
  const auto sees = [&](int begin, int count) { return begin <= last && begin + count > first; };

  PrefillSums<S> sums;
  ClearSegment(sums);
  const int first_block = tile.first / S::kPositions, last_block = tile.last / S::kPositions;
  CopyBlock(p, tile, first_block, 0, shared);
  for (int block = first_block; block <= last_block; ++block) {
    const int stage = (block - first_block) & 1;
    gpu::cp_async_wait<0>();
    gpu::sync_block();
    if (block < last_block) CopyBlock(p, tile, block + 1, stage ^ 1, shared);
    if (sees(block * S::kPositions, S::kPositions)) {
      float s[S::kTiles][4];
      Scores<S>(get, shared.keys[stage], shared.scales[stage], s);
      const BlockWeights<S> weights =
          Weights<S>(p, queries, shared.scales[stage], block * S::kPositions, s);
      const MergeFactors factors = Merge(sums.in_segment, weights.maximum, weights.sum);
      GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
        MergeSums(sums.segment[c], WeighChunk<S>(weights, shared.values[stage], c), factors);
      }
    }
    if (block < last_block && (block + 1) % S::kBlocksPerSegment != 0) continue;
    const int segment = block / S::kBlocksPerSegment;
    if (sees(segment * kKvSegmentTokens, kKvSegmentTokens)) {
      FinishSegment<S>(p, queries, segment == last / kKvSegmentTokens, sums);
    }
  }
}

// --- Decode

/// A warp's keys, then values; and then its weighted sums (SumsAt).
template <class S>
struct DecodeRows : KvRows<S> {
  static constexpr int kSumBytes = S::kChunks * 2 * 32 * int{sizeof(Quad)};
  static constexpr int kRest = kSumBytes - int{sizeof(KvRows<S>)};
  unsigned char rest[kRest > 0 ? kRest : 16];
};

template <class S>
struct DecodeShared {
  DecodeRows<S> rows[kWarps];
  KvScales<S> scales[kWarps];
  QueryFragment queries[S::kChunks][32];
  float maximum[kWarps][16], sum[kWarps][16];
  int last;  // whether this is the last block of threads of its tile
};

/// The chunks of output that a thread merges: warp, warp + kWarps, …
template <class S>
constexpr int kOwnChunks = (S::kChunks + kWarps - 1) / kWarps;

template <class S>
struct DecodeSums {
  ChunkSums own[kOwnChunks<S>];
  Merged merged;
};

template <class S>
GPU_FN void Clear(DecodeSums<S>& sums) {
  GPU_UNROLL for (int c = 0; c < kOwnChunks<S>; ++c) {
    GPU_UNROLL for (int i = 0; i < 8; ++i) sums.own[c].x[i / 4][i % 4] = 0;
  }
  sums.merged = Merged();
}

/// Wide f16 heads are weighed in two groups of chunks, so that only the sums of one are in registers: each group leaves
/// its sums in the columns whose values it has used.
template <class S>
constexpr int kGroupChunks = S::kDim > 128 && !S::kInt8 ? S::kChunks / 2 : S::kChunks;

/// A lane's place for one half of a chunk's sums: [chunk][half][lane], 16 lanes a row where there are two groups.
template <class S, class Rows>
GPU_FN auto SumsAt(Rows& rows, int c, int half) {
  const int at = (c % kGroupChunks<S> * 2 + half) * 32 + gpu::lane();
  if constexpr (kGroupChunks<S> == S::kChunks) {
    return rows.bytes + 16 * at;
  } else {
    static_assert(kGroupChunks<S> * 2 * 32 == 16 * S::kPositions && S::kRowBytes == 512);
    return rows.bytes + at / 16 * S::kStride + c / kGroupChunks<S> * 256 + at % 16 * 16;
  }
}

/// One warp: its block's weights and weighted sums to shared memory.
template <class S>
GPU_FN void DecodeBlock(const AttentionParams& p, const Tile& tile, const Queries& queries, int base,
                        DecodeShared<S>& shared) {
  const int warp = gpu::warp(), lane = gpu::lane();
  DecodeRows<S>& rows = shared.rows[warp];
  for (int page = 0; page < S::kPages; ++page) {
    CopyPage<S>(p, tile, base, page, false, rows);
    CopyScales<S>(p, tile, base, page, shared.scales[warp]);
  }
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  gpu::sync_warp();
  const auto get = [&](int c, uint32_t(&a)[4]) {
    ReadFragment(shared.queries[c][lane], a);
  };
  float s[S::kTiles][4];
  Scores<S>(get, rows, shared.scales[warp], s);
  gpu::sync_warp();
  for (int page = 0; page < S::kPages; ++page) CopyPage<S>(p, tile, base, page, true, rows);
  gpu::cp_async_commit();
  const BlockWeights<S> weights = Weights<S>(p, queries, shared.scales[warp], base, s);
  gpu::cp_async_wait<0>();
  gpu::sync_warp();
  GPU_UNROLL for (int group = 0; group < S::kChunks; group += kGroupChunks<S>) {
    ChunkSums sums[kGroupChunks<S>];
    GPU_UNROLL for (int c = 0; c < kGroupChunks<S>; ++c) sums[c] = WeighChunk<S>(weights, rows, group + c);
    gpu::sync_warp();
    GPU_UNROLL for (int i = 0; i < 2 * kGroupChunks<S>; ++i) {
      const float(&x)[4] = sums[i / 2].x[i % 2];
      *reinterpret_cast<Quad*>(SumsAt<S>(rows, group + i / 2, i % 2)) = {x[0], x[1], x[2], x[3]};
    }
  }
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    if (lane % 4 != 0) continue;
    shared.maximum[warp][lane / 4 + 8 * h] = weights.maximum[h];
    shared.sum[warp][lane / 4 + 8 * h] = weights.sum[h];
  }
}

/// By all threads: takes in what a warp left.
template <class S>
GPU_FN void MergeBlock(const DecodeShared<S>& shared, int from_warp, DecodeSums<S>& sums) {
  const int g = gpu::lane() / 4;
  const float maximum[2] = {shared.maximum[from_warp][g], shared.maximum[from_warp][g + 8]};
  const float sum[2] = {shared.sum[from_warp][g], shared.sum[from_warp][g + 8]};
  const MergeFactors factors = Merge(sums.merged, maximum, sum);
  GPU_UNROLL for (int i = 0; i < kOwnChunks<S>; ++i) {
    const int c = gpu::warp() + i * kWarps;
    if (c >= S::kChunks) continue;
    const Quad low = *reinterpret_cast<const Quad*>(SumsAt<S>(shared.rows[from_warp], c, 0));
    const Quad high = *reinterpret_cast<const Quad*>(SumsAt<S>(shared.rows[from_warp], c, 1));
    MergeSums(sums.own[i], {{{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}}}, factors);
  }
}

template <class S>
GPU_FN void DecodeSegment(const AttentionParams& p, const Tile& tile, const Queries& queries, int segment,
                          DecodeShared<S>& shared, DecodeSums<S>& sums) {
  const int first = tile.first / S::kPositions, last = tile.last / S::kPositions;
  Clear(sums);
  for (int round = 0; round < S::kBlocksPerSegment / kWarps; ++round) {
    const int begin = segment * S::kBlocksPerSegment + round * kWarps;
    if (begin > last || begin + kWarps <= first) continue;
    const int own = begin + gpu::warp();
    if (own >= first && own <= last) DecodeBlock<S>(p, tile, queries, own * S::kPositions, shared);
    gpu::sync_block();
    for (int w = 0; w < kWarps; ++w) {
      if (begin + w >= first && begin + w <= last) MergeBlock(shared, w, sums);
    }
    gpu::sync_block();
  }
}

/// Merges a segment into `total`.
template <class S>
GPU_FN void MergeSegment(const DecodeSums<S>& segment, DecodeSums<S>& total) {
  const MergeFactors factors = Merge(total.merged, segment.merged.maximum, segment.merged.sum);
  GPU_UNROLL for (int i = 0; i < kOwnChunks<S>; ++i) MergeSums(total.own[i], segment.own[i], factors);
}

template <class S>
GPU_FN void StoreOut(const AttentionParams& p, const Queries& queries, DecodeSums<S>& total) {
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    if (queries.head[h] < 0) continue;
    const float inverse = Reciprocal(total.merged.sum[h]);
    GPU_UNROLL for (int i = 0; i < kOwnChunks<S>; ++i) {
      const int c = gpu::warp() + i * kWarps;
      if (c >= S::kChunks) continue;
      GPU_UNROLL for (int j = 0; j < 4; ++j) total.own[i].x[j / 2][2 * h + j % 2] *= inverse;
      StoreChunk<S>(p.out + int64_t{queries.head[h]} * S::kDim, c, h, total.own[i]);
    }
  }
}

/// A segment's place in partials: [tile_queries][kDim] sums, then as many maxima, then as many sums of weights.
template <class S>
GPU_FN float* PartialOf(const AttentionParams& p, int index) {
  const int64_t head_tile = int64_t{gpu::block_x()} * gpu::grid_y() + gpu::block_y();
  return p.partials + (head_tile * p.segments + index) * p.tile_queries * (S::kDim + 2);
}

template <class S>
GPU_FN void StorePartial(const AttentionParams& p, const Queries& queries, int index, const DecodeSums<S>& sums) {
  float* partial = PartialOf<S>(p, index);
  float* statistics = partial + p.tile_queries * S::kDim;
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    if (queries.head[h] < 0) continue;
    const int query = gpu::lane() / 4 + 8 * h;
    GPU_UNROLL for (int i = 0; i < kOwnChunks<S>; ++i) {
      const int c = gpu::warp() + i * kWarps;
      if (c < S::kChunks) StoreChunk<S>(partial + query * S::kDim, c, h, sums.own[i]);
    }
    if (gpu::warp() != 0 || gpu::lane() % 4 != 0) continue;
    statistics[query] = sums.merged.maximum[h];
    statistics[p.tile_queries + query] = sums.merged.sum[h];
  }
}

template <class S>
GPU_FN void LoadPartial(const AttentionParams& p, const Queries& queries, int index, DecodeSums<S>& sums) {
  const float* partial = PartialOf<S>(p, index);
  const float* statistics = partial + p.tile_queries * S::kDim;
  Clear(sums);
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    if (queries.head[h] < 0) continue;
    const int query = gpu::lane() / 4 + 8 * h;
    GPU_UNROLL for (int i = 0; i < kOwnChunks<S>; ++i) {
      const int c = gpu::warp() + i * kWarps;
      if (c < S::kChunks) LoadChunk<S>(partial + query * S::kDim, c, h, sums.own[i]);
    }
    sums.merged.maximum[h] = statistics[query];
    sums.merged.sum[h] = statistics[p.tile_queries + query];
  }
}

/// Whether this is the last of a tile's `blocks` blocks of threads to come here; what they wrote before is then seen.
template <class S>
GPU_FN bool LastToFinish(const AttentionParams& p, int blocks, DecodeShared<S>& shared) {
  gpu::fence_device();
  gpu::sync_block();
  if (gpu::thread() == 0) {
    int32_t* counter = p.counters + int64_t{gpu::block_x()} * gpu::grid_y() + gpu::block_y();
    shared.last = gpu::atomic_add(counter, 1) == blocks - 1;
    gpu::fence_device();
    if (shared.last != 0) *counter = 0;
  }
  gpu::sync_block();
  return shared.last != 0;
}

template <class S>
GPU_FN void Decode(const AttentionParams& p) {
  static_assert(sizeof(DecodeShared<S>) <= kSharedBytesMax);
  DYN_SMEM(DecodeShared<S>, shared);
  const int index = gpu::block_x(), split = gpu::block_z();
  if (index >= *p.tile_count) return;
  const Tile tile = LoadTile(p, index, gpu::block_y());
  const int first = tile.first / kKvSegmentTokens;
  const int segments = tile.last / kKvSegmentTokens - first + 1;
  if (split >= segments) return;
  // All warps load the same queries, the first one for all.
  const auto set = [&](int c, const uint32_t(&a)[4]) {
    if (gpu::warp() == 0) shared.queries[c][gpu::lane()] = {a[0], a[1], a[2], a[3]};
  };
  const Queries queries = LoadQueries<S>(p, tile, 0, set);
  gpu::sync_block();
  DecodeSums<S> sums, total;
  Clear(total);
  if (segments == 1) {
    DecodeSegment<S>(p, tile, queries, first, shared, sums);
    MergeSegment(sums, total);
    return StoreOut(p, queries, total);
  }
  for (int i = split; i < segments; i += gpu::grid_z()) {
    DecodeSegment<S>(p, tile, queries, first + i, shared, sums);
    StorePartial(p, queries, i, sums);
  }
  if (!LastToFinish(p, gpu::min(segments, gpu::grid_z()), shared)) return;
  for (int i = 0; i < segments; ++i) {
    LoadPartial(p, queries, i, sums);
    MergeSegment(sums, total);
  }
  StoreOut(p, queries, total);
}

}  // namespace

#define TM_ATTENTION_DIMS(X) X(16) X(32) X(64) X(80) X(96) X(128) X(256)

#define TM_ATTENTION_KERNELS(dim)                                                                             \
  GPU_KERNEL(attention_prefill_f16_##dim, AttentionParams, 32 * kWarps) { Prefill<Shape<dim, false>>(p); } \
  GPU_KERNEL(attention_prefill_int8_##dim, AttentionParams, 32 * kWarps) { Prefill<Shape<dim, true>>(p); } \
  GPU_KERNEL(attention_decode_f16_##dim, AttentionParams, 32 * kWarps) { Decode<Shape<dim, false>>(p); }   \
  GPU_KERNEL(attention_decode_int8_##dim, AttentionParams, 32 * kWarps) { Decode<Shape<dim, true>>(p); }
TM_ATTENTION_DIMS(TM_ATTENTION_KERNELS)
#undef TM_ATTENTION_KERNELS

#ifndef __CUDACC__
namespace {

struct SharedBytes {
  size_t prefill = 0, decode = 0;
};

SharedBytes SharedBytesOf(int head_dim, bool int8) {
  switch (head_dim) {
#define TM_ATTENTION_CASE(dim)                                                                                \
  case dim:                                                                                                   \
    if (int8) return {sizeof(PrefillShared<Shape<dim, true>>), sizeof(DecodeShared<Shape<dim, true>>)}; \
    return {sizeof(PrefillShared<Shape<dim, false>>), sizeof(DecodeShared<Shape<dim, false>>)};
    TM_ATTENTION_DIMS(TM_ATTENTION_CASE)
#undef TM_ATTENTION_CASE
  }
  return {};
}

Status Check(const AttentionParams& params) {
  const KvLayerView& kv = params.kv;
  if (!HasAttention(kv.head_dim)) {
    return Error(Code::kUnsupportedModel,
                 "attention heads of %d elements; 16, 32, 64, 80, 96, 128 and 256 can be computed on CUDA",
                 kv.head_dim);
  }
  if (kv.kv_heads < 1 || kv.query_heads % kv.kv_heads != 0) {
    return Error(Code::kInternal, "%d query heads for %d kv heads", kv.query_heads, kv.kv_heads);
  }
  return {};
}

std::string KernelName(const char* kind, const KvLayerView& kv) {
  return Format("attention_%s_%s_%d", kind, kv.int8 != 0 ? "int8" : "f16", kv.head_dim);
}

}  // namespace

bool HasAttention(int head_dim) { return SharedBytesOf(head_dim, false).prefill != 0; }

Status LaunchAttentionPrefill(Driver& driver, const AttentionParams& params, int tiles_max) {
  TM_RETURN_IF_ERROR(Check(params));
  if (tiles_max == 0) return {};
  const KvLayerView& kv = params.kv;
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>(tiles_max);
  shape.grid_y = static_cast<unsigned>(AttentionHeadTiles(kv.query_heads, kv.kv_heads));
  shape.threads = 32 * kWarps;
  shape.shared_bytes = SharedBytesOf(kv.head_dim, kv.int8 != 0).prefill;
  return driver.Launch(KernelName("prefill", kv).c_str(), shape, params);
}

Status LaunchAttentionDecode(Driver& driver, const AttentionParams& params, int tiles_max, int splits) {
  TM_RETURN_IF_ERROR(Check(params));
  if (tiles_max == 0) return {};
  const KvLayerView& kv = params.kv;
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>(tiles_max);
  shape.grid_y = static_cast<unsigned>(AttentionHeadTiles(kv.query_heads, kv.kv_heads));
  shape.grid_z = static_cast<unsigned>(splits);
  shape.threads = 32 * kWarps;
  shape.shared_bytes = SharedBytesOf(kv.head_dim, kv.int8 != 0).decode;
  return driver.Launch(KernelName("decode", kv).c_str(), shape, params);
}
#endif

}  // namespace tokenmill::cuda
