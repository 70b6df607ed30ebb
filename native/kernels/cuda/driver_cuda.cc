#include "kernels/cuda/driver_cuda.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/cuda_api.h"

namespace tokenmill::cuda {

int ImageRank(const Image& image, int major, int minor) {
  if (image.ptx) return image.sm <= 10 * major + minor ? image.sm : -1;
  const bool runs = image.sm / 10 == major && image.sm % 10 <= minor;
  return runs ? 10000 + image.sm : -1;
}

namespace {

using api::CUdeviceptr;
using api::CUfunction;
using api::CUmodule;
using api::CUresult;
using api::CUstream;

// The device's context on this thread while it lives. The thread's own comes back: others may use CUDA there.
class Current {
 public:
  Current(const api::CudaApi& api, api::CUcontext context)
      : api_(api), result_(api.cuCtxPushCurrent(context)) {}
  ~Current() {
    api::CUcontext popped = nullptr;
    if (result_ == api::kSuccess) api_.cuCtxPopCurrent(&popped);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  CUresult result() const { return result_; }

 private:
  const api::CudaApi& api_;
  const CUresult result_;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(const api::CudaApi& api, api::CUcontext context, api::CUgraphExec exec)
      : api_(api), context_(context), exec_(exec) {}
  ~CudaGraph() override {
    const Current current(api_, context_);
    api_.cuGraphExecDestroy(exec_);
  }
  api::CUgraphExec exec() const { return exec_; }

 private:
  const api::CudaApi& api_;
  const api::CUcontext context_;
  const api::CUgraphExec exec_;
};

struct Kernel {
  CUfunction function = nullptr;
  size_t shared_bytes = api::kSharedBytesPlain;  // that it may ask for
};

class CudaDriver final : public Driver {
 public:
  explicit CudaDriver(const api::CudaApi& api) : api_(api) {}
  ~CudaDriver() override;

  Status Open(int device, std::span<const Image> images);

  const DeviceInfo& info() const override { return info_; }
  Status MemoryInfo(size_t* free_bytes, size_t* total_bytes) override;
  Result<DevicePtr> Allocate(size_t bytes) override;
  void Free(DevicePtr at) override;
  Result<void*> AllocatePinned(size_t bytes) override;
  void FreePinned(void* at) override;
  Status Upload(Stream stream, DevicePtr to, const void* from, size_t bytes) override;
  Status Download(Stream stream, void* to, DevicePtr from, size_t bytes) override;
  Status Copy(Stream stream, DevicePtr to, DevicePtr from, size_t bytes) override;
  Status Fill(Stream stream, DevicePtr to, uint8_t value, size_t bytes) override;
  Status Launch(Stream stream, const char* kernel, const LaunchShape& shape, const void* params,
                size_t params_bytes) override;
  Status Synchronize(Stream stream) override;
  Status BeginCapture() override;
  Result<std::unique_ptr<Graph>> EndCapture() override;
  Status Replay(const Graph& graph) override;

 private:
  Status Describe(int device);
  Status LoadModules(std::span<const Image> images);
  Status LoadModule(std::vector<const Image*> images);
  Result<Kernel*> FindKernel(const char* name);
  CUstream of(Stream stream) const { return streams_[stream == Stream::kStep ? 0 : 1]; }

  Status Check(const char* function, CUresult result, Code code = Code::kInternal) const {
    if (result == api::kSuccess) return {};
    return Status(result == api::kOutOfMemory ? Code::kOutOfMemory : code, api_.Describe(function, result));
  }

  // Calls `function` with the context current.
  template <class Call>
  Status With(const char* function, Call call, Code code = Code::kInternal) const {
    const Current current(api_, context_);
    TM_RETURN_IF_ERROR(Check("cuCtxPushCurrent", current.result(), code));
    return Check(function, call(), code);
  }

  const api::CudaApi api_;
  DeviceInfo info_;
  api::CUdevice device_ = 0;
  api::CUcontext context_ = nullptr;
  CUstream streams_[2] = {};
  std::vector<CUmodule> modules_;
  std::unordered_map<std::string, Kernel> kernels_;
};

CudaDriver::~CudaDriver() {
  if (context_ == nullptr) return;
  {
    const Current current(api_, context_);
    for (const CUstream stream : streams_) {
      if (stream != nullptr) api_.cuStreamDestroy(stream);
    }
    for (const CUmodule module : modules_) api_.cuModuleUnload(module);
  }
  api_.cuDevicePrimaryCtxRelease(device_);
}

Status CudaDriver::Describe(int device) {
  constexpr Code kCode = Code::kDeviceUnavailable;
  int count = 0;
  TM_RETURN_IF_ERROR(Check("cuDeviceGetCount", api_.cuDeviceGetCount(&count), kCode));
  if (count == 0) return Error(kCode, "NVIDIA's driver shows no GPU");
  if (device < 0 || device >= count)
    return Error(kCode, "GPU %d does not exist; NVIDIA's driver shows %d, counted from 0", device, count);
  TM_RETURN_IF_ERROR(Check("cuDeviceGet", api_.cuDeviceGet(&device_, device), kCode));
  char name[256] = {};
  TM_RETURN_IF_ERROR(Check("cuDeviceGetName",
                           api_.cuDeviceGetName(name, static_cast<int>(sizeof(name)) - 1, device_), kCode));
  info_.name = name;
  info_.index = device;
  int shared = 0;
  const struct {
    int attribute;
    int* value;
  } attributes[] = {{api::kAttributeMajor, &info_.major},
                    {api::kAttributeMinor, &info_.minor},
                    {api::kAttributeMultiprocessors, &info_.multiprocessors},
                    {api::kAttributeSharedBytesOptIn, &shared}};
  for (const auto& [attribute, value] : attributes) {
    const CUresult result = api_.cuDeviceGetAttribute(value, attribute, device_);
    TM_RETURN_IF_ERROR(Check("cuDeviceGetAttribute", result, kCode));
  }
  info_.shared_bytes_max = static_cast<size_t>(shared);
  TM_RETURN_IF_ERROR(Check("cuDeviceTotalMem", api_.cuDeviceTotalMem(&info_.memory_bytes, device_), kCode));
  if (info_.major >= 8) return {};
  return Error(kCode, "GPU %d (%s) has compute capability %d.%d; 8.0 or later is needed", device, name,
               info_.major, info_.minor);
}

Status CudaDriver::Open(int device, std::span<const Image> images) {
  constexpr Code kCode = Code::kDeviceUnavailable;
  TM_RETURN_IF_ERROR(Describe(device));
  api::CUcontext context = nullptr;
  TM_RETURN_IF_ERROR(
      Check("cuDevicePrimaryCtxRetain", api_.cuDevicePrimaryCtxRetain(&context, device_), kCode));
  context_ = context;
  for (CUstream& stream : streams_) {
    const auto create = [&] { return api_.cuStreamCreate(&stream, api::kStreamNonBlocking); };
    TM_RETURN_IF_ERROR(With("cuStreamCreate", create, kCode));
  }
  return LoadModules(images);
}

Status CudaDriver::LoadModules(std::span<const Image> images) {
  std::vector<std::string> names;
  for (const Image& image : images) {
    if (std::find(names.begin(), names.end(), image.module) == names.end()) names.push_back(image.module);
  }
  for (const std::string& name : names) {
    std::vector<const Image*> candidates;
    for (const Image& image : images) {
      if (image.module == name && ImageRank(image, info_.major, info_.minor) >= 0)
        candidates.push_back(&image);
    }
    std::stable_sort(candidates.begin(), candidates.end(), [this](const Image* a, const Image* b) {
      return ImageRank(*a, info_.major, info_.minor) > ImageRank(*b, info_.major, info_.minor);
    });
    if (candidates.empty()) {
      return Error(Code::kDeviceUnavailable,
                   "this build has no kernels '%s' for GPU %d (%s, compute capability %d.%d)", name.c_str(),
                   info_.index, info_.name.c_str(), info_.major, info_.minor);
    }
    TM_RETURN_IF_ERROR(LoadModule(std::move(candidates)));
  }
  return {};
}

// The first image that the driver takes. One that is too new for the driver leaves the choice to the next.
Status CudaDriver::LoadModule(std::vector<const Image*> images) {
  Status failure;
  for (const Image* image : images) {
    CUmodule module = nullptr;
    CUresult result = api::kSuccess;
    const auto load = [&] { return result = api_.cuModuleLoadData(&module, image->bytes); };
    Status status = With("cuModuleLoadData", load, Code::kDeviceUnavailable);
    if (status.ok()) {
      modules_.push_back(module);
      return {};
    }
    if (failure.ok()) {
      failure = Status(status.code(), Format("kernels '%s' do not load on GPU %d (%s): %s", image->module,
                                             info_.index, info_.name.c_str(), status.message().c_str()));
    }
    const bool other_may_load = result == api::kInvalidImage || result == api::kNoBinaryForGpu ||
                                result == api::kInvalidPtx || result == api::kUnsupportedPtxVersion;
    if (!other_may_load) return failure;
  }
  int version = 0;
  api_.cuDriverGetVersion(&version);
  return Error(failure.code(), "%s; the driver is one for CUDA %d.%d, and a newer one may be needed",
               failure.message().c_str(), version / 1000, version % 1000 / 10);
}

Status CudaDriver::MemoryInfo(size_t* free_bytes, size_t* total_bytes) {
  return With("cuMemGetInfo", [&] { return api_.cuMemGetInfo(free_bytes, total_bytes); });
}

Result<DevicePtr> CudaDriver::Allocate(size_t bytes) {
  CUdeviceptr at = 0;
  // The driver refuses sizes of 0.
  const Status status = With("cuMemAlloc", [&] { return api_.cuMemAlloc(&at, std::max<size_t>(bytes, 1)); });
  if (status.ok()) return DevicePtr{at};
  if (status.code() != Code::kOutOfMemory) return status;
  size_t free_bytes = 0, total_bytes = 0;
  if (const Status info = MemoryInfo(&free_bytes, &total_bytes); !info.ok()) return status;
  return Error(Code::kOutOfMemory, "GPU %d (%s) has %zu of %zu bytes free and refused %zu", info_.index,
               info_.name.c_str(), free_bytes, total_bytes, bytes);
}

void CudaDriver::Free(DevicePtr at) {
  const Current current(api_, context_);
  if (at != 0) api_.cuMemFree(at);
}

Result<void*> CudaDriver::AllocatePinned(size_t bytes) {
  void* at = nullptr;
  const auto allocate = [&] {
    return api_.cuMemHostAlloc(&at, std::max<size_t>(bytes, 1), api::kHostAllocPortable);
  };
  const Status status = With("cuMemHostAlloc", allocate);
  if (status.ok()) return at;
  if (status.code() != Code::kOutOfMemory) return status;
  return Error(Code::kOutOfMemory, "the system refused %zu bytes of memory that GPU %d can read", bytes,
               info_.index);
}

void CudaDriver::FreePinned(void* at) {
  const Current current(api_, context_);
  if (at != nullptr) api_.cuMemFreeHost(at);
}

Status CudaDriver::Upload(Stream stream, DevicePtr to, const void* from, size_t bytes) {
  if (bytes == 0) return {};
  return With("cuMemcpyHtoDAsync", [&] { return api_.cuMemcpyHtoDAsync(to, from, bytes, of(stream)); });
}

Status CudaDriver::Download(Stream stream, void* to, DevicePtr from, size_t bytes) {
  if (bytes == 0) return {};
  return With("cuMemcpyDtoHAsync", [&] { return api_.cuMemcpyDtoHAsync(to, from, bytes, of(stream)); });
}

Status CudaDriver::Copy(Stream stream, DevicePtr to, DevicePtr from, size_t bytes) {
  if (bytes == 0) return {};
  return With("cuMemcpyDtoDAsync", [&] { return api_.cuMemcpyDtoDAsync(to, from, bytes, of(stream)); });
}

Status CudaDriver::Fill(Stream stream, DevicePtr to, uint8_t value, size_t bytes) {
  if (bytes == 0) return {};
  return With("cuMemsetD8Async", [&] { return api_.cuMemsetD8Async(to, value, bytes, of(stream)); });
}

Result<Kernel*> CudaDriver::FindKernel(const char* name) {
  if (const auto known = kernels_.find(name); known != kernels_.end()) return &known->second;
  for (const CUmodule module : modules_) {
    CUfunction function = nullptr;
    const CUresult result = api_.cuModuleGetFunction(&function, module, name);
    if (result == api::kNotFound) continue;
    TM_RETURN_IF_ERROR(Check("cuModuleGetFunction", result));
    return &kernels_.emplace(name, Kernel{function}).first->second;
  }
  return Error(Code::kInternal, "this build has no kernel '%s'", name);
}

Status CudaDriver::Launch(Stream stream, const char* name, const LaunchShape& shape, const void* params,
                          size_t params_bytes) {
  const Current current(api_, context_);
  TM_RETURN_IF_ERROR(Check("cuCtxPushCurrent", current.result()));
  TM_ASSIGN_OR_RETURN(Kernel* const kernel, FindKernel(name));
  if (shape.shared_bytes > kernel->shared_bytes) {
    const CUresult result = api_.cuFuncSetAttribute(kernel->function, api::kFunctionDynamicSharedBytes,
                                                    static_cast<int>(shape.shared_bytes));
    TM_RETURN_IF_ERROR(Check("cuFuncSetAttribute", result));
    kernel->shared_bytes = shape.shared_bytes;
  }
  void* arguments[] = {const_cast<void*>(params)};
  const CUresult result =
      api_.cuLaunchKernel(kernel->function, shape.grid_x, shape.grid_y, shape.grid_z, shape.threads, 1, 1,
                          static_cast<unsigned>(shape.shared_bytes), of(stream), arguments, nullptr);
  if (result == api::kSuccess) return {};
  const Status status = Check("cuLaunchKernel", result);
  return Status(status.code(), Format("%s in kernel '%s'", status.message().c_str(), name));
}

Status CudaDriver::Synchronize(Stream stream) {
  return With("cuStreamSynchronize", [&] { return api_.cuStreamSynchronize(of(stream)); });
}

Status CudaDriver::BeginCapture() {
  return With("cuStreamBeginCapture",
              [&] { return api_.cuStreamBeginCapture(of(Stream::kStep), api::kCaptureThreadLocal); });
}

Result<std::unique_ptr<Graph>> CudaDriver::EndCapture() {
  api::CUgraph graph = nullptr;
  TM_RETURN_IF_ERROR(
      With("cuStreamEndCapture", [&] { return api_.cuStreamEndCapture(of(Stream::kStep), &graph); }));
  api::CUgraphExec exec = nullptr;
  const Status status = With("cuGraphInstantiate", [&] {
    const CUresult result = api_.cuGraphInstantiate(&exec, graph, 0);
    api_.cuGraphDestroy(graph);
    return result;
  });
  TM_RETURN_IF_ERROR(status);
  return std::unique_ptr<Graph>(std::make_unique<CudaGraph>(api_, context_, exec));
}

Status CudaDriver::Replay(const Graph& graph) {
  const auto& recorded = static_cast<const CudaGraph&>(graph);
  return With("cuGraphLaunch", [&] { return api_.cuGraphLaunch(recorded.exec(), of(Stream::kStep)); });
}

}  // namespace

Result<int> CountCudaDevices(const char* library) {
  TM_ASSIGN_OR_RETURN(const api::CudaApi api, api::CudaApi::Open(library));
  int count = 0;
  if (const CUresult result = api.cuDeviceGetCount(&count); result != api::kSuccess)
    return Status(Code::kDeviceUnavailable, api.Describe("cuDeviceGetCount", result));
  if (count == 0) return Error(Code::kDeviceUnavailable, "NVIDIA's driver shows no GPU");
  return count;
}

Result<std::shared_ptr<Driver>> OpenCudaDriver(int device, std::span<const Image> images,
                                               const char* library) {
  TM_ASSIGN_OR_RETURN(const api::CudaApi api, api::CudaApi::Open(library));
  auto driver = std::make_shared<CudaDriver>(api);
  TM_RETURN_IF_ERROR(driver->Open(device, images));
  return std::shared_ptr<Driver>(std::move(driver));
}

}  // namespace tokenmill::cuda
