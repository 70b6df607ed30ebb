#include "kernels/cuda/pages.h"

#include "kernels/cuda/gpu.h"

// copy_pages: grid (pieces of 16 KB of a page, copies), 256 threads, each four times 16 bytes; no shared memory.
// Registers: 22 or fewer on all targets.

namespace tokenmill::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLines = 4;  // of 16 bytes, a thread

struct alignas(16) Line {
  uint32_t words[4];
};

}  // namespace

GPU_KERNEL(copy_pages, CopyPagesParams, kThreads) {
  const PageCopy copy = p.copies[gpu::block_y()];
  const Line* from = reinterpret_cast<const Line*>(copy.from);
  Line* to = reinterpret_cast<Line*>(copy.to);
  const int64_t lines = p.page_bytes / int64_t{sizeof(Line)};
  const int64_t first = int64_t{gpu::block_x()} * kThreads * kLines + gpu::thread();
  GPU_UNROLL for (int i = 0; i < kLines; ++i) {
    const int64_t line = first + i * kThreads;
    if (line < lines) to[line] = from[line];
  }
}

#ifndef __CUDACC__
Status LaunchCopyPages(Driver& driver, Stream stream, const CopyPagesParams& params) {
  constexpr int kCopiesMax = 65535;  // of a grid's second dimension
  if (params.page_bytes % int64_t{sizeof(Line)} != 0) {
    return Error(Code::kInternal, "pages of %lld bytes, not a multiple of 16",
                 static_cast<long long>(params.page_bytes));
  }
  const int64_t piece = int64_t{sizeof(Line)} * kThreads * kLines;
  CopyPagesParams part = params;
  for (int32_t done = 0; done < params.count; done += part.count) {
    part.copies = params.copies + done;
    part.count = params.count - done < kCopiesMax ? params.count - done : kCopiesMax;
    LaunchShape shape;
    shape.grid_x = static_cast<unsigned>((params.page_bytes + piece - 1) / piece);
    shape.grid_y = static_cast<unsigned>(part.count);
    shape.threads = kThreads;
    TM_RETURN_IF_ERROR(driver.Launch(stream, "copy_pages", shape, &part, sizeof(part)));
  }
  return {};
}
#endif

}  // namespace tokenmill::cuda
