// SiLU or GELU (tanh) of the gate times the up product, converted to the forms that the down projection
// reads.
//
// One block a row, laid out as row_block.h says. Shared memory: 128 bytes.
//
//   1024 threads at most         registers (no spills)
//   kernel           widths      sm_80  sm_86  sm_89  sm_90  sm_120
//   gated_rows_1     to 4096        26     31     31     28      29
//   gated_rows_2     to 8192        35     37     37     36      36
//   gated_rows_4     to 16384       56     56     56     58      57
//   gated_rows_wide  any            28     32     32     32      54
// The wide one reads the row and computes it twice where f16 is wanted, the second time with the scale known.

#include "kernels/cuda/gated.h"

#include "kernels/cuda/row_block.h"
#include "kernels/cuda/row_math.h"

namespace tokenmill::cuda {
namespace {

struct GatedShared {
  WarpPartsInt largest;
};

/// SiLU is x / (1 + e^-x); GELU's 0.5 * (1 + tanh(y)) is 1 / (1 + e^-2y), so it has the same form.
GPU_FN float Activate(GatedActivation activation, float x) {
  float exponent = -x;
  if (activation == GatedActivation::kGeluTanh) exponent = -1.5957691216057308f * (x + 0.044715f * x * x * x);
  return gpu::divide(x, 1.0f + Exp(exponent));
}

template <int kItems>
GPU_FN void GatedRow(const GatedParams& p) {
  DYN_SMEM(GatedShared, shared);
  const int row = gpu::block_x();
  if (row >= p.counts->rows) return;
  RowPart<kItems> gate, up;
  LoadRow(p.gate + row * p.stride, p.width, gate);
  LoadRow(p.up + row * p.stride, p.width, up);
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) up.x[i][j] *= Activate(p.activation, gate.x[i][j]);
  }
  WriteForms(up, p.out, row, shared.largest);
}

GPU_FN void GatedFour(const GatedParams& p, int row, int column, float (&x)[4]) {
  float gate[4];
  LoadFour(p.gate + row * p.stride, column, p.width, gate);
  LoadFour(p.up + row * p.stride, column, p.width, x);
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) x[j] *= Activate(p.activation, gate[j]);
}

GPU_FN void GatedRowTwice(const GatedParams& p) {
  DYN_SMEM(GatedShared, shared);
  const int row = gpu::block_x();
  if (row >= p.counts->rows) return;
  float inverse = 1;
  if (p.out.f16 != nullptr) {
    int largest = 0;
    for (int i = 0; HasItem(i, p.width); ++i) {
      float x[4];
      GatedFour(p, row, ItemColumn(i), x);
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) largest = gpu::max(largest, MagnitudeBits(x[j]));
    }
    inverse = WriteRowScale(p.out, row, largest, shared.largest);
  }
  for (int i = 0; HasItem(i, p.width); ++i) {
    float x[4];
    GatedFour(p, row, ItemColumn(i), x);
    WriteItem(p.out, row, ItemColumn(i), inverse, x);
  }
}

}  // namespace

GPU_KERNEL(gated_rows_1, GatedParams, 1024) { GatedRow<1>(p); }
GPU_KERNEL(gated_rows_2, GatedParams, 1024) { GatedRow<2>(p); }
GPU_KERNEL(gated_rows_4, GatedParams, 1024) { GatedRow<4>(p); }
GPU_KERNEL(gated_rows_wide, GatedParams, 1024) { GatedRowTwice(p); }

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

#include "kernels/cuda/row_launch.h"

namespace tokenmill::cuda {

Status LaunchGated(Driver& driver, const GatedParams& params, int rows_max) {
  static constexpr const char* kKernels[] = {"gated_rows_wide", "gated_rows_1", "gated_rows_2", "",
                                             "gated_rows_4"};
  TM_RETURN_IF_ERROR(CheckRow(params.width, params.out));
  if (params.width % 4 == 0 && params.stride % 4 != 0)
    return Error(Code::kInternal, "gated rows that are not 16-byte aligned");
  const RowShape row = RowShapeOf(params.width);
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>(rows_max);
  shape.threads = row.threads;
  shape.shared_bytes = sizeof(GatedShared);
  return driver.Launch(kKernels[row.items], shape, params);
}

}  // namespace tokenmill::cuda

#endif
