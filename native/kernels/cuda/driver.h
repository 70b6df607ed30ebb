#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

// The seam between the backend and what runs its kernels: the system's CUDA driver (driver_cuda.cc), or the emulator
// on the CPU (emu/). One object a device; used by one thread at a time unless said otherwise.

namespace tokenmill::cuda {

/// An address in a device's memory.
using DevicePtr = uint64_t;

template <class T>
T* As(DevicePtr at) {
  return reinterpret_cast<T*>(at);
}

struct DeviceInfo {
  std::string name;
  int index = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  size_t shared_bytes_max = 0;  // dynamic shared memory of one block
};

struct LaunchShape {
  unsigned grid_x = 1, grid_y = 1, grid_z = 1;
  unsigned threads = 1;  // of a block
  size_t shared_bytes = 0;
};

/// The order in which work is done: everything given to one stream, one after the other.
enum class Stream { kStep, kCopy };

/// Launches recorded once and replayed with the same arguments.
class Graph {
 public:
  virtual ~Graph() = default;
};

class Driver {
 public:
  virtual ~Driver() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual Status MemoryInfo(size_t* free_bytes, size_t* total_bytes) = 0;

  /// 256-byte aligned; OutOfMemory with the numbers when the device has not so much. From any thread.
  virtual Result<DevicePtr> Allocate(size_t bytes) = 0;
  virtual void Free(DevicePtr at) = 0;
  /// Host memory that the device reads and writes directly.
  virtual Result<void*> AllocatePinned(size_t bytes) = 0;
  virtual void FreePinned(void* at) = 0;

  /// Asynchronous; host memory stays as it is until Synchronize of that stream.
  virtual Status Upload(Stream stream, DevicePtr to, const void* from, size_t bytes) = 0;
  virtual Status Download(Stream stream, void* to, DevicePtr from, size_t bytes) = 0;
  virtual Status Copy(Stream stream, DevicePtr to, DevicePtr from, size_t bytes) = 0;
  virtual Status Fill(Stream stream, DevicePtr to, uint8_t value, size_t bytes) = 0;
  /// `kernel` is a GPU_KERNEL's name; `params` its structure, copied in the call. Internal for an unknown name.
  virtual Status Launch(Stream stream, const char* kernel, const LaunchShape& shape, const void* params,
                        size_t params_bytes) = 0;
  virtual Status Synchronize(Stream stream) = 0;

  /// What is launched, copied or filled on kStep in between is recorded, not done.
  virtual Status BeginCapture() = 0;
  virtual Result<std::unique_ptr<Graph>> EndCapture() = 0;
  virtual Status Replay(const Graph& graph) = 0;

  template <class Params>
  Status Launch(const char* kernel, const LaunchShape& shape, const Params& params) {
    return Launch(Stream::kStep, kernel, shape, &params, sizeof(params));
  }
};

}  // namespace tokenmill::cuda
