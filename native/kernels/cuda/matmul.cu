#include "kernels/cuda/matmul.h"

#include "kernels/cuda/matmul_tiles.h"

// F32 × f32 without tensor cores, and the choice of a kernel for every form.

namespace tokenmill::cuda {

inline constexpr int kF32Rows = 8;
inline constexpr int kF32SplitK = kSplitChunks * kChunkK;

/// A launch has as much of it as it has warps.
struct F32Shared {
  float sums[kDecodeWarps][kF32Rows][kF32StripFeatures];
};

// Block (x, y): strip x of 32 features, one a lane, rows from 8 * y. Each of up to 8 warps takes every so
// many-th split of k; after each round the partial sums meet in shared memory, [warp][row][feature], and
// warp w adds those of rows w, w + warps, … in order.
GPU_KERNEL(matmul_f32, MatmulParams, 256) {
  DYN_SMEM(F32Shared, shared);
  const int rows = *p.rows, first_row = gpu::block_y() * kF32Rows;
  if (first_row >= rows) return;
  const int lane = gpu::lane(), warp = gpu::warp(), warps = gpu::threads() / 32, k_end = p.in.k;
  const int splits = (k_end + kF32SplitK - 1) / kF32SplitK, row_count = gpu::min(kF32Rows, rows - first_row);
  const float* strip = reinterpret_cast<const float*>(
      p.weights + gpu::block_x() * StripBytes(LayoutOf(WeightForm::kF32), k_end));
  const float* in = p.in.f32 + int64_t{first_row} * k_end;

  float total[kF32Rows] = {};  // of rows warp, warp + warps, …
  for (int first = 0; first < splits; first += warps) {
    if (first > 0) gpu::sync_block();
    float acc[kF32Rows] = {};
    const int split_end = gpu::min(k_end, (first + warp + 1) * kF32SplitK);
    for (int k = (first + warp) * kF32SplitK; k < split_end; ++k) {
      const float weight = strip[int64_t{k} * kF32StripFeatures + lane];
      GPU_UNROLL
      for (int row = 0; row < kF32Rows; ++row) {
        if (row < row_count) acc[row] = gpu::fma(in[int64_t{row} * k_end + k], weight, acc[row]);
      }
    }
    GPU_UNROLL
    for (int row = 0; row < kF32Rows; ++row) shared.sums[warp][row][lane] = acc[row];
    gpu::sync_block();
    const int count = gpu::min(warps, splits - first);
    GPU_UNROLL
    for (int i = 0; i < kF32Rows; ++i) {
      const int row = warp + i * warps;
      if (row >= kF32Rows) continue;
      for (int j = 0; j < count; ++j) total[i] += shared.sums[j][row][lane];
    }
  }
  const int feature = gpu::block_x() * kF32StripFeatures + lane;
  GPU_UNROLL
  for (int i = 0; i < kF32Rows; ++i) {
    const int row = warp + i * warps;
    if (row < row_count && feature < p.features) {
      StoreProduct<PlainProduct<true, 1>>(p, total[i], first_row + row, feature);
    }
  }
}

#ifndef __CUDACC__

namespace {

/// The kernels that MATMUL_KERNELS makes of one form.
struct Kernels {
  const char *decode8, *decode16, *decode32, *prefill;
  size_t prefill_shared_bytes;
  int prefill_rows;  // of a block
};
#define KERNELS_OF(name, form, ...)          \
  {"matmul_" name "_decode8",                \
   "matmul_" name "_decode16",               \
   "matmul_" name "_decode32",               \
   "matmul_" name "_prefill",                \
   sizeof(PrefillShared<__VA_ARGS__, form>), \
   PrefillShared<__VA_ARGS__, form>::kRows}

Kernels KernelsOf(WeightForm form, MatmulPrecision precision) {
  const bool high = precision == MatmulPrecision::kHigh;
  switch (form) {
    case WeightForm::kQ4_0:
      return KERNELS_OF("q4_0", WeightForm::kQ4_0, LevelsProduct<WeightForm::kQ4_0>);
    case WeightForm::kQ4_1:
      return KERNELS_OF("q4_1", WeightForm::kQ4_1, LevelsProduct<WeightForm::kQ4_1>);
    case WeightForm::kQ4_K:
      return KERNELS_OF("q4_k", WeightForm::kQ4_K, LevelsProduct<WeightForm::kQ4_K>);
    case WeightForm::kQ5_0:
      return KERNELS_OF("q5_0", WeightForm::kQ5_0, LevelsProduct<WeightForm::kQ5_0>);
    case WeightForm::kQ5_1:
      return KERNELS_OF("q5_1", WeightForm::kQ5_1, LevelsProduct<WeightForm::kQ5_1>);
    case WeightForm::kQ5_K:
      return KERNELS_OF("q5_k", WeightForm::kQ5_K, LevelsProduct<WeightForm::kQ5_K>);
    case WeightForm::kQ6_K:
      return KERNELS_OF("q6_k", WeightForm::kQ6_K, LevelsProduct<WeightForm::kQ6_K>);
    case WeightForm::kQ8_0:
      if (high) return KERNELS_OF("q8_0_f16", WeightForm::kQ8_0, LevelsProduct<WeightForm::kQ8_0>);
      return KERNELS_OF("q8_0_s8", WeightForm::kQ8_0, BytesProduct);
    case WeightForm::kF16:
      return KERNELS_OF("f16", WeightForm::kF16, PlainProduct<false, 1>);
    case WeightForm::kBF16:
      if (high) return KERNELS_OF("bf16_two", WeightForm::kBF16, PlainProduct<true, 2>);
      return KERNELS_OF("bf16", WeightForm::kBF16, PlainProduct<true, 1>);
    case WeightForm::kF32:
      break;
  }
  return {};
}
#undef KERNELS_OF

unsigned Divide(int count, int by) { return static_cast<unsigned>((count + by - 1) / by); }

/// Threads for as many warps as there are splits of k, 4 or 8.
unsigned SplitThreads(int k) { return k > 4 * kF32SplitK ? 256 : 128; }

Status LaunchF32(Driver& driver, const MatmulArgs& args) {
  const unsigned threads = SplitThreads(args.params.in.k);
  const LaunchShape shape = {.grid_x = Divide(args.params.features, kF32StripFeatures),
                             .grid_y = Divide(args.rows_max, kF32Rows),
                             .threads = threads,
                             .shared_bytes = threads / 32 * kF32Rows * kF32StripFeatures * sizeof(float)};
  return driver.Launch("matmul_f32", shape, args.params);
}

Status LaunchDecode(Driver& driver, const Kernels& kernels, const MatmulArgs& args) {
  const int strips = args.rows_max <= 8 ? 1 : 2;  // of a block
  const int tiles = args.rows_max <= 8 ? 1 : args.rows_max <= 16 ? 2 : 4;
  const char* kernel = tiles == 1 ? kernels.decode8 : tiles == 2 ? kernels.decode16 : kernels.decode32;
  const unsigned threads = SplitThreads(args.params.in.k);
  const LaunchShape shape = {
      .grid_x = Divide(args.params.features, strips * kStripFeatures),
      .grid_y = Divide(args.rows_max, tiles * 8),
      .threads = threads,
      .shared_bytes = threads / 32 * static_cast<size_t>(strips * tiles * kTileFloats) * 4};
  return driver.Launch(kernel, shape, args.params);
}

Status LaunchPrefill(Driver& driver, const Kernels& kernels, const MatmulArgs& args) {
  const LaunchShape shape = {
      .grid_x = Divide(args.rows_max, kernels.prefill_rows),
      .grid_y = Divide(args.params.features, kPrefillWarps * kPrefillStrips * kStripFeatures),
      .threads = kPrefillWarps * 32,
      .shared_bytes = kernels.prefill_shared_bytes};
  return driver.Launch(kernels.prefill, shape, args.params);
}

}  // namespace

Status LaunchMatmul(Driver& driver, const MatmulArgs& args) {
  const int k = args.params.in.k, multiple = KMultipleOf(args.form);
  if (k < 1 || k % multiple != 0 || args.params.features < 1) {
    return Error(Code::kInvalidArgument, "a product of %d features and k %d; k must be a multiple of %d",
                 args.params.features, k, multiple);
  }
  if (args.rows_max < 1) return {};
  if (args.form == WeightForm::kF32) return LaunchF32(driver, args);
  const Kernels kernels = KernelsOf(args.form, args.precision);
  const bool decode = args.kernel == MatmulKernel::kAuto ? args.rows_max <= kDecodeRowsMax
                                                         : args.kernel == MatmulKernel::kDecode;
  return decode ? LaunchDecode(driver, kernels, args) : LaunchPrefill(driver, kernels, args);
}

#endif

}  // namespace tokenmill::cuda
