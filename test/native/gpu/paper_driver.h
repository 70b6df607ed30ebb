#pragma once

// A driver without a device: it notes what is launched and does nothing.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/driver.h"

namespace gpu_test {

struct PaperLaunch {
  std::string kernel;
  tokenmill::cuda::LaunchShape shape;
};

class PaperDriver final : public tokenmill::cuda::Driver {
 public:
  using Status = tokenmill::Status;
  using Stream = tokenmill::cuda::Stream;
  using DevicePtr = tokenmill::cuda::DevicePtr;
  using Graph = tokenmill::cuda::Graph;
  using LaunchShape = tokenmill::cuda::LaunchShape;
  template <class T>
  using Result = tokenmill::Result<T>;
  using Driver::Launch;

  /// What was launched since the last time.
  std::vector<PaperLaunch> Take() { return std::exchange(launches_, {}); }

  const tokenmill::cuda::DeviceInfo& info() const override { return info_; }
  Status MemoryInfo(size_t*, size_t*) override { return Nothing(); }
  Result<DevicePtr> Allocate(size_t) override { return Nothing(); }
  void Free(DevicePtr) override {}
  Result<void*> AllocatePinned(size_t) override { return Nothing(); }
  void FreePinned(void*) override {}
  Status Upload(Stream, DevicePtr, const void*, size_t) override { return Nothing(); }
  Status Download(Stream, void*, DevicePtr, size_t) override { return Nothing(); }
  Status Copy(Stream, DevicePtr, DevicePtr, size_t) override { return Nothing(); }
  Status Fill(Stream, DevicePtr, uint8_t, size_t) override { return Nothing(); }
  Status Launch(Stream, const char* kernel, const LaunchShape& shape, const void*, size_t) override {
    launches_.push_back({kernel, shape});
    return {};
  }
  Status Synchronize(Stream) override { return {}; }
  Status BeginCapture() override { return Nothing(); }
  Result<std::unique_ptr<Graph>> EndCapture() override { return Nothing(); }
  Status Replay(const Graph&) override { return Nothing(); }

 private:
  static Status Nothing() { return tokenmill::Error(tokenmill::Code::kInternal, "there is no device"); }

  tokenmill::cuda::DeviceInfo info_;
  std::vector<PaperLaunch> launches_;
};

}  // namespace gpu_test
