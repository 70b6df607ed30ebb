#pragma once

#include <memory>
#include <span>

#include "kernels/cuda/driver.h"
#include "kernels/cuda/images.h"

// The seam's implementation over the system's CUDA driver.

namespace tokenmill::cuda {

inline constexpr const char* kCudaLibrary = "libcuda.so.1";

/// Devices that the system's driver shows. DeviceUnavailable with what is missing where there is no driver or
/// none.
Result<int> CountCudaDevices(const char* library = kCudaLibrary);

/// Opens a device and loads the kernels on it. DeviceUnavailable where the driver is absent or too old, the
/// device does not exist or has a compute capability below 8.0, or no image runs on it. Graphs must go before
/// the driver does.
Result<std::shared_ptr<Driver>> OpenCudaDriver(int device, std::span<const Image> images,
                                               const char* library = kCudaLibrary);

}  // namespace tokenmill::cuda
