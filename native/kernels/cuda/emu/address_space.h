#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "core/status.h"

// The memory of all emulated devices: one reserved stretch of addresses, a span of it for each device and one
// for pinned host memory, with a byte of state for every byte. Spans are larger than the devices' memory, so
// that freed addresses are used again as late as possible.

namespace tokenmill::cuda::emu {

/// What may be done with a byte of device or shared memory.
enum ByteState : uint8_t { kForeign = 0, kUndefined, kDefined, kUnderWay };

constexpr int kDevicesMax = 8;
constexpr int kPinnedSpan = kDevicesMax;
constexpr size_t kSpanBytes = size_t{1} << 32;
constexpr size_t kSpaceBytes = kSpanBytes * (kDevicesMax + 1);
constexpr size_t kAllocationAlignment = 256;
/// Given to bytes that hold nothing yet: a NaN in f32, f16 and bf16.
constexpr uint8_t kPoison = 0xff;

class AddressSpace {
 public:
  static AddressSpace& Instance();

  bool Contains(uint64_t at) const { return at - base_ < kSpaceBytes; }
  uint64_t base() const { return base_; }
  int SpanOf(uint64_t at) const { return static_cast<int>((at - base_) / kSpanBytes); }
  uint8_t* StateOf(uint64_t at) const { return state_ + (at - base_); }
  /// True when all bytes belong to one allocation of `span`.
  bool Owns(int span, uint64_t at, size_t bytes) const;

  /// Undefined bytes, `kPoison` each; 0 when the span has no room.
  uint64_t Allocate(int span, size_t bytes);
  /// The bytes that Allocate was asked for, 0 when nothing begins at `at`.
  size_t Free(uint64_t at);
  size_t BytesAt(uint64_t at) const;

 private:
  AddressSpace();
  struct Span {
    std::map<uint64_t, uint64_t> used;  // begin -> end, rounded up and with a gap behind
    uint64_t next = 0;
  };

  uint64_t base_ = 0;
  uint8_t* state_ = nullptr;
  mutable std::mutex mutex_;
  Span spans_[kDevicesMax + 1];
  std::map<uint64_t, size_t> sizes_;
};

/// A stretch of zeroed memory that costs only what is touched. Aborts where the system has no addresses left.
void* ReserveMemory(size_t bytes, uint64_t hint = 0);

}  // namespace tokenmill::cuda::emu
