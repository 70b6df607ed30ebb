#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "kernels/cuda/driver.h"

// Owned memory of a device and of the host, and planning of what lies where in one piece of it.

namespace tokenmill::cuda {

/// Memory of a device, freed with the object.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  static Result<DeviceBuffer> Allocate(std::shared_ptr<Driver> driver, size_t bytes) {
    TM_ASSIGN_OR_RETURN(const DevicePtr at, driver->Allocate(bytes));
    DeviceBuffer buffer;
    buffer.driver_ = std::move(driver);
    buffer.at_ = at;
    buffer.bytes_ = bytes;
    return buffer;
  }
  ~DeviceBuffer() {
    if (at_ != 0) driver_->Free(at_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer(std::move(other)).swap(*this);
    return *this;
  }

  explicit operator bool() const { return at_ != 0; }
  DevicePtr at() const { return at_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(driver_, other.driver_);
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
  }
  std::shared_ptr<Driver> driver_;
  DevicePtr at_ = 0;
  size_t bytes_ = 0;
};

/// Memory of the host that a device reads and writes directly, freed with the object.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static Result<PinnedBuffer> Allocate(std::shared_ptr<Driver> driver, size_t bytes) {
    TM_ASSIGN_OR_RETURN(void* const data, driver->AllocatePinned(bytes));
    PinnedBuffer buffer;
    buffer.driver_ = std::move(driver);
    buffer.data_ = static_cast<std::byte*>(data);
    buffer.bytes_ = bytes;
    return buffer;
  }
  ~PinnedBuffer() {
    if (data_ != nullptr) driver_->FreePinned(data_);
  }
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    PinnedBuffer(std::move(other)).swap(*this);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(PinnedBuffer& other) noexcept {
    std::swap(driver_, other.driver_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  std::shared_ptr<Driver> driver_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

inline constexpr size_t kDeviceAlignment = 256;
inline size_t Aligned(size_t bytes) {
  return (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment;
}

/// A piece of a ScratchPlan; as large as the largest of its uses, which follow each other.
struct Slot {
  size_t bytes = 0;
  size_t offset = 0;  // once the plan is finished
  void Want(size_t wanted) { bytes = std::max(bytes, wanted); }
};

/// What lies where in an executor's scratch memory on a device.
class ScratchPlan {
 public:
  /// Stays where it is.
  Slot* Add(size_t bytes = 0) {
    slots_.push_back({bytes, 0});
    return &slots_.back();
  }
  void Finish() {
    bytes_ = 0;
    for (Slot& slot : slots_) {
      slot.offset = bytes_;
      bytes_ += Aligned(slot.bytes);
    }
  }
  size_t bytes() const { return bytes_; }

 private:
  std::deque<Slot> slots_;
  size_t bytes_ = 0;
};

}  // namespace tokenmill::cuda
