#pragma once

#include "kernels/cuda/views.h"
#include "kernels/cuda/weight_format.h"

#ifndef __CUDACC__
#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

/// out[r] = table[tokens[r]] * scale, from a table that is stored as products read it: a head that is tied to the
/// embedding keeps it once.
struct EmbedPackedParams {
  const StepCounts* counts;
  const int32_t* tokens;   // [rows]
  const uint8_t* weights;  // [vocabulary, width], as weight_format.h lays them out
  float* out;              // [rows, width]
  WeightForm form;
  int32_t width;
  float scale;
};

#ifndef __CUDACC__
/// For up to `rows_max` rows.
Status LaunchEmbedPacked(Driver& driver, const EmbedPackedParams& params, int rows_max);
#endif

}  // namespace tokenmill::cuda
