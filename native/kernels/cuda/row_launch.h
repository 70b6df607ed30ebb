#pragma once

#include "core/status.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/row_block.h"

// The launchers' side of row_block.h.

namespace tokenmill::cuda {

/// How a row of a width is spread over a block: a function of the width alone.
struct RowShape {
  int items = 1;  // 1, 2 or 4; 0: more than that
  unsigned threads = 32;
};

inline RowShape RowShapeOf(int width) {
  RowShape shape;
  if (width > kRowWidthMax) return {0, kRowThreadsMax};
  while (width > 4 * shape.items * kRowThreadsMax) shape.items *= 2;
  const int columns = 128 * shape.items;  // of a warp
  shape.threads = 32u * static_cast<unsigned>((width + columns - 1) / columns);
  return shape;
}

/// What a launcher refuses of a row's width and of the forms that are wanted.
inline Status CheckRow(int width, const ActivationView& out) {
  if (width < 1) return Error(Code::kInternal, "rows of %d elements", width);
  const bool any = out.f32 != nullptr || out.f16 != nullptr || out.s8 != nullptr || out.bf16 != nullptr;
  if (any && out.k != width) return Error(Code::kInternal, "rows of %d elements written as %d", width, out.k);
  if ((out.s8 != nullptr || out.sums != nullptr) && width % 32 != 0) {
    return Error(Code::kInternal, "rows of %d elements in a form that needs a multiple of 32", width);
  }
  if (out.f16 != nullptr && out.row_scale == nullptr)
    return Error(Code::kInternal, "f16 rows without their scales");
  return {};
}

}  // namespace tokenmill::cuda
