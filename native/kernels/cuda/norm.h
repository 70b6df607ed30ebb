#pragma once

#include "kernels/cuda/views.h"

#ifndef __CUDACC__
#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

/// Rows of f32 [width], 256-byte aligned at their first:
///   x += post_norm(product + bias)   where there is a product
///   out = norm(x)                    in the forms of ActivationView that are not null
/// Absent weights: no norm of that place. Row r of `out` is row r of x or, with a row list, row
/// row_list[row_first + r], of which there are counts->head_rows - row_first; a product needs all rows.
struct NormParams {
  const StepCounts* counts = nullptr;
  float* x = nullptr;                  // [rows, width]; only written with a product
  const float* product = nullptr;      // [rows, width] or null
  const float* bias = nullptr;         // [width] or null
  const float* post_weight = nullptr;  // [width] or null
  const float* weight = nullptr;       // [width] or null
  const int32_t* row_list = nullptr;   // [head_rows] or null
  int32_t row_first = 0;
  int32_t width = 0;
  float post_epsilon = 0;
  float epsilon = 0;
  ActivationView out = {};  // k = width
};

#ifndef __CUDACC__
/// For up to `rows_max` rows.
Status LaunchNorm(Driver& driver, const NormParams& params, int rows_max);
#endif

}  // namespace tokenmill::cuda
