// Gather of embedding rows from packed weights, dequantized as quant/*.h define it: the same f32 bits as embed.cu gives
// from the file's blocks.
//
// Grid: (width / 256, rows); a thread gives one element and finds its level and scales by weight_format.h. No shared
// memory.

#include "kernels/cuda/embed_packed.h"

#include "kernels/cuda/gpu.h"

namespace tokenmill::cuda {
namespace {

constexpr int kEmbedThreads = 256;

GPU_FN float ValueOf(WeightForm form, const WeightParts& parts) {
  if (form == WeightForm::kF32) return gpu::bits_float(parts.bits);
  if (form == WeightForm::kF16) return gpu::from_f16(static_cast<uint16_t>(parts.bits));
  if (form == WeightForm::kBF16) return gpu::from_bf16(static_cast<uint16_t>(parts.bits));
  const float scale = gpu::from_f16(parts.d) * static_cast<float>(parts.scale);
  const float min = gpu::from_f16(parts.m) * static_cast<float>(parts.min);
  return scale * static_cast<float>(parts.level) - min;
}

}  // namespace

GPU_KERNEL(embed_packed, EmbedPackedParams, 256) {
  const int row = gpu::block_y(), k = gpu::block_x() * kEmbedThreads + gpu::thread();
  if (row >= p.counts->rows || k >= p.width) return;
  const WeightParts parts = ReadWeight(LayoutOf(p.form), p.weights, p.width, p.tokens[row], k);
  p.out[static_cast<int64_t>(row) * p.width + k] = ValueOf(p.form, parts) * p.scale;
}

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

namespace tokenmill::cuda {

Status LaunchEmbedPacked(Driver& driver, const EmbedPackedParams& params, int rows_max) {
  const LaunchShape shape = {.grid_x = static_cast<unsigned>((params.width + kEmbedThreads - 1) / kEmbedThreads),
                             .grid_y = static_cast<unsigned>(rows_max),
                             .threads = kEmbedThreads};
  return driver.Launch("embed_packed", shape, params);
}

}  // namespace tokenmill::cuda

#endif
