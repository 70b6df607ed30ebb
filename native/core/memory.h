#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace tokenmill {

/// Bytes that the system could still give to this process: free and reclaimable memory within the cgroup's
/// limit.
uint64_t AvailableMemoryBytes();

/// Gives memory that the heap holds free back to the system, where that can be done.
void ReleaseFreeMemory();

/// Zeroed memory straight from the system, aligned to pages (huge ones where it gives them), committed as it
/// is touched and returned whole by the destructor. Empty when the system refuses.
class SystemBuffer {
 public:
  SystemBuffer() = default;
  explicit SystemBuffer(size_t bytes);
  ~SystemBuffer();
  SystemBuffer(SystemBuffer&& other) noexcept { swap(other); }
  SystemBuffer& operator=(SystemBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void swap(SystemBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tokenmill
