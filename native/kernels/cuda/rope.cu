#include "kernels/cuda/rope.h"

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kv_layout.h"

#ifndef __CUDACC__
#include <cmath>
#endif

// rope_write_kv: a warp takes one query head, or one kv head's key and value, of one row; 4 warps a block, grid
// (units / 4). A lane has the elements 2 * lane and 2 * lane + 1 of each 64 of its head. Shared memory: 1 KB a warp, in
// which partners of a rotation meet. Sums of squares: ascending within a lane, lanes added as a tree.

namespace tokenmill::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kDimMax = 256;
constexpr int kPairs = kDimMax / 64;  // a lane

struct RopeShared {
  float heads[kWarps][kDimMax];
};

struct alignas(8) Pair {
  float x, y;
};

/// A lane's share of a head: elements 64 j + 2 lane, and the next.
struct Head {
  Pair pairs[kPairs];
};

GPU_FN int ElementOf(int j) { return 64 * j + 2 * gpu::lane(); }

GPU_FN Head LoadHead(const float* x, int dim) {
  Head head;
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    head.pairs[j] = ElementOf(j) < dim ? *reinterpret_cast<const Pair*>(x + ElementOf(j)) : Pair{0, 0};
  }
  return head;
}

// x * weight / sqrt(mean(x^2) + epsilon)
GPU_FN void RmsNorm(Head& head, const float* weight, float epsilon, int dim) {
  float squares = 0;
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    squares = gpu::fma(head.pairs[j].x, head.pairs[j].x, squares);
    squares = gpu::fma(head.pairs[j].y, head.pairs[j].y, squares);
  }
  GPU_UNROLL for (int mask = 16; mask > 0; mask /= 2) squares += gpu::shuffle_xor(squares, mask);
  const float mean = gpu::divide(squares, static_cast<float>(dim));
  const float scale = gpu::divide(1.0f, gpu::square_root(mean + epsilon));
  const Head weights = LoadHead(weight, dim);
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    head.pairs[j].x = head.pairs[j].x * scale * weights.pairs[j].x;
    head.pairs[j].y = head.pairs[j].y * scale * weights.pairs[j].y;
  }
}

GPU_FN Pair RotatePair(float a, float b, Pair angle) {
  return {a * angle.x - b * angle.y, a * angle.y + b * angle.x};
}

// `meeting` [kDimMax] is the warp's own.
GPU_FN void Rotate(const RopeParams& p, int position, Head& head, float* meeting) {
  const int half = p.dims / 2;
  const Pair* angles = reinterpret_cast<const Pair*>(p.angles) + int64_t{position} * half;
  if (p.interleaved) {
    GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
      if (ElementOf(j) >= p.dims) continue;
      head.pairs[j] = RotatePair(head.pairs[j].x, head.pairs[j].y, angles[ElementOf(j) / 2]);
    }
    return;
  }
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    if (ElementOf(j) < p.dims) *reinterpret_cast<Pair*>(meeting + ElementOf(j)) = head.pairs[j];
  }
  gpu::sync_warp();
  for (int i = gpu::lane(); i < half; i += 32) {
    const Pair rotated = RotatePair(meeting[i], meeting[i + half], angles[i]);
    meeting[i] = rotated.x;
    meeting[i + half] = rotated.y;
  }
  gpu::sync_warp();
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    if (ElementOf(j) < p.dims) head.pairs[j] = *reinterpret_cast<const Pair*>(meeting + ElementOf(j));
  }
}

GPU_FN float ToF16Range(float x) { return x != x ? x : gpu::min(gpu::max(x, -65504.0f), 65504.0f); }

GPU_FN void StoreF16(const Head& head, int dim, uint16_t* out) {
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    const Pair pair = head.pairs[j];
    if (ElementOf(j) >= dim) continue;
    *reinterpret_cast<uint32_t*>(out + ElementOf(j)) = gpu::pack_f16(ToF16Range(pair.x), ToF16Range(pair.y));
  }
}

GPU_FN void StoreInt8(const Head& head, int dim, int8_t* out, float* scale_out) {
  uint32_t bits = 0;  // of the largest magnitude: NaN is above infinity
  const auto magnitude = [](float x) { return gpu::float_bits(x) & 0x7fffffffu; };
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    const uint32_t x = magnitude(head.pairs[j].x), y = magnitude(head.pairs[j].y);
    bits = x > bits ? x : bits;
    bits = y > bits ? y : bits;
  }
  GPU_UNROLL for (int mask = 16; mask > 0; mask /= 2) {
    const uint32_t other = gpu::shuffle_xor(bits, mask);
    bits = other > bits ? other : bits;
  }
  const bool finite = bits < 0x7f800000u;
  float scale = gpu::divide(gpu::bits_float(bits), 127.0f);
  if (gpu::bits_float(bits) < 1e-36f) scale = 0;  // levels of such a scale are not worth its precision
  const bool zero = !finite || scale == 0;
  if (gpu::lane() == 0) *scale_out = finite ? scale : gpu::bits_float(0x7fc00000u);
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    if (ElementOf(j) >= dim) continue;
    const int x = zero ? 0 : gpu::round_to_int(gpu::divide(head.pairs[j].x, scale));
    const int y = zero ? 0 : gpu::round_to_int(gpu::divide(head.pairs[j].y, scale));
    *reinterpret_cast<uint16_t*>(out + ElementOf(j)) =
        static_cast<uint16_t>((static_cast<uint32_t>(x) & 0xffu) | (static_cast<uint32_t>(y) & 0xffu) << 8);
  }
}

// A value that has NaN becomes zeros and makes its key NaN (kv_layout.h).
GPU_FN void MoveNanToKey(Head& value, Head& key) {
  bool nan = false;
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    nan = nan || value.pairs[j].x != value.pairs[j].x || value.pairs[j].y != value.pairs[j].y;
  }
  if (gpu::ballot(nan) == 0) return;
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) value.pairs[j] = {0, 0};
  key.pairs[0].x = gpu::bits_float(0x7fc00000u);
}

GPU_FN void WriteKv(const RopeParams& p, int row, int position, int kv_head, Head key) {
  const KvLayerView& kv = p.kv;
  Head value = LoadHead(p.v + (int64_t{row} * kv.kv_heads + kv_head) * kv.head_dim, kv.head_dim);
  const int64_t page_index = int64_t{p.step.sequences[row]} * kv.table.stride + position / kKvPageTokens;
  unsigned char* keys =
      reinterpret_cast<unsigned char*>(kv.table.pages[page_index]) + kv.offset + kv_head * kv.kv_head_bytes;
  unsigned char* values = keys + KvRowsBytes(kv.head_dim, kv.int8 != 0);
  const int slot = position % kKvPageTokens, begin = slot * kv.head_dim;
  if (kv.int8 == 0) {
    MoveNanToKey(value, key);
    StoreF16(key, kv.head_dim, reinterpret_cast<uint16_t*>(keys) + begin);
    StoreF16(value, kv.head_dim, reinterpret_cast<uint16_t*>(values) + begin);
    return;
  }
  float* scales = reinterpret_cast<float*>(keys + KvScalesOffset(kv.head_dim));
  StoreInt8(key, kv.head_dim, reinterpret_cast<int8_t*>(keys) + begin, scales + slot);
  StoreInt8(value, kv.head_dim, reinterpret_cast<int8_t*>(values) + begin, scales + kKvPageTokens + slot);
}

}  // namespace

GPU_KERNEL(rope_write_kv, RopeParams, 32 * kWarps) {
  DYN_SMEM(RopeShared, shared);
  const int heads = p.kv.query_heads + p.kv.kv_heads;
  const int unit = gpu::block_x() * kWarps + gpu::warp();
  const int row = unit / heads, head_index = unit % heads;
  if (row >= p.step.counts->rows) return;
  const int position = p.step.positions[row], dim = p.kv.head_dim;
  const bool query = head_index < p.kv.query_heads;
  const int kv_head = head_index - p.kv.query_heads;
  const float* in = query ? p.q + (int64_t{row} * p.kv.query_heads + head_index) * dim
                          : p.k + (int64_t{row} * p.kv.kv_heads + kv_head) * dim;
  const float* norm = query ? p.q_norm : p.k_norm;
  Head head = LoadHead(in, dim);
  if (norm != nullptr) RmsNorm(head, norm, query ? p.q_epsilon : p.k_epsilon, dim);
  Rotate(p, position, head, shared.heads[gpu::warp()]);
  if (!query) return WriteKv(p, row, position, kv_head, head);
  float* out = p.q + (int64_t{row} * p.kv.query_heads + head_index) * dim;
  GPU_UNROLL for (int j = 0; j < kPairs; ++j) {
    if (ElementOf(j) < dim) *reinterpret_cast<Pair*>(out + ElementOf(j)) = head.pairs[j];
  }
}

#ifndef __CUDACC__
std::vector<float> RopeAngles(const RopeTable& table, int first, int positions) {
  std::vector<float> angles;
  angles.reserve(static_cast<size_t>(positions) * static_cast<size_t>(table.dims));
  for (int position = first; position < first + positions; ++position) {
    for (const double frequency : table.frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      angles.push_back(static_cast<float>(std::cos(angle)) * table.magnitude);
      angles.push_back(static_cast<float>(std::sin(angle)) * table.magnitude);
    }
  }
  return angles;
}

Status LaunchRope(Driver& driver, const RopeParams& params, int rows_max) {
  const int dim = params.kv.head_dim;
  if (dim < 2 || dim > kDimMax || dim % 2 != 0 || params.dims < 0 || params.dims > dim || params.dims % 2 != 0) {
    return Error(Code::kUnsupportedModel,
                 "heads of %d elements of which %d rotate; even numbers up to %d can be computed on CUDA", dim,
                 params.dims, kDimMax);
  }
  const int64_t units = int64_t{rows_max} * (params.kv.query_heads + params.kv.kv_heads);
  if (units == 0) return {};
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>((units + kWarps - 1) / kWarps);
  shape.threads = 32 * kWarps;
  shape.shared_bytes = sizeof(RopeShared);
  return driver.Launch("rope_write_kv", shape, params);
}
#endif

}  // namespace tokenmill::cuda
