// The GPU that tests with GPU_BACKEND=cuda run on: the system's first one, with the kernels of the package.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "gpu_test.h"
#include "kernels/cuda/driver_cuda.h"
#include "kernels/cuda/images.h"

namespace tokenmill::cuda {

/// Kernels of the test alone; scripts/gpu-cuda.mjs writes it.
std::vector<Image> TestImages();

namespace {

/// Null, and why, where there is no GPU. A GPU that cannot be used ends the program as a failure.
std::shared_ptr<Driver> Open() {
  const Result<int> count = CountCudaDevices();
  if (!count.ok()) {
    std::printf("no GPU: %s\n", count.status().message().c_str());
    return nullptr;
  }
  std::vector<Image> images(Images().begin(), Images().end());
  for (const Image& image : TestImages()) images.push_back(image);
  Result<std::shared_ptr<Driver>> driver = OpenCudaDriver(0, images);
  if (driver.ok()) return std::move(driver).value();
  std::printf("FAIL there is a GPU, but: %s\n", driver.status().message().c_str());
  std::exit(1);
}

[[maybe_unused]] const bool registered = (gpu_test::open_cuda_driver = Open) != nullptr;

}  // namespace
}  // namespace tokenmill::cuda
