#pragma once

#include <cstddef>

#include "core/status.h"

// As much of the CUDA driver's interface as driver_cuda.cc calls, declared here so that neither building nor running
// needs NVIDIA's toolkit. Values and signatures are those of CUDA 11.4 and later; where a function has had several
// forms, `symbol` names the one that is meant.

namespace tokenmill::cuda::api {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

inline constexpr CUresult kSuccess = 0;
inline constexpr CUresult kOutOfMemory = 2;
inline constexpr CUresult kInvalidImage = 200;
inline constexpr CUresult kNoBinaryForGpu = 209;
inline constexpr CUresult kInvalidPtx = 218;
inline constexpr CUresult kUnsupportedPtxVersion = 222;
inline constexpr CUresult kNotFound = 500;

inline constexpr int kAttributeMultiprocessors = 16;
inline constexpr int kAttributeMajor = 75;
inline constexpr int kAttributeMinor = 76;
inline constexpr int kAttributeSharedBytesOptIn = 97;
inline constexpr int kFunctionDynamicSharedBytes = 8;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr int kCaptureThreadLocal = 1;

/// The oldest driver that has all functions: that of CUDA 11.4, as cuDriverGetVersion counts.
inline constexpr int kDriverVersionMin = 11040;

/// Most dynamic shared memory of a block whose function does not ask for more.
inline constexpr size_t kSharedBytesPlain = 48 * 1024;

}  // namespace tokenmill::cuda::api

// TM_CUDA_FUNCTION(name, symbol, parameters)
#define TM_CUDA_FUNCTIONS(TM_CUDA_FUNCTION)                                                                       \
  TM_CUDA_FUNCTION(cuInit, "cuInit", (unsigned flags))                                                            \
  TM_CUDA_FUNCTION(cuDriverGetVersion, "cuDriverGetVersion", (int* version))                                      \
  TM_CUDA_FUNCTION(cuGetErrorName, "cuGetErrorName", (CUresult error, const char** name))                         \
  TM_CUDA_FUNCTION(cuGetErrorString, "cuGetErrorString", (CUresult error, const char** text))                     \
  TM_CUDA_FUNCTION(cuDeviceGetCount, "cuDeviceGetCount", (int* count))                                            \
  TM_CUDA_FUNCTION(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                                  \
  TM_CUDA_FUNCTION(cuDeviceGetName, "cuDeviceGetName", (char* name, int length, CUdevice device))                 \
  TM_CUDA_FUNCTION(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int* value, int attribute, CUdevice device))    \
  TM_CUDA_FUNCTION(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t* bytes, CUdevice device))                     \
  TM_CUDA_FUNCTION(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))  \
  TM_CUDA_FUNCTION(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                  \
  TM_CUDA_FUNCTION(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (CUcontext context))                                  \
  TM_CUDA_FUNCTION(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (CUcontext * context))                                  \
  TM_CUDA_FUNCTION(cuMemGetInfo, "cuMemGetInfo_v2", (size_t* free_bytes, size_t* total_bytes))                    \
  TM_CUDA_FUNCTION(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * at, size_t bytes))                                 \
  TM_CUDA_FUNCTION(cuMemFree, "cuMemFree_v2", (CUdeviceptr at))                                                   \
  TM_CUDA_FUNCTION(cuMemHostAlloc, "cuMemHostAlloc", (void** at, size_t bytes, unsigned flags))                   \
  TM_CUDA_FUNCTION(cuMemFreeHost, "cuMemFreeHost", (void* at))                                                    \
  TM_CUDA_FUNCTION(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                     \
                   (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))                             \
  TM_CUDA_FUNCTION(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                                     \
                   (void* to, CUdeviceptr from, size_t bytes, CUstream stream))                                   \
  TM_CUDA_FUNCTION(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                                     \
                   (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                             \
  TM_CUDA_FUNCTION(cuMemsetD8Async, "cuMemsetD8Async",                                                            \
                   (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))                          \
  TM_CUDA_FUNCTION(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                         \
  TM_CUDA_FUNCTION(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                      \
  TM_CUDA_FUNCTION(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                 \
  TM_CUDA_FUNCTION(cuModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void* image))                  \
  TM_CUDA_FUNCTION(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                           \
  TM_CUDA_FUNCTION(cuModuleGetFunction, "cuModuleGetFunction",                                                    \
                   (CUfunction * function, CUmodule module, const char* name))                                    \
  TM_CUDA_FUNCTION(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, int attribute, int value))     \
  TM_CUDA_FUNCTION(cuLaunchKernel, "cuLaunchKernel",                                                              \
                   (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,     \
                    unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** params,    \
                    void** extra))                                                                                \
  TM_CUDA_FUNCTION(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, int mode))                  \
  TM_CUDA_FUNCTION(cuStreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                  \
  TM_CUDA_FUNCTION(cuGraphInstantiate, "cuGraphInstantiateWithFlags",                                             \
                   (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                                 \
  TM_CUDA_FUNCTION(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec exec, CUstream stream))                           \
  TM_CUDA_FUNCTION(cuGraphDestroy, "cuGraphDestroy", (CUgraph graph))                                             \
  TM_CUDA_FUNCTION(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec exec))

namespace tokenmill::cuda::api {

/// The driver's functions. Opened from the system's library, which then stays for the life of the process: a driver
/// has threads of its own.
struct CudaApi {
#define TM_CUDA_MEMBER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  TM_CUDA_FUNCTIONS(TM_CUDA_MEMBER)
#undef TM_CUDA_MEMBER

  /// DeviceUnavailable naming what is missing: the library, a function, or a recent enough driver. Initialized.
  static Result<CudaApi> Open(const char* library);

  /// "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
  std::string Describe(const char* function, CUresult result) const;
};

}  // namespace tokenmill::cuda::api
