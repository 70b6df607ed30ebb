#pragma once

#include "kernels/cuda/views.h"

#ifndef __CUDACC__
#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

enum class GatedActivation : int32_t { kSilu, kGeluTanh };

/// out = up * activation(gate), in the forms of ActivationView that are not null.
struct GatedParams {
  const StepCounts* counts;
  const float* gate;  // rows `stride` elements apart; 16-byte aligned where the width is a multiple of 4
  const float* up;    // likewise
  int64_t stride;
  int32_t width;
  GatedActivation activation;
  ActivationView out;  // k = width
};

#ifndef __CUDACC__
/// For up to `rows_max` rows.
Status LaunchGated(Driver& driver, const GatedParams& params, int rows_max);
#endif

}  // namespace tokenmill::cuda
