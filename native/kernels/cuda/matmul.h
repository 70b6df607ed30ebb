#pragma once

#include "kernels/cuda/views.h"
#include "kernels/cuda/weight_format.h"

#ifndef __CUDACC__
#include "kernels/cuda/driver.h"
#endif

// Matrix products: out[row][feature] = sum over k of in[row][k] * weights[feature][k], for weights of every
// form as weight_format.h lays them out.
//
// Every output has the same tree of sums whichever kernel computes it: k in splits of 256; in a split a
// chain from zero over ascending blocks of 32 k (16 where scales are per 16); total = total + split in
// ascending order, from zero. With P the tensor core's sum of a block from zero:
//   levels × f16       chain = fma(d, P, chain), then with mins chain = fma(m, sum of the block, chain)
//   Q8_0 × s8          chain = fma(d * s8_scale, P, chain); P is exact
//   F16, BF16          the tensor core adds to the chain, 16 k at a time
//   BF16, two terms    likewise, per 16 k first the activations' bf16, then what they leave over
//   F32                chain = fma(x, w, chain), k by k

namespace tokenmill::cuda {

struct MatmulParams {
  const uint8_t* weights;
  const int32_t* rows;  // on the device
  ActivationView in;
  const float* bias;  // [features] or null
  float* out;         // [rows][stride]
  int64_t stride;
  int32_t features;
  int32_t accumulate;  // 1: out += product
};

#ifndef __CUDACC__

/// The form of the activations that is multiplied. kFast: s8 for Q8_0, bf16 for BF16; kHigh: f16 for Q8_0,
/// bf16 and bf16_rest for BF16. Other formats have one form: f16, or f32 for F32.
enum class MatmulPrecision { kFast, kHigh };

/// kAuto takes the faster for the number of rows; the results are the same bits.
enum class MatmulKernel { kAuto, kDecode, kPrefill };

/// Above so many rows a product is bound by arithmetic.
inline constexpr int kDecodeRowsMax = 64;

struct MatmulArgs {
  WeightForm form = WeightForm::kF32;
  MatmulPrecision precision = MatmulPrecision::kFast;
  MatmulKernel kernel = MatmulKernel::kAuto;
  int rows_max = 0;  // *params.rows is at most this
  MatmulParams params = {};
};

/// Launches on the step's stream. InvalidArgument where k is not what the form demands.
Status LaunchMatmul(Driver& driver, const MatmulArgs& args);

#endif

}  // namespace tokenmill::cuda
