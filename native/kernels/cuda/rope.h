#pragma once

// RopeWriteKv of ops/program.h: per head q and k norm where present, rotation at the row's position, q in place, keys
// and values to the row's page in the form of kv_layout.h.

#include <stdint.h>

#include "kernels/cuda/views.h"

namespace tokenmill::cuda {

struct RopeParams {
  StepView step;
  KvLayerView kv;
  float* q;        // [rows, query_heads * head_dim], changed in place
  const float* k;  // [rows, kv_heads * head_dim]
  const float* v;  // likewise
  const float* q_norm;  // [head_dim] or null for none
  const float* k_norm;
  float q_epsilon;
  float k_epsilon;
  const float* angles;  // [positions, dims / 2, 2]: cosine, sine, times the table's magnitude; RopeAngles
  int32_t dims;         // elements that rotate, even, at most head_dim
  int32_t interleaved;  // 1: pairs (2i, 2i+1); 0: (i, i + dims/2)
};

}  // namespace tokenmill::cuda

#ifndef __CUDACC__
#include <vector>

#include "core/status.h"
#include "kernels/cuda/driver.h"
#include "ops/program.h"

namespace tokenmill::cuda {

/// RopeParams::angles of the positions first … first + positions - 1, rounded as the reference has them.
std::vector<float> RopeAngles(const RopeTable& table, int first, int positions);

/// Heads of at most 256 elements, an even number. The grid covers `rows_max` rows; the step has step.counts->rows.
Status LaunchRope(Driver& driver, const RopeParams& params, int rows_max);

}  // namespace tokenmill::cuda
#endif
