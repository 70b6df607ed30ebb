#pragma once

#include "kernels/cuda/views.h"
#include "kernels/cuda/weight_format.h"

#ifndef __CUDACC__
#include "core/dtype.h"
#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

/// out[r] = table[tokens[r]] * scale. The table is the file's bytes as they are, even-aligned at least (16
/// bytes where elements are f32).
struct EmbedParams {
  const StepCounts* counts;
  const int32_t* tokens;  // [rows]
  const uint8_t* table;   // [vocabulary, row_bytes]
  int64_t row_bytes;
  float* out;             // [rows, width]
  int32_t width;
  float scale;
};

/// The same from a matrix that products read too (weight_format.h): tied embeddings are kept once.
struct EmbedPackedParams {
  const StepCounts* counts;
  const int32_t* tokens;   // [rows]
  const uint8_t* weights;  // [vocabulary][width] in the form of the kernel
  float* out;              // [rows, width]
  int32_t width;
  float scale;
};

#ifndef __CUDACC__
/// For up to `rows_max` rows; `dtype` of the table.
Status LaunchEmbed(Driver& driver, DType dtype, const EmbedParams& params, int rows_max);
Status LaunchEmbedPacked(Driver& driver, WeightForm form, const EmbedPackedParams& params, int rows_max);
#endif

}  // namespace tokenmill::cuda
