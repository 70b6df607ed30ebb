#include "kernels/cuda/cuda_api.h"

#include "core/shared_library.h"

namespace tokenmill::cuda::api {
namespace {

// "12.4" of 12040.
std::string VersionText(int version) { return Format("%d.%d", version / 1000, version % 1000 / 10); }

Status Resolve(const char* path, const SharedLibrary& library, const char* symbol, void** function) {
  *function = library.Find(symbol);
  if (*function != nullptr) return {};
  return Error(Code::kDeviceUnavailable,
               "the CUDA driver %s lacks the function %s; it needs to be that of CUDA %s or later", path, symbol,
               VersionText(kDriverVersionMin).c_str());
}

}  // namespace

Result<CudaApi> CudaApi::Open(const char* path) {
  const Result<SharedLibrary> opened = SharedLibrary::Open(path);
  if (!opened.ok()) {
    return Error(Code::kDeviceUnavailable, "NVIDIA's driver is not installed: %s",
                 opened.status().message().c_str());
  }
  const SharedLibrary& library = opened.value();
  CudaApi api;
#define TM_CUDA_RESOLVE(name, symbol, parameters) \
  TM_RETURN_IF_ERROR(Resolve(path, library, symbol, reinterpret_cast<void**>(&api.name)));
  TM_CUDA_FUNCTIONS(TM_CUDA_RESOLVE)
#undef TM_CUDA_RESOLVE
  int version = 0;
  if (const CUresult result = api.cuDriverGetVersion(&version); result != kSuccess)
    return Status(Code::kDeviceUnavailable, api.Describe("cuDriverGetVersion", result));
  if (version < kDriverVersionMin) {
    return Error(Code::kDeviceUnavailable, "NVIDIA's driver is one for CUDA %s; CUDA %s or later is needed",
                 VersionText(version).c_str(), VersionText(kDriverVersionMin).c_str());
  }
  if (const CUresult result = api.cuInit(0); result != kSuccess)
    return Status(Code::kDeviceUnavailable, api.Describe("cuInit", result));
  return api;
}

std::string CudaApi::Describe(const char* function, CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName(result, &name) != kSuccess || name == nullptr)
    return Format("%s failed with the unknown error %d", function, result);
  if (cuGetErrorString(result, &text) != kSuccess || text == nullptr) text = "no description";
  return Format("%s failed: %s (%s)", function, name, text);
}

}  // namespace tokenmill::cuda::api
