#pragma once

// A driver that counts what is asked of another one, and can refuse.

#include <map>
#include <memory>
#include <string>

#include "kernels/cuda/driver.h"

namespace gpu_test {

class SpyDriver final : public tokenmill::cuda::Driver {
 public:
  using Status = tokenmill::Status;
  using Stream = tokenmill::cuda::Stream;
  using DevicePtr = tokenmill::cuda::DevicePtr;
  template <class T>
  using Result = tokenmill::Result<T>;

  explicit SpyDriver(std::shared_ptr<tokenmill::cuda::Driver> inner) : inner_(std::move(inner)) {}

  /// Calls of each function since the last time.
  std::map<std::string, int> TakeCounts() { return std::exchange(counts_, {}); }
  /// The `nth` call from now on of a function (0: the next) gives an error.
  void FailAt(const std::string& function, int nth, tokenmill::Code code) {
    failing_ = function;
    failing_in_ = nth;
    code_ = code;
  }
  bool failed() const { return failing_in_ < 0; }

  const tokenmill::cuda::DeviceInfo& info() const override { return inner_->info(); }
  Status MemoryInfo(size_t* free_bytes, size_t* total_bytes) override {
    return inner_->MemoryInfo(free_bytes, total_bytes);
  }
  Result<DevicePtr> Allocate(size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("Allocate"));
    return inner_->Allocate(bytes);
  }
  void Free(DevicePtr at) override { inner_->Free(at); }
  Result<void*> AllocatePinned(size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("AllocatePinned"));
    return inner_->AllocatePinned(bytes);
  }
  void FreePinned(void* at) override { inner_->FreePinned(at); }
  Status Upload(Stream stream, DevicePtr to, const void* from, size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("Upload"));
    return inner_->Upload(stream, to, from, bytes);
  }
  Status Download(Stream stream, void* to, DevicePtr from, size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("Download"));
    return inner_->Download(stream, to, from, bytes);
  }
  Status Copy(Stream stream, DevicePtr to, DevicePtr from, size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("Copy"));
    return inner_->Copy(stream, to, from, bytes);
  }
  Status Fill(Stream stream, DevicePtr to, uint8_t value, size_t bytes) override {
    TM_RETURN_IF_ERROR(Note("Fill"));
    return inner_->Fill(stream, to, value, bytes);
  }
  Status Launch(Stream stream, const char* kernel, const tokenmill::cuda::LaunchShape& shape,
                const void* params, size_t params_bytes) override {
    TM_RETURN_IF_ERROR(Note("Launch"));
    return inner_->Launch(stream, kernel, shape, params, params_bytes);
  }
  Status Synchronize(Stream stream) override {
    TM_RETURN_IF_ERROR(Note("Synchronize"));
    return inner_->Synchronize(stream);
  }
  Status BeginCapture() override {
    TM_RETURN_IF_ERROR(Note("BeginCapture"));
    return inner_->BeginCapture();
  }
  Result<std::unique_ptr<tokenmill::cuda::Graph>> EndCapture() override {
    auto graph = inner_->EndCapture();
    TM_RETURN_IF_ERROR(Note("EndCapture"));
    return graph;
  }
  Status Replay(const tokenmill::cuda::Graph& graph) override {
    TM_RETURN_IF_ERROR(Note("Replay"));
    return inner_->Replay(graph);
  }

 private:
  Status Note(const char* function) {
    ++counts_[function];
    if (failing_ != function || failing_in_ < 0 || failing_in_-- > 0) return {};
    return tokenmill::Error(code_, "the test refuses %s", function);
  }

  const std::shared_ptr<tokenmill::cuda::Driver> inner_;
  std::map<std::string, int> counts_;
  std::string failing_;
  int failing_in_ = 0;
  tokenmill::Code code_ = tokenmill::Code::kInternal;
};

}  // namespace gpu_test
