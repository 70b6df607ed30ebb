// Residual add + RMS norm + conversion to the forms that products read, in one pass over a row.
//
// One block a row, width / (4 * items) threads rounded up to whole warps (row_block.h); a row is read once
// and stays in registers. Shared memory: 384 bytes. Loads and stores of 16 bytes a thread where the width is
// a multiple of 4.
//
//   1024 threads at most         registers (no spills)
//   kernel       widths up to    sm_80  sm_86  sm_89  sm_90  sm_120
//   norm_rows_1  4096               30     33     33     30      35
//   norm_rows_2  8192               38     41     41     41      40
//   norm_rows_4  16384              62     62     62     64      54

#include "kernels/cuda/norm.h"

#include "kernels/cuda/row_block.h"

namespace tokenmill::cuda {
namespace {

struct NormShared {
  WarpParts post_squares;
  WarpParts squares;
  WarpPartsInt largest;
};

/// x += post_norm(product + bias), also in memory.
template <int kItems>
GPU_FN void AddProduct(const NormParams& p, int64_t row_begin, RowPart<kItems>& x, NormShared& shared) {
  RowPart<kItems> product;
  LoadRow(p.product + row_begin, p.width, product);
  if (p.bias != nullptr) {
    GPU_UNROLL
    for (int i = 0; i < kItems; ++i) {
      float bias[4];
      LoadFour(p.bias, ItemColumn(i), p.width, bias);
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) product.x[i][j] += bias[j];
    }
  }
  if (p.post_weight != nullptr) {
    const float scale = RmsScale(product, p.width, p.post_epsilon, shared.post_squares);
    ScaleRow(product, scale, p.post_weight, p.width);
  }
  GPU_UNROLL
  for (int i = 0; i < kItems; ++i) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) x.x[i][j] += product.x[i][j];
    StoreFour(p.x + row_begin, ItemColumn(i), p.width, x.x[i]);
  }
}

template <int kItems>
GPU_FN void NormRow(const NormParams& p) {
  DYN_SMEM(NormShared, shared);
  const int row = gpu::block_x();
  const bool listed = p.row_list != nullptr;
  if (row >= (listed ? p.counts->head_rows - p.row_first : p.counts->rows)) return;
  const int source = listed ? p.row_list[p.row_first + row] : row;
  const int64_t row_begin = static_cast<int64_t>(source) * p.width;
  RowPart<kItems> x;
  LoadRow(p.x + row_begin, p.width, x);
  if (p.product != nullptr) AddProduct(p, row_begin, x, shared);
  if (p.weight != nullptr) {
    const float scale = RmsScale(x, p.width, p.epsilon, shared.squares);
    ScaleRow(x, scale, p.weight, p.width);
  }
  WriteForms(x, p.out, row, shared.largest);
}

}  // namespace

GPU_KERNEL(norm_rows_1, NormParams, 1024) { NormRow<1>(p); }
GPU_KERNEL(norm_rows_2, NormParams, 1024) { NormRow<2>(p); }
GPU_KERNEL(norm_rows_4, NormParams, 1024) { NormRow<4>(p); }

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

#include "kernels/cuda/row_launch.h"

namespace tokenmill::cuda {

Status LaunchNorm(Driver& driver, const NormParams& params, int rows_max) {
  TM_RETURN_IF_ERROR(CheckRow(params.width, params.out));
  if (params.width > kRowWidthMax) {
    return Error(Code::kUnsupportedModel, "activations of %d elements; the GPU's kernels take %d at most",
                 params.width, kRowWidthMax);
  }
  if (params.product != nullptr && params.row_list != nullptr)
    return Error(Code::kInternal, "a product added to listed rows only");
  const RowShape row = RowShapeOf(params.width);
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>(rows_max);
  shape.threads = row.threads;
  shape.shared_bytes = sizeof(NormShared);
  return driver.Launch(row.items == 1   ? "norm_rows_1"
                       : row.items == 2 ? "norm_rows_2"
                                        : "norm_rows_4",
                       shape, params);
}

}  // namespace tokenmill::cuda

#endif
