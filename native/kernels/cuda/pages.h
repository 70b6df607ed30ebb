#pragma once

// Copies of whole pages within the device. A single page is copied by Driver::Copy; these are for many at once. What is
// behind a page's last token is cleared on the host (kv_layout.h, ClearKvPage).

#include <stdint.h>

namespace tokenmill::cuda {

/// Device addresses, 16-byte aligned. No page is written that another copy of the same launch reads or writes.
struct PageCopy {
  uint64_t from;
  uint64_t to;
};

struct CopyPagesParams {
  const PageCopy* copies;  // [count], in device memory
  int32_t count;
  int64_t page_bytes;  // a multiple of 16
};

}  // namespace tokenmill::cuda

#ifndef __CUDACC__
#include "core/status.h"
#include "kernels/cuda/driver.h"

namespace tokenmill::cuda {

/// Nothing for a count of 0.
Status LaunchCopyPages(Driver& driver, Stream stream, const CopyPagesParams& params);

}  // namespace tokenmill::cuda
#endif
