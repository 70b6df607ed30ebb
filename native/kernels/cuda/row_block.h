#pragma once

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/views.h"

// One block a row: how kernels that work on whole rows spread a row over threads, add over it and write it in
// the forms of ActivationView. All of it depends on the width alone, so a row's bits do not depend on the
// step.
//
// A thread holds kItems times four consecutive elements: item i of thread t begins at column 4 * (i * threads
// + t). Eight consecutive lanes so have 32 consecutive columns. Elements behind the row's end are zeros.

namespace tokenmill::cuda {

constexpr int kRowItemsMax = 4;
constexpr int kRowThreadsMax = 1024;
/// The widest row that a block holds in registers.
constexpr int kRowWidthMax = 4 * kRowItemsMax * kRowThreadsMax;

/// A reduction's sums of the block's warps. Each reduction of a kernel has its own: one barrier is enough
/// then.
struct WarpParts {
  float parts[32];
};
struct WarpPartsInt {
  int parts[32];
};

template <int kItems>
struct RowPart {
  float x[kItems][4];
};

struct alignas(16) Four {
  float a, b, c, d;
};
struct alignas(8) TwoWords {
  uint32_t a, b;
};

GPU_FN int ItemColumn(int item) { return 4 * (item * gpu::threads() + gpu::thread()); }
/// Whether any thread of the block has columns of this item.
GPU_FN bool HasItem(int item, int width) { return 4 * item * gpu::threads() < width; }

/// Elements column … column + 3. Rows whose width is a multiple of 4 are 16-byte aligned.
GPU_FN void LoadFour(const float* row, int column, int width, float (&x)[4]) {
  x[0] = x[1] = x[2] = x[3] = 0;
  if (width % 4 == 0) {
    if (column >= width) return;
    const Four* from = reinterpret_cast<const Four*>(row + column);
    x[0] = from->a, x[1] = from->b, x[2] = from->c, x[3] = from->d;
    return;
  }
  GPU_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (column + i < width) x[i] = row[column + i];
  }
}

GPU_FN void StoreFour(float* row, int column, int width, const float (&x)[4]) {
  if (width % 4 == 0) {
    if (column >= width) return;
    Four* to = reinterpret_cast<Four*>(row + column);
    to->a = x[0], to->b = x[1], to->c = x[2], to->d = x[3];
    return;
  }
  GPU_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (column + i < width) row[column + i] = x[i];
  }
}

/// Four 16-bit elements, two a word.
GPU_FN void StoreFourHalves(uint16_t* row, int column, int width, uint32_t first, uint32_t second) {
  if (width % 4 == 0) {
    if (column >= width) return;
    TwoWords* to = reinterpret_cast<TwoWords*>(row + column);
    to->a = first, to->b = second;
    return;
  }
  if (column < width) row[column] = static_cast<uint16_t>(first);
  if (column + 1 < width) row[column + 1] = static_cast<uint16_t>(first >> 16);
  if (column + 2 < width) row[column + 2] = static_cast<uint16_t>(second);
  if (column + 3 < width) row[column + 3] = static_cast<uint16_t>(second >> 16);
}

template <int kItems>
GPU_FN void LoadRow(const float* row, int width, RowPart<kItems>& part) {
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) LoadFour(row, ItemColumn(i), width, part.x[i]);
}

/// The warp's sum, in all of its lanes: always the same tree.
GPU_FN float WarpSum(float value) {
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += gpu::shuffle_xor(value, mask);
  return value;
}

/// The sum over the block, in all threads.
GPU_FN float BlockSum(float value, WarpParts& shared) {
  value = WarpSum(value);
  if (gpu::lane() == 0) shared.parts[gpu::warp()] = value;
  gpu::sync_block();
  return WarpSum(gpu::lane() * 32 < gpu::threads() ? shared.parts[gpu::lane()] : 0.0f);
}

GPU_FN int BlockMax(int value, WarpPartsInt& shared) {
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value = gpu::max(value, gpu::shuffle_xor(value, mask));
  if (gpu::lane() == 0) shared.parts[gpu::warp()] = value;
  gpu::sync_block();
  value = gpu::lane() * 32 < gpu::threads() ? shared.parts[gpu::lane()] : 0;
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value = gpu::max(value, gpu::shuffle_xor(value, mask));
  return value;
}

/// 1 / sqrt(mean of the squares + epsilon). A thread adds its elements in ascending order by FMA, then
/// BlockSum.
template <int kItems>
GPU_FN float RmsScale(const RowPart<kItems>& part, int width, float epsilon, WarpParts& shared) {
  float squares = 0;
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) squares = gpu::fma(part.x[i][j], part.x[i][j], squares);
  }
  const float mean = gpu::divide(BlockSum(squares, shared), static_cast<float>(width));
  return gpu::divide(1.0f, gpu::square_root(mean + epsilon));
}

/// x * scale * weight. `weight` [width].
template <int kItems>
GPU_FN void ScaleRow(RowPart<kItems>& part, float scale, const float* weight, int width) {
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    float w[4];
    LoadFour(weight, ItemColumn(i), width, w);
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) part.x[i][j] = part.x[i][j] * scale * w[j];
  }
}

/// The bits of |x|: they order finite magnitudes, infinity and NaN, in this order.
GPU_FN int MagnitudeBits(float x) { return static_cast<int>(gpu::float_bits(x) & 0x7fffffffu); }
constexpr int kInfinityBits = 0x7f800000;

/// The biased exponent of ActivationView::row_scale for a row with this largest magnitude: 127 for a scale of
/// 1. Rows below 2^-115 stay below 2^11, since scales are normal numbers.
GPU_FN int RowScaleExponent(int largest_bits) {
  if (largest_bits == 0 || largest_bits >= kInfinityBits) return 127;
  return gpu::max((largest_bits >> 23) - 11, 1);
}

/// The sum over 32 columns in ascending order, in the last of their eight lanes.
GPU_FN float SumOf32(const float (&x)[4]) {
  const int place = gpu::lane() & 7;
  float sum = 0;
  GPU_UNROLL
  for (int step = 0; step < 8; ++step) {
    const float before = gpu::shuffle(sum, (gpu::lane() & 24) + (step == 0 ? 0 : step - 1));
    if (place == step) sum = before + x[0] + x[1] + x[2] + x[3];
  }
  return sum;
}

GPU_FN void WriteF16(const ActivationView& out, int row, int column, float inverse, const float (&x)[4]) {
  const uint32_t first = gpu::pack_f16(x[0] * inverse, x[1] * inverse);
  const uint32_t second = gpu::pack_f16(x[2] * inverse, x[3] * inverse);
  StoreFourHalves(out.f16 + static_cast<int64_t>(row) * out.k, column, out.k, first, second);
  if (out.sums == nullptr) return;
  const float rounded[4] = {
      gpu::from_f16(static_cast<uint16_t>(first)), gpu::from_f16(static_cast<uint16_t>(first >> 16)),
      gpu::from_f16(static_cast<uint16_t>(second)), gpu::from_f16(static_cast<uint16_t>(second >> 16))};
  const float sum = SumOf32(rounded);
  if ((gpu::lane() & 7) == 7 && column < out.k)
    out.sums[static_cast<int64_t>(row) * (out.k / 32) + column / 32] = sum;
}

GPU_FN int ToLevel(float x, float scale) {
  return gpu::max(-127, gpu::min(127, gpu::round_to_int(gpu::divide(x, scale))));
}

/// 32 values that are not all finite get levels of 0 and a scale of infinity or NaN, so that products are
/// NaN.
GPU_FN void WriteS8(const ActivationView& out, int row, int column, const float (&x)[4]) {
  int largest = 0;
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) largest = gpu::max(largest, MagnitudeBits(x[j]));
  GPU_UNROLL
  for (int mask = 1; mask < 8; mask *= 2) largest = gpu::max(largest, gpu::shuffle_xor(largest, mask));
  float scale = gpu::bits_float(static_cast<uint32_t>(largest));
  if (largest < kInfinityBits) scale = gpu::divide(scale, 127.0f);
  int levels[4] = {0, 0, 0, 0};
  if (largest < kInfinityBits && scale > 0) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) levels[j] = ToLevel(x[j], scale);
  }
  int sum = levels[0] + levels[1] + levels[2] + levels[3];
  GPU_UNROLL
  for (int mask = 1; mask < 8; mask *= 2) sum += gpu::shuffle_xor(sum, mask);
  if (column >= out.k) return;
  const int64_t at = static_cast<int64_t>(row) * out.k + column;
  *reinterpret_cast<uint32_t*>(out.s8 + at) =
      (static_cast<uint32_t>(levels[0]) & 0xff) | (static_cast<uint32_t>(levels[1]) & 0xff) << 8 |
      (static_cast<uint32_t>(levels[2]) & 0xff) << 16 | static_cast<uint32_t>(levels[3]) << 24;
  if ((gpu::lane() & 7) != 0) return;
  out.s8_scale[at / 32] = scale;
  out.s8_sums[at / 32] = sum;
}

GPU_FN void WriteBf16(const ActivationView& out, int row, int column, const float (&x)[4]) {
  const int64_t at = static_cast<int64_t>(row) * out.k;
  const uint32_t first = gpu::pack_bf16(x[0], x[1]), second = gpu::pack_bf16(x[2], x[3]);
  StoreFourHalves(out.bf16 + at, column, out.k, first, second);
  if (out.bf16_rest == nullptr) return;
  float rest[4];
  rest[0] = x[0] - gpu::from_bf16(static_cast<uint16_t>(first));
  rest[1] = x[1] - gpu::from_bf16(static_cast<uint16_t>(first >> 16));
  rest[2] = x[2] - gpu::from_bf16(static_cast<uint16_t>(second));
  rest[3] = x[3] - gpu::from_bf16(static_cast<uint16_t>(second >> 16));
  StoreFourHalves(out.bf16_rest + at, column, out.k, gpu::pack_bf16(rest[0], rest[1]),
                  gpu::pack_bf16(rest[2], rest[3]));
}

template <int kItems>
GPU_FN int LargestMagnitude(const RowPart<kItems>& part) {
  int largest = 0;
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) largest = gpu::max(largest, MagnitudeBits(part.x[i][j]));
  }
  return largest;
}

/// Writes the row's scale and gives its inverse. `largest` is of this thread's elements.
GPU_FN float WriteRowScale(const ActivationView& out, int row, int largest, WarpPartsInt& shared) {
  const int exponent = RowScaleExponent(BlockMax(largest, shared));
  if (gpu::thread() == 0) out.row_scale[row] = gpu::bits_float(static_cast<uint32_t>(exponent) << 23);
  return gpu::bits_float(static_cast<uint32_t>(254 - exponent) << 23);
}

/// Four columns in every form that is wanted; by whole warps. `inverse` is 1 / row_scale.
GPU_FN void WriteItem(const ActivationView& out, int row, int column, float inverse, const float (&x)[4]) {
  if (out.f32 != nullptr) StoreFour(out.f32 + static_cast<int64_t>(row) * out.k, column, out.k, x);
  if (out.f16 != nullptr) WriteF16(out, row, column, inverse, x);
  if (out.s8 != nullptr) WriteS8(out, row, column, x);
  if (out.bf16 != nullptr) WriteBf16(out, row, column, x);
}

/// Row `row` of `out`; by the whole block.
template <int kItems>
GPU_FN void WriteForms(const RowPart<kItems>& part, const ActivationView& out, int row,
                       WarpPartsInt& shared) {
  float inverse = 1;
  if (out.f16 != nullptr) inverse = WriteRowScale(out, row, LargestMagnitude(part), shared);
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if (HasItem(i, out.k)) WriteItem(out, row, ItemColumn(i), inverse, part.x[i]);
  }
}

}  // namespace tokenmill::cuda
