#include "kernels/cuda/emu/address_space.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tokenmill::cuda::emu {
namespace {

// The same addresses in each run make its schedule the same.
constexpr uint64_t kBaseHint = 0x100000000000;

}  // namespace

void* ReserveMemory(size_t bytes, uint64_t hint) {
  void* at = mmap(reinterpret_cast<void*>(hint), bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::fprintf(stderr, "tokenmill: the GPU emulator cannot reserve %zu bytes of addresses\n", bytes);
    std::abort();
  }
  return at;
}

AddressSpace& AddressSpace::Instance() {
  static AddressSpace* space = new AddressSpace();
  return *space;
}

AddressSpace::AddressSpace() {
  base_ = reinterpret_cast<uint64_t>(ReserveMemory(kSpaceBytes, kBaseHint));
  state_ = static_cast<uint8_t*>(ReserveMemory(kSpaceBytes, kBaseHint + 2 * kSpaceBytes));
  for (int i = 0; i <= kDevicesMax; ++i) spans_[i].next = base_ + i * kSpanBytes + kAllocationAlignment;
}

bool AddressSpace::Owns(int span, uint64_t at, size_t bytes) const {
  if (!Contains(at) || SpanOf(at) != span) return false;
  std::lock_guard lock(mutex_);
  auto next = sizes_.upper_bound(at);
  if (next == sizes_.begin()) return false;
  --next;
  return at - next->first <= next->second && bytes <= next->second - (at - next->first);
}

uint64_t AddressSpace::Allocate(int span, size_t bytes) {
  std::lock_guard lock(mutex_);
  Span& s = spans_[span];
  const uint64_t begin = base_ + span * kSpanBytes, end = begin + kSpanBytes;
  // One more unit keeps a gap to whatever follows.
  const size_t room = (bytes / kAllocationAlignment + 2) * kAllocationAlignment;
  if (room > kSpanBytes / 2) return 0;
  uint64_t at = s.next;
  for (int laps = 0;;) {
    if (at + room > end) {
      if (++laps == 2) return 0;
      at = begin + kAllocationAlignment;
    }
    auto after = s.used.upper_bound(at);
    if (after != s.used.begin() && std::prev(after)->second > at) {
      at = std::prev(after)->second;
    } else if (after != s.used.end() && after->first < at + room) {
      at = after->second;
    } else {
      break;
    }
  }
  s.used[at] = at + room;
  s.next = at + room;
  sizes_[at] = bytes;
  std::memset(StateOf(at), span == kPinnedSpan ? kDefined : kUndefined, bytes);
  std::memset(reinterpret_cast<void*>(at), kPoison, bytes);
  return at;
}

size_t AddressSpace::Free(uint64_t at) {
  std::lock_guard lock(mutex_);
  const auto found = sizes_.find(at);
  if (found == sizes_.end()) return 0;
  const size_t bytes = found->second;
  std::memset(StateOf(at), kForeign, bytes);
  const uint64_t first_page = (at + 4095) & ~uint64_t{4095}, last_page = (at + bytes) & ~uint64_t{4095};
  if (last_page > first_page) {
    madvise(reinterpret_cast<void*>(first_page), last_page - first_page, MADV_DONTNEED);
  }
  sizes_.erase(found);
  spans_[SpanOf(at)].used.erase(at);
  return bytes;
}

size_t AddressSpace::BytesAt(uint64_t at) const {
  std::lock_guard lock(mutex_);
  const auto found = sizes_.find(at);
  return found == sizes_.end() ? 0 : found->second;
}

}  // namespace tokenmill::cuda::emu
