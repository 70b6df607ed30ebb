// The entry of the library tokenmill-cuda: NVIDIA's GPUs behind the table of ops/backend_table.h.

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/driver_cuda.h"
#include "kernels/cuda/executor.h"
#include "kernels/cuda/images.h"
#include "ops/backend_server.h"

namespace tokenmill::cuda {
namespace {

constexpr int kMajorMin = 8;  // mma.sync of bf16, cp.async

Status Check(const api::CudaApi& driver, const char* function, api::CUresult result) {
  if (result == api::kSuccess) return {};
  return Status(Code::kDeviceUnavailable, driver.Describe(function, result));
}

bool HasImages(int major, int minor) {
  for (const Image& image : Images()) {
    if (ImageRank(image, major, minor) >= 0) return true;
  }
  return false;
}

std::string ProblemOf(const BackendDevice& device) {
  if (device.major < kMajorMin) {
    return Format("it has compute capability %d.%d; %d.0 or later is needed", device.major, device.minor,
                  kMajorMin);
  }
  if (HasImages(device.major, device.minor)) return "";
  return Format("this build has no kernels for compute capability %d.%d", device.major, device.minor);
}

// Without a context on the device: making one takes a good part of a load.
Result<BackendDevice> Describe(const api::CudaApi& driver, int index) {
  BackendDevice device;
  device.index = index;
  api::CUdevice handle = 0;
  TM_RETURN_IF_ERROR(Check(driver, "cuDeviceGet", driver.cuDeviceGet(&handle, index)));
  char name[256] = {};
  TM_RETURN_IF_ERROR(
      Check(driver, "cuDeviceGetName", driver.cuDeviceGetName(name, sizeof(name) - 1, handle)));
  device.name = name;
  const std::pair<int, int*> attributes[] = {{api::kAttributeMajor, &device.major},
                                             {api::kAttributeMinor, &device.minor},
                                             {api::kAttributeMultiprocessors, &device.multiprocessors}};
  for (const auto& [attribute, value] : attributes) {
    const api::CUresult result = driver.cuDeviceGetAttribute(value, attribute, handle);
    TM_RETURN_IF_ERROR(Check(driver, "cuDeviceGetAttribute", result));
  }
  size_t bytes = 0;
  TM_RETURN_IF_ERROR(Check(driver, "cuDeviceTotalMem", driver.cuDeviceTotalMem(&bytes, handle)));
  device.memory_bytes = bytes;
  device.problem = ProblemOf(device);
  return device;
}

class CudaLibrary final : public BackendLibrary {
 public:
  Result<std::vector<BackendDevice>> Devices() override {
    TM_ASSIGN_OR_RETURN(const api::CudaApi driver, api::CudaApi::Open(kCudaLibrary));
    int count = 0;
    TM_RETURN_IF_ERROR(Check(driver, "cuDeviceGetCount", driver.cuDeviceGetCount(&count)));
    std::vector<BackendDevice> devices;
    for (int index = 0; index < count; ++index) {
      TM_ASSIGN_OR_RETURN(BackendDevice device, Describe(driver, index));
      devices.push_back(std::move(device));
    }
    return devices;
  }

  Result<std::unique_ptr<Executor>> Compile(const Program& program, std::span<const int> devices,
                                            const CompileOptions& options) override {
    std::vector<std::shared_ptr<Driver>> drivers;
    for (const int device : devices) {
      TM_ASSIGN_OR_RETURN(std::shared_ptr<Driver> driver, OpenCudaDriver(device, Images()));
      drivers.push_back(std::move(driver));
    }
    return CompileCuda(program, drivers, options);
  }
};

}  // namespace
}  // namespace tokenmill::cuda

extern "C" __attribute__((visibility("default"))) const TmBackend* tokenmill_backend(uint32_t version) {
  return tokenmill::ServeBackend(
      version, []() -> tokenmill::BackendLibrary* { return new tokenmill::cuda::CudaLibrary(); });
}
