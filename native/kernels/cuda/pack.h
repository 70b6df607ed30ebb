#pragma once

#include "kernels/cuda/weight_format.h"

#ifndef __CUDACC__
#include "core/dtype.h"
#include "kernels/cuda/driver.h"
#endif

// From a file's rows to the form that products read, on the device.

namespace tokenmill::cuda {

struct PackParams {
  const uint8_t* rows;     // as in the file, of features feature_begin, …
  uint8_t* weights;        // the whole matrix
  int32_t feature_begin;   // a multiple of 32
  int32_t feature_count;   // a multiple of 32, or to the last one
  int32_t k;
};

#ifndef __CUDACC__

/// UnsupportedQuantization for types that cannot run.
Result<WeightForm> WeightFormOf(DType dtype);

/// Packs feature_count rows; what is missing in their strips becomes zeros. A matrix is packed in as many
/// launches as its rows are uploaded in. InvalidArgument where k or feature_begin is not what the form
/// demands.
Status LaunchPack(Driver& driver, Stream stream, WeightForm form, const PackParams& params);

#endif

}  // namespace tokenmill::cuda
