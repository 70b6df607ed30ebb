#include "kernels/cuda/pages.h"

#include "gpu_test.h"

namespace {

using namespace gpu_test;
using namespace tokenmill::cuda;

TEST(copies_pages_of_odd_sizes) {
  for (const size_t page_bytes : {size_t{16}, size_t{2688}, size_t{16384 + 48}, size_t{40960}}) {
    ForSeeds([&](Driver& driver) {
      const size_t pages = 5, words = page_bytes / 4;
      std::vector<uint32_t> before(pages * words);
      for (size_t i = 0; i < before.size(); ++i) before[i] = static_cast<uint32_t>(i * 2654435761u);
      const DeviceBuffer<uint32_t> memory(driver, before);
      const auto page = [&](size_t i) { return memory.address() + i * page_bytes; };
      const DeviceBuffer<PageCopy> copies(driver, {{page(4), page(0)}, {page(4), page(2)}, {page(1), page(3)}});
      CopyPagesParams params = {copies.data(), 3, static_cast<int64_t>(page_bytes)};
      if (!GPU_OK(driver, LaunchCopyPages(driver, Stream::kCopy, params))) return;
      const std::vector<uint32_t> after = memory.Download();
      const size_t from[] = {4, 1, 4, 1, 4};
      for (size_t i = 0; i < after.size(); ++i) {
        if (after[i] == before[from[i / words] * words + i % words]) continue;
        EXPECT_EQ(i, before.size());
        return;
      }
    });
  }
}

TEST(nothing_to_copy_and_odd_bytes) {
  Driver& driver = TestDriver();
  EXPECT(GPU_OK(driver, LaunchCopyPages(driver, Stream::kStep, {nullptr, 0, 64})));
  EXPECT(LaunchCopyPages(driver, Stream::kStep, {nullptr, 1, 24}).code() == tokenmill::Code::kInternal);
}

}  // namespace

HARNESS_MAIN()
