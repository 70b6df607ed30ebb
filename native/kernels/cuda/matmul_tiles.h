#pragma once

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_fragments.h"

// The two kernels of matrix products, over a Product of matmul_fragments.h. Weights are the mma's A operand
// (16 features), activations B (8 rows), in both: a row and feature has the same instructions whichever
// kernel runs. The grid covers the most rows that a step can have; blocks beyond *rows return.
//
// Dynamic shared memory in KiB (decode: of 8 warps; half of it with k up to 1024, where 4 suffice), the same
// on all targets:
//   decode8 5, decode16 20, decode32 40
//   prefill: q4_0 34.5, q4_1 and q4_k 37.3, q5_0 37.5, q5_1 and q5_k 40.3, q6_k 41.3, q8_0_s8 39,
//   q8_0_f16 46.5, f16 and bf16 48.0, bf16_two 64.0

namespace tokenmill::cuda {

inline constexpr int kSplitChunks = 4;  // a split is 256 k
inline constexpr int kTilePitch = 20;  // floats from row to row of a tile in shared memory: no bank conflicts
inline constexpr int kTileFloats = 8 * kTilePitch;

inline constexpr int kDecodeWarps = 8;  // at most
inline constexpr int kPrefillWarps = 4;
inline constexpr int kPrefillStrips = 2;  // of a warp

/// A launch has as much of it as it has warps.
template <int kOutputs>
struct DecodeShared {
  float tiles[kDecodeWarps][kOutputs][kTileFloats];  // [warp][strip, row tile][row][feature]
};

template <class Product, WeightForm kForm>
struct PrefillShared {
  static constexpr WeightLayout kLayout = LayoutOf(kForm);
  static constexpr int kRows = Product::kPrefillRows;
  static constexpr int kPlaneBytes = kRows * kChunkK * Product::kElementBytes;
  static constexpr int kHigh = kLayout.level_bytes, kScales = kHigh + kLayout.high_bytes;
  static constexpr int kHeader = kScales + kLayout.scale_bytes;
  static constexpr int kWeightBytes = kHeader + kLayout.header_bytes;
  struct Stage {
    uint8_t planes[Product::kPlanes][kPlaneBytes];  // [64 / kSub][rows][kSub]
    uint8_t weights[kPrefillWarps * kPrefillStrips][kWeightBytes];  // a chunk's parts
    float side[Product::kSide ? 2 : 1][Product::kSide ? kRows : 4];
  };
  Stage stages[Product::kStages];
};

/// Which row of its tile an output is: lanes of a warp have rows i and i + 4, which are 16 banks apart.
GPU_FN int RowOfOutput(int output) { return output % 128 / 32 + output % 32 / 16 * 4; }

/// One finished sum to its place.
template <class Product>
GPU_FN void StoreProduct(const MatmulParams& p, float total, int row, int feature) {
  float value = Product::kRowScale ? total * p.in.row_scale[row] : total;
  if (p.bias != nullptr) value += p.bias[feature];
  float* out = p.out + row * p.stride + feature;
  *out = p.accumulate != 0 ? *out + value : value;
}

/// Where strip `index` begins; the last one again beyond it, whose results are not stored.
template <WeightForm kForm>
GPU_FN const uint8_t* StripAt(const MatmulParams& p, int index) {
  constexpr WeightLayout layout = LayoutOf(kForm);
  const int last = (p.features - 1) / kStripFeatures;
  return p.weights + gpu::min(index, last) * StripBytes(layout, p.in.k);
}

// --- Decode: few rows, as fast as weights can be read
//
// Block (x, y): strips from kStrips * x, rows from 8 * kTiles * y. Each of up to 8 warps takes every so
// many-th split of k for all of the block's outputs, with weights for kRing chunks and activations straight
// from global memory in registers; after each round of splits the partial sums meet in shared memory,
// [warp][strip][row tile][8][20] floats, and are added in order by the threads that own the outputs.

/// One split's sums.
template <class Product, WeightForm kForm, int kStrips, int kTiles>
struct DecodeWarp {
  using Chunk = typename Product::Chunk;

  const MatmulParams& p;
  const uint8_t* strips[kStrips];
  int first_row, rows, lane, chunks, blocks;
  static constexpr int kRing = Product::kRing > kStrips ? Product::kRing / kStrips : 1;
  Chunk ring[kRing][kStrips];

  GPU_FN void Fetch(DecodeWarp& w, int slot, int chunk) {
    if (chunk >= w.chunks) return;
    GPU_UNROLL
    for (int i = 0; i < kStrips; ++i) {
      w.ring[slot][i] = Product::Load(PartsOfChunk(LayoutOf(kForm), w.strips[i], chunk), w.lane);
    }
  }

  GPU_FN void Block(const DecodeWarp& w, const Chunk (&chunk)[kStrips], int index, int block,
                    float (&acc)[kStrips][kTiles][4]) {
    const int t = w.lane % 4;
    const int k = index * kChunkK + block * 32;
    typename Product::B b[kTiles];
    float side[kTiles][2] = {};
    GPU_UNROLL
    for (int i = 0; i < kTiles; ++i) {
      const int row = w.first_row + 8 * i;
      b[i] = Product::FromGlobal(w.p.in, row + w.lane / 4, k, row + w.lane / 4 < w.rows, t);
      if constexpr (Product::kSide) {
        GPU_UNROLL
        for (int j = 0; j < 2; ++j) {
          const int64_t at = int64_t{row + 2 * t + j} * (w.p.in.k / 32) + k / 32;
          if (row + 2 * t + j < w.rows) side[i][j] = Product::Side(w.p.in)[at];
        }
      }
    }
    GPU_UNROLL
    for (int strip = 0; strip < kStrips; ++strip) {
      const typename Product::A a = Product::Unpack(chunk[strip], block);
      GPU_UNROLL
      for (int i = 0; i < kTiles; ++i) Product::Multiply(acc[strip][i], a, b[i], side[i]);
    }
  }

  /// The sums of `split`; fetches ahead of `next_split`.
  GPU_FN void Split(DecodeWarp& w, int split, int next_split, float (&acc)[kStrips][kTiles][4]) {
    GPU_UNROLL
    for (int c = 0; c < kSplitChunks; ++c) {
      const int index = split * kSplitChunks + c;
      const int slot = c % kRing;
      if (index < w.chunks) {
        Block(w, w.ring[slot], index, 0, acc);
        if (2 * index + 1 < w.blocks) Block(w, w.ring[slot], index, 1, acc);
      }
      const int ahead = c + kRing;
      Fetch(w, slot,
            ahead < kSplitChunks ? split * kSplitChunks + ahead
                                 : next_split * kSplitChunks + ahead - kSplitChunks);
    }
  }

  /// To shared memory, tiles [row][feature].
  GPU_FN void Put(const DecodeWarp& w, const float (&acc)[kStrips][kTiles][4], float (*tiles)[kTileFloats]) {
    const int g = w.lane / 4, t = w.lane % 4;
    GPU_UNROLL
    for (int i = 0; i < kStrips * kTiles; ++i) {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) {
        tiles[i][(2 * t + j % 2) * kTilePitch + g + j / 2 * 8] = acc[i / kTiles][i % kTiles][j];
      }
    }
  }
};

template <class Product, WeightForm kForm, int kStrips, int kTiles>
GPU_FN void MatmulDecode(const MatmulParams& p) {
  using Warp = DecodeWarp<Product, kForm, kStrips, kTiles>;
  constexpr int kOutputs = kStrips * kTiles;
  using Shared = DecodeShared<kOutputs>;
  DYN_SMEM(Shared, shared);
  constexpr int kOwned = kOutputs;  // of a thread, with the least number of threads (128)
  const int warp = gpu::warp(), warps = gpu::threads() / 32;
  Warp w = {p,
            {},
            gpu::block_y() * 8 * kTiles,
            *p.rows,
            gpu::lane(),
            (p.in.k + kChunkK - 1) / kChunkK,
            (p.in.k + 31) / 32,
            {}};
  if (w.first_row >= w.rows) return;
  GPU_UNROLL
  for (int i = 0; i < kStrips; ++i) w.strips[i] = StripAt<kForm>(p, gpu::block_x() * kStrips + i);
  const int splits = (w.chunks + kSplitChunks - 1) / kSplitChunks;

  float total[kOwned];
  GPU_UNROLL
  for (float& sum : total) sum = 0;
  GPU_UNROLL
  for (int c = 0; c < Warp::kRing; ++c) Warp::Fetch(w, c, warp * kSplitChunks + c);
  for (int first = 0; first < splits; first += warps) {
    if (first > 0) gpu::sync_block();
    float acc[kStrips][kTiles][4] = {};
    if (first + warp < splits) {
      Warp::Split(w, first + warp, first + warp + warps, acc);
      Warp::Put(w, acc, shared.tiles[warp]);
    }
    gpu::sync_block();
    const int count = gpu::min(warps, splits - first);
    GPU_UNROLL
    for (int i = 0; i < kOwned; ++i) {
      const int output = gpu::thread() + i * gpu::threads();
      if (output >= kOutputs * 128) continue;
      const int at = RowOfOutput(output) * kTilePitch + output % 16;
      for (int j = 0; j < count; ++j) total[i] += shared.tiles[j][output / 128][at];
    }
  }
  GPU_UNROLL
  for (int i = 0; i < kOwned; ++i) {
    const int output = gpu::thread() + i * gpu::threads(), tile = output / 128;
    const int row = w.first_row + tile % kTiles * 8 + RowOfOutput(output);
    const int feature = (gpu::block_x() * kStrips + tile / kTiles) * kStripFeatures + output % 16;
    if (tile < kOutputs && row < w.rows && feature < p.features)
      StoreProduct<Product>(p, total[i], row, feature);
  }
}

// --- Prefill: 128 features × 56 or 64 rows a block of 4 warps
//
// Block (x, y): rows from kPrefillRows * x, strips from 8 * y. Each warp has 2 strips and all rows. Chunks
// of activations and weights pass through kStages stages of shared memory, filled by cp.async.

/// Starts copying a chunk's activations; zeros for rows and k that are missing.
template <class Product, class Stage>
GPU_FN void FetchActivations(const MatmulParams& p, Stage& stage, int first_row, int rows, int chunk) {
  constexpr int kPiece = 16 / Product::kElementBytes;  // elements copied at once
  constexpr int kAcross = Product::kSub / kPiece, kRows = Product::kPrefillRows;
  const bool aligned = !Product::kAnyK || p.in.k % 8 == 0;
  for (int piece = gpu::thread(); piece < kRows * kChunkK / kPiece; piece += kPrefillWarps * 32) {
    const int row = first_row + piece / kAcross % kRows;
    const int k = chunk * kChunkK + piece / (kAcross * kRows) * Product::kSub + piece % kAcross * kPiece;
    const bool valid = row < rows && k < p.in.k;
    GPU_UNROLL
    for (int plane = 0; plane < Product::kPlanes; ++plane) {
      const auto* from = Product::Plane(p.in, plane) + (valid ? row * int64_t{p.in.k} + k : 0);
      uint8_t* to = stage.planes[plane] + piece * 16;
      if (aligned) {
        gpu::cp_async16(to, from, valid);
      } else if constexpr (Product::kAnyK) {
        for (int i = 0; i < kPiece; ++i) {
          reinterpret_cast<uint16_t*>(to)[i] = valid && k + i < p.in.k ? from[i] : uint16_t{0};
        }
      }
    }
  }
  if constexpr (Product::kSide) {
    for (int i = gpu::thread(); i < 2 * kRows; i += kPrefillWarps * 32) {
      const int row = first_row + i % kRows, block = 2 * chunk + i / kRows;
      const bool valid = row < rows && block < p.in.k / 32;
      const float* from = Product::Side(p.in) + (valid ? int64_t{row} * (p.in.k / 32) + block : 0);
      gpu::cp_async4(&stage.side[0][0] + i, from, valid);
    }
  }
}

/// Starts copying `bytes`, a multiple of 16, by the lanes of a warp.
template <int kBytes>
GPU_FN void FetchPart(uint8_t* to, const uint8_t* from, int lane) {
  GPU_UNROLL
  for (int i = 0; i < kBytes; i += 512) {
    if (i + lane * 16 < kBytes) gpu::cp_async16(to + i + lane * 16, from + i + lane * 16);
  }
}

/// Starts copying a strip's chunk.
template <class Shared, WeightForm kForm>
GPU_FN void FetchWeights(uint8_t* to, const uint8_t* strip, int chunk, int lane) {
  constexpr WeightLayout layout = LayoutOf(kForm);
  const ChunkParts from = PartsOfChunk(layout, strip, chunk);
  FetchPart<layout.level_bytes>(to, from.levels, lane);
  FetchPart<layout.high_bytes>(to + Shared::kHigh, from.high, lane);
  FetchPart<layout.scale_bytes>(to + Shared::kScales, from.scales, lane);
  FetchPart<layout.header_bytes>(to + Shared::kHeader, from.header, lane);
}

/// acc += the products of one block of 32 k in shared memory.
template <class Product, class Shared, int kStrips, int kTiles>
GPU_FN void MultiplyBlock(const typename Shared::Stage& stage, int block, float (&acc)[kStrips][kTiles][4]) {
  const int lane = gpu::lane(), g = lane / 4, t = lane % 4;
  typename Product::A a[kStrips];
  GPU_UNROLL
  for (int i = 0; i < kStrips; ++i) {
    const uint8_t* at = stage.weights[gpu::warp() * kStrips + i];
    const ChunkParts parts = {at, at + Shared::kHigh, at + Shared::kScales, at + Shared::kHeader};
    a[i] = Product::Unpack(Product::Load(parts, lane), block);
  }
  GPU_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    const int row = tile * 8 + g;
    const typename Product::B b =
        Product::FromShared(stage.planes[0], Shared::kPlaneBytes, Shared::kRows, row, block, t);
    float side[2] = {};
    if constexpr (Product::kSide) {
      side[0] = stage.side[block][tile * 8 + 2 * t];
      side[1] = stage.side[block][tile * 8 + 2 * t + 1];
    }
    GPU_UNROLL
    for (int i = 0; i < kStrips; ++i) Product::Multiply(acc[i][tile], a[i], b, side);
  }
}

template <class Product, WeightForm kForm>
GPU_FN void MatmulPrefill(const MatmulParams& p) {
  using Shared = PrefillShared<Product, kForm>;
  DYN_SMEM(Shared, shared);
  constexpr int kStrips = kPrefillStrips, kTiles = Shared::kRows / 8, kStages = Product::kStages;
  constexpr int kAcross = kTiles * 4;  // sums of a strip
  const int rows = *p.rows, first_row = gpu::block_x() * Shared::kRows;
  if (first_row >= rows) return;
  const int lane = gpu::lane();
  const int first_strip = (gpu::block_y() * kPrefillWarps + gpu::warp()) * kStrips;
  const int chunks = (p.in.k + kChunkK - 1) / kChunkK, blocks = (p.in.k + 31) / 32;
  const uint8_t* strips[kStrips];
  GPU_UNROLL
  for (int i = 0; i < kStrips; ++i) strips[i] = StripAt<kForm>(p, first_strip + i);

  float total[kStrips][kTiles][4] = {}, acc[kStrips][kTiles][4] = {};
  for (int index = 1 - kStages; index < chunks; ++index) {
    if (index >= 0) {
      gpu::cp_async_wait<kStages - 2>();
      gpu::sync_block();
    }
    const int ahead = index + kStages - 1;
    if (ahead < chunks) {
      typename Shared::Stage& stage = shared.stages[ahead % kStages];
      FetchActivations<Product>(p, stage, first_row, rows, ahead);
      GPU_UNROLL
      for (int i = 0; i < kStrips; ++i) {
        FetchWeights<Shared, kForm>(stage.weights[gpu::warp() * kStrips + i], strips[i], ahead, lane);
      }
    }
    gpu::cp_async_commit();
    if (index < 0) continue;
    const typename Shared::Stage& stage = shared.stages[index % kStages];
    MultiplyBlock<Product, Shared>(stage, 0, acc);
    if (2 * index + 1 < blocks) MultiplyBlock<Product, Shared>(stage, 1, acc);
    if (index % kSplitChunks == kSplitChunks - 1 || index == chunks - 1) {
      GPU_UNROLL
      for (int i = 0; i < kStrips * kAcross; ++i) {
        total[i / kAcross][i / 4 % kTiles][i % 4] += acc[i / kAcross][i / 4 % kTiles][i % 4];
        acc[i / kAcross][i / 4 % kTiles][i % 4] = 0;
      }
    }
  }
  GPU_UNROLL
  for (int i = 0; i < kStrips * kAcross; ++i) {
    const int strip = i / kAcross, tile = i / 4 % kTiles, j = i % 4;
    const int row = first_row + tile * 8 + lane % 4 * 2 + j % 2;
    const int feature = (first_strip + strip) * kStripFeatures + lane / 4 + j / 2 * 8;
    if (row < rows && feature < p.features) StoreProduct<Product>(p, total[strip][tile][j], row, feature);
  }
}

/// The kernels of one form of weights and activations; LaunchMatmul knows them by these names.
#define MATMUL_KERNELS(name, form, ...)                                                                 \
  GPU_KERNEL(matmul_##name##_decode8, MatmulParams, 256) { MatmulDecode<__VA_ARGS__, form, 1, 1>(p); }  \
  GPU_KERNEL(matmul_##name##_decode16, MatmulParams, 256) { MatmulDecode<__VA_ARGS__, form, 2, 2>(p); } \
  GPU_KERNEL(matmul_##name##_decode32, MatmulParams, 256) { MatmulDecode<__VA_ARGS__, form, 2, 4>(p); } \
  GPU_KERNEL(matmul_##name##_prefill, MatmulParams, 128) { MatmulPrefill<__VA_ARGS__, form>(p); }

}  // namespace tokenmill::cuda
