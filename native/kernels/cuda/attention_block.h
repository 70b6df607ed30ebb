#pragma once

// What a warp does with one block of positions and 16 queries: copies of keys and values, scores, weights, weighted
// sums and their merging. Both attention kernels are made of these, so a row gets the same bits from either.
//
// Fragments: lane = 4 g + t holds queries g and g + 8 (index h = 0, 1). Of scores it has positions 8 n + 2 t + {0, 1},
// of outputs four elements of each chunk of 16: f16 2 t + {0, 1} and 8 + 2 t + {0, 1}, int8 4 t + {0, 1, 2, 3}.

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kv_layout.h"

namespace tokenmill::cuda {
namespace {

template <int kHeadDim, bool kIsInt8>
struct Shape {
  static constexpr int kDim = kHeadDim;
  static constexpr bool kInt8 = kIsInt8;
  static constexpr int kChunks = kDim / 16;
  static constexpr int kPositions = kDim >= 128 ? 32 : 64;  // of a block
  static constexpr int kTiles = kPositions / 8;
  static constexpr int kPages = kPositions / kKvPageTokens;
  static constexpr int kRowBytes = kDim * (kInt8 ? 1 : 2);
  static constexpr int kRowLines = kRowBytes / 16;
  // An odd number of 16 bytes: the eight rows that ldmatrix reads at once lie in different banks.
  static constexpr int kStride = 16 * (kRowLines | 1);
  static constexpr int kBlocksPerSegment = kKvSegmentTokens / kPositions;
  static_assert(kDim % 16 == 0);
};

struct alignas(8) Pair {
  float x, y;
};
struct alignas(16) Quad {
  float x, y, z, w;
};
/// A lane's part of 16 queries and 16 elements of their heads, in f16.
struct alignas(16) QueryFragment {
  uint32_t x, y, z, w;
};

/// A block's keys or values in shared memory.
template <class S>
struct alignas(16) KvRows {
  unsigned char bytes[S::kPositions * S::kStride];
};
/// Of a block's positions; unused for f16.
template <class S>
struct alignas(16) KvScales {
  float keys[S::kInt8 ? S::kPositions + 16 : 4];  // 16 more: other banks for those that are copied at once
  float values[S::kInt8 ? S::kPositions : 4];
};

/// A tile of rows and up to 16 query heads that share a kv head; the same for the whole block of threads.
struct Tile {
  const uint64_t* pages;  // of the sequence
  int row, rows;
  int position;     // of the first row
  int first, last;  // positions that any row sees
  int kv_head;
  int head, heads;  // query heads
};

GPU_FN Tile LoadTile(const AttentionParams& p, int index, int head_tile) {
  const KvLayerView& kv = p.kv;
  const AttentionTile from = p.tiles[index];
  const int group = kv.query_heads / kv.kv_heads, head_tiles = (group + 15) / 16;
  Tile tile;
  tile.pages = kv.table.pages + int64_t{p.step.sequences[from.row]} * kv.table.stride;
  tile.row = from.row;
  tile.rows = from.rows;
  tile.position = p.step.positions[from.row];
  tile.first = kv.table.window > 0 ? gpu::max(0, tile.position - kv.table.window + 1) : 0;
  tile.last = tile.position + tile.rows - 1;
  tile.kv_head = head_tile / head_tiles;
  const int begin = head_tile % head_tiles * 16;
  tile.head = tile.kv_head * group + begin;
  tile.heads = gpu::min(16, group - begin);
  return tile;
}

/// A lane's two queries.
struct Queries {
  int head[2];      // index of the head in q and out, [rows * query_heads]; -1 for none
  int last[2];      // the last position seen, -1 for none
  float factor[2];  // makes scores of products; with a soft cap, parts of it
};

constexpr float kLog2E = 1.44269504088896340736f;

GPU_FN float PowerOfTwo(int exponent) { return gpu::bits_float(static_cast<uint32_t>(exponent + 127) << 23); }

GPU_FN float QuadMax(float x) {
  x = gpu::max(x, gpu::shuffle_xor(x, 1));
  return gpu::max(x, gpu::shuffle_xor(x, 2));
}
GPU_FN float QuadSum(float x) {
  x += gpu::shuffle_xor(x, 1);
  return x + gpu::shuffle_xor(x, 2);
}

/// Queries first_query … + 15 of the tile, query i being head i % heads of row i / heads; set(chunk, fragment) takes
/// them in f16.
template <class S, class Set>
GPU_FN Queries LoadQueries(const AttentionParams& p, const Tile& tile, int first_query, Set set) {
  const int g = gpu::lane() / 4, t = gpu::lane() % 4;
  const int low = S::kInt8 ? 4 * t : 2 * t, high = S::kInt8 ? 4 * t + 2 : 2 * t + 8;
  Queries queries;
  float scale[2];
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    const int index = first_query + g + 8 * h, row = index / tile.heads;
    const bool used = row < tile.rows;
    const int head = tile.head + index % tile.heads;
    queries.head[h] = used ? (tile.row + row) * p.kv.query_heads + head : -1;
    queries.last[h] = used ? tile.position + row : -1;
    float largest = 0;
    GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
      if (!used) continue;
      const float* q = p.q + int64_t{queries.head[h]} * S::kDim + 16 * c;
      const Pair a = *reinterpret_cast<const Pair*>(q + low), b = *reinterpret_cast<const Pair*>(q + high);
      largest = gpu::max(gpu::max(largest, gpu::max(gpu::abs(a.x), gpu::abs(a.y))),
                         gpu::max(gpu::abs(b.x), gpu::abs(b.y)));
    }
    largest = QuadMax(largest);
    const int exponent = static_cast<int>(gpu::float_bits(largest) >> 23) - 127;
    const bool plain = !(largest > 0) || exponent > 127;
    const int down = plain ? 0 : gpu::max(exponent - 11, -100);
    scale[h] = PowerOfTwo(-down);
    // Weights are powers of two; a soft cap comes before that.
    queries.factor[h] = PowerOfTwo(down) * (p.softcap > 0 ? gpu::divide(p.scale, p.softcap) : p.scale * kLog2E);
  }
  GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
    uint32_t fragment[4];
    GPU_UNROLL for (int h = 0; h < 2; ++h) {
      Pair a = {0, 0}, b = {0, 0};
      if (queries.head[h] >= 0) {
        const float* q = p.q + int64_t{queries.head[h]} * S::kDim + 16 * c;
        a = *reinterpret_cast<const Pair*>(q + low);
        b = *reinterpret_cast<const Pair*>(q + high);
      }
      fragment[h] = gpu::pack_f16(a.x * scale[h], a.y * scale[h]);
      fragment[h + 2] = gpu::pack_f16(b.x * scale[h], b.y * scale[h]);
    }
    set(c, fragment);
  }
  return queries;
}

/// By one warp: the keys (or values) of one page of the block at `base`, zeros where no row of the tile sees them.
/// Asynchronous; the caller commits.
template <class S>
GPU_FN void CopyPage(const AttentionParams& p, const Tile& tile, int base, int page, bool values, KvRows<S>& to) {
  const int first = base + page * kKvPageTokens;
  const bool used = first <= tile.last && first + kKvPageTokens > tile.first;
  // Nothing is read where nothing is seen, but the address has to be one.
  const uint64_t address = used ? tile.pages[first / kKvPageTokens] : reinterpret_cast<uint64_t>(p.q);
  const unsigned char* from = reinterpret_cast<const unsigned char*>(address);
  if (used) {
    from += p.kv.offset + tile.kv_head * p.kv.kv_head_bytes + (values ? KvRowsBytes(S::kDim, S::kInt8) : 0);
  }
  // So many whole rows at once; a lane's addresses differ by constants.
  constexpr int kRows = 32 / S::kRowLines;
  const int lane = gpu::lane(), row = lane / S::kRowLines;
  from += 16 * lane;
  unsigned char* at = to.bytes + (page * kKvPageTokens + row) * S::kStride + lane % S::kRowLines * 16;
  GPU_UNROLL for (int i = 0; i < kKvPageTokens; i += kRows) {
    if (row >= kRows || i + row >= kKvPageTokens) continue;
    gpu::cp_async16(at + i * S::kStride, from + i * S::kRowBytes, used && first + i + row <= tile.last);
  }
}

/// Likewise the scales of a page's keys and values.
template <class S>
GPU_FN void CopyScales(const AttentionParams& p, const Tile& tile, int base, int page, KvScales<S>& to) {
  if constexpr (S::kInt8) {
    const int first = base + page * kKvPageTokens, token = gpu::lane() % kKvPageTokens;
    const bool valid = first + token <= tile.last && first + kKvPageTokens > tile.first;
    const unsigned char* from = reinterpret_cast<const unsigned char*>(p.q);
    if (valid) {
      from = reinterpret_cast<const unsigned char*>(tile.pages[first / kKvPageTokens]) + p.kv.offset +
             tile.kv_head * p.kv.kv_head_bytes + KvScalesOffset(S::kDim) + gpu::lane() * int64_t{sizeof(float)};
    }
    float* scales = gpu::lane() < kKvPageTokens ? to.keys : to.values;
    gpu::cp_async4(scales + page * kKvPageTokens + token, from, valid);
  }
}

/// Levels -128 … 127 in two bytes of `levels`, which the selector puts over 0x64, to f16: 1024 + 128 + level - 1152.
GPU_FN uint32_t LevelsToF16(uint32_t levels, uint32_t selector) {
  return gpu::hsub2(gpu::byte_permute(levels ^ 0x80808080u, 0x64646464u, selector), 0x64806480u);
}

/// Products of the 16 queries, get(chunk, fragment), with the block's keys; for int8 times the keys' scales.
template <class S, class Get>
GPU_FN void Scores(Get get, const KvRows<S>& keys, const KvScales<S>& scales, float (&s)[S::kTiles][4]) {
  const int lane = gpu::lane();
  GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
    GPU_UNROLL for (int i = 0; i < 4; ++i) s[n][i] = 0;
  }
  GPU_UNROLL for (int c = 0; c < S::kChunks; ++c) {
    uint32_t a[4], r[4];
    get(c, a);
    if constexpr (S::kInt8) {
      GPU_UNROLL for (int n = 0; n < S::kTiles; n += 4) {
        gpu::ldmatrix_x4(r, keys.bytes + (8 * n + lane) * S::kStride + 16 * c);
        GPU_UNROLL for (int i = 0; i < 4; ++i) {
          const uint32_t b[2] = {LevelsToF16(r[i], 0x4140), LevelsToF16(r[i], 0x4342)};
          gpu::mma_f16(s[n + i], a, b);
        }
      }
    } else {
      const int row = lane / 16 * 8 + lane % 8, column = lane / 8 % 2;
      GPU_UNROLL for (int n = 0; n < S::kTiles; n += 2) {
        gpu::ldmatrix_x4(r, keys.bytes + (8 * n + row) * S::kStride + 32 * c + 16 * column);
        gpu::mma_f16(s[n], a, {r[0], r[1]});
        gpu::mma_f16(s[n + 1], a, {r[2], r[3]});
      }
    }
  }
  if constexpr (S::kInt8) {
    GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
      const Pair scale = *reinterpret_cast<const Pair*>(scales.keys + 8 * n + 2 * (lane % 4));
      s[n][0] *= scale.x, s[n][1] *= scale.y, s[n][2] *= scale.x, s[n][3] *= scale.y;
    }
  }
}

/// What a block of positions gives for a lane's two queries, but for the weighted sums. A maximum of -infinity: nothing
/// was seen.
template <class S>
struct BlockWeights {
  float maximum[2], sum[2];
  float unit[2];                        // int8: the weights are multiplied by it
  uint32_t fragments[S::kTiles / 2][4];  // weights in f16, 16 positions each
};

/// 1 / x to the last bit or two for x in [1, 2^64], NaN for others: without the calls that a division may end in.
GPU_FN float Reciprocal(float x) {
  const uint32_t bits = gpu::float_bits(x);
  const float half = gpu::bits_float((bits & 0x7fffffu) | 0x3f000000u);  // [0.5, 1)
  float inverse = gpu::fma(half, -32.0f / 17.0f, 48.0f / 17.0f);         // off by 1/17, squared by each step
  GPU_UNROLL for (int i = 0; i < 3; ++i) inverse = gpu::fma(inverse, gpu::fma(-half, inverse, 1.0f), inverse);
  const float scaled = inverse * PowerOfTwo(126 - static_cast<int>(bits >> 23));
  return x >= 1 && x <= 0x1p64f ? scaled : gpu::bits_float(0x7fc00000u);
}

// tanh(x), off by some 2^-23.
GPU_FN float Tanh(float x) {
  const float power = gpu::exp2_approx(gpu::abs(x) * -2.88539008177792681472f);  // e^(-2 |x|)
  const float magnitude = (1.0f - power) * Reciprocal(1.0f + power);
  return x < 0 ? -magnitude : magnitude;
}

/// From the products of the block at `base`, which are used up.
template <class S>
GPU_FN BlockWeights<S> Weights(const AttentionParams& p, const Queries& queries, const KvScales<S>& scales,
                               int base, float (&s)[S::kTiles][4]) {
  BlockWeights<S> out;
  const int first = base + 2 * (gpu::lane() % 4);
  const uint32_t reach = p.kv.table.window > 0 ? static_cast<uint32_t>(p.kv.table.window) : 0x80000000u;
  float largest[2] = {-gpu::kInfinity, -gpu::kInfinity};
  GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
    GPU_UNROLL for (int i = 0; i < 4; ++i) s[n][i] *= queries.factor[i / 2];
  }
  if (p.softcap > 0) {
    const float capped = p.softcap * kLog2E;
    GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
      GPU_UNROLL for (int i = 0; i < 4; ++i) s[n][i] = capped * Tanh(s[n][i]);
    }
  }
  GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
    GPU_UNROLL for (int i = 0; i < 4; ++i) {
      // How far back; negative numbers, of positions behind the query's, are beyond any reach.
      const int h = i / 2, back = queries.last[h] - (first + 8 * n + i % 2);
      s[n][i] = static_cast<uint32_t>(back) < reach ? s[n][i] : -gpu::kInfinity;
      largest[h] = gpu::max(largest[h], s[n][i]);
    }
  }
  float product[2] = {0, 0};  // int8: the largest weight times scale
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    out.maximum[h] = QuadMax(largest[h]);
    const float from = out.maximum[h] == -gpu::kInfinity ? 0 : out.maximum[h];
    float sum = 0;
    GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
      GPU_UNROLL for (int i = 2 * h; i < 2 * h + 2; ++i) {
        const bool seen = s[n][i] != -gpu::kInfinity;
        const float weight = gpu::exp2_approx(s[n][i] - from);
        sum += weight;
        s[n][i] = weight;
        if constexpr (S::kInt8) {
          s[n][i] = seen ? weight * scales.values[first - base + 8 * n + i % 2] : 0;
          product[h] = gpu::max(product[h], s[n][i]);
        }
      }
    }
    out.sum[h] = QuadSum(sum);
    out.unit[h] = 1;
    if constexpr (S::kInt8) {
      const int exponent = static_cast<int>(gpu::float_bits(QuadMax(product[h])) >> 23) - 127;
      const int down = gpu::min(gpu::max(exponent, -126), 126);
      out.unit[h] = PowerOfTwo(down);
      const float inverse = PowerOfTwo(-down);
      GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
        s[n][2 * h] *= inverse;
        s[n][2 * h + 1] *= inverse;
      }
    }
  }
  GPU_UNROLL for (int n = 0; n < S::kTiles; ++n) {
    GPU_UNROLL for (int h = 0; h < 2; ++h) {
      out.fragments[n / 2][h + 2 * (n % 2)] = gpu::pack_f16(s[n][2 * h], s[n][2 * h + 1]);
    }
  }
  return out;
}

/// Outputs of a chunk of 16 elements: [half as the mma has them][2 h + i].
struct ChunkSums {
  float x[2][4];
};

/// Chunk c of the sums of weight * value.
template <class S>
GPU_FN ChunkSums WeighChunk(const BlockWeights<S>& weights, const KvRows<S>& values, int c) {
  const int lane = gpu::lane();
  // Wide heads leave no registers to load several chunks' fragments at once.
  if constexpr (S::kDim > 128) gpu::sync_warp();
  ChunkSums sums;
  GPU_UNROLL for (int i = 0; i < 8; ++i) sums.x[i / 4][i % 4] = 0;
  uint32_t r[4];
  if constexpr (S::kInt8) {
    GPU_UNROLL for (int k = 0; k < S::kTiles / 2; k += 2) {
      gpu::ldmatrix_x4_trans(r, values.bytes + (16 * k + lane) * S::kStride + 16 * c);
      GPU_UNROLL for (int i = 0; i < 2; ++i) {
        // Even elements, then odd ones, of two positions in each register.
        const uint32_t even[2] = {LevelsToF16(r[2 * i], 0x4240), LevelsToF16(r[2 * i + 1], 0x4240)};
        const uint32_t odd[2] = {LevelsToF16(r[2 * i], 0x4341), LevelsToF16(r[2 * i + 1], 0x4341)};
        gpu::mma_f16(sums.x[0], weights.fragments[k + i], even);
        gpu::mma_f16(sums.x[1], weights.fragments[k + i], odd);
      }
    }
    GPU_UNROLL for (int i = 0; i < 8; ++i) sums.x[i / 4][i % 4] *= weights.unit[i % 4 / 2];
  } else {
    const int row = lane % 16, column = lane / 16;
    GPU_UNROLL for (int k = 0; k < S::kTiles / 2; ++k) {
      gpu::ldmatrix_x4_trans(r, values.bytes + (16 * k + row) * S::kStride + 32 * c + 16 * column);
      gpu::mma_f16(sums.x[0], weights.fragments[k], {r[0], r[1]});
      gpu::mma_f16(sums.x[1], weights.fragments[k], {r[2], r[3]});
    }
  }
  return sums;
}

/// Maximum and sum of weights of what has been merged, for a lane's two queries; from nothing.
struct Merged {
  float maximum[2] = {-gpu::kInfinity, -gpu::kInfinity};
  float sum[2] = {0, 0};
};
struct MergeFactors {
  float kept[2], added[2];
};

/// Takes in what comes next. Where that has seen nothing, the factors leave any sum's bits as they are: x * 1 + 0 * -0.
GPU_FN MergeFactors Merge(Merged& merged, const float (&maximum)[2], const float (&sum)[2]) {
  MergeFactors factors;
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    const bool nothing = maximum[h] == -gpu::kInfinity;
    const float larger = gpu::max(merged.maximum[h], maximum[h]);
    factors.kept[h] = nothing ? 1.0f : gpu::exp2_approx(merged.maximum[h] - larger);
    factors.added[h] = nothing ? -0.0f : gpu::exp2_approx(maximum[h] - larger);
    merged.maximum[h] = larger;
    merged.sum[h] = gpu::fma(sum[h], factors.added[h], merged.sum[h] * factors.kept[h]);
  }
  return factors;
}

GPU_FN void MergeSums(ChunkSums& merged, const ChunkSums& next, const MergeFactors& factors) {
  GPU_UNROLL for (int i = 0; i < 8; ++i) {
    const int h = i % 4 / 2;
    float& sum = merged.x[i / 4][i % 4];
    sum = gpu::fma(next.x[i / 4][i % 4], factors.added[h], sum * factors.kept[h]);
  }
}

/// A lane's four elements of chunk c of one query's outputs, `at` being their beginning.
template <class S>
GPU_FN void StoreChunk(float* at, int c, int h, const ChunkSums& sums) {
  const int t = gpu::lane() % 4;
  const float a = sums.x[0][2 * h], b = sums.x[0][2 * h + 1], c_ = sums.x[1][2 * h], d = sums.x[1][2 * h + 1];
  if constexpr (S::kInt8) {
    *reinterpret_cast<Quad*>(at + 16 * c + 4 * t) = {a, c_, b, d};
  } else {
    *reinterpret_cast<Pair*>(at + 16 * c + 2 * t) = {a, b};
    *reinterpret_cast<Pair*>(at + 16 * c + 8 + 2 * t) = {c_, d};
  }
}
template <class S>
GPU_FN void LoadChunk(const float* at, int c, int h, ChunkSums& sums) {
  const int t = gpu::lane() % 4;
  if constexpr (S::kInt8) {
    const Quad quad = *reinterpret_cast<const Quad*>(at + 16 * c + 4 * t);
    sums.x[0][2 * h] = quad.x, sums.x[1][2 * h] = quad.y;
    sums.x[0][2 * h + 1] = quad.z, sums.x[1][2 * h + 1] = quad.w;
  } else {
    const Pair low = *reinterpret_cast<const Pair*>(at + 16 * c + 2 * t);
    const Pair high = *reinterpret_cast<const Pair*>(at + 16 * c + 8 + 2 * t);
    sums.x[0][2 * h] = low.x, sums.x[0][2 * h + 1] = low.y;
    sums.x[1][2 * h] = high.x, sums.x[1][2 * h + 1] = high.y;
  }
}

}  // namespace
}  // namespace tokenmill::cuda
