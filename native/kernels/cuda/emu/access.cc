#include "kernels/cuda/emu/access.h"

#include <cstring>

#include "core/status.h"

// Kernels are compiled with -fsanitize=thread and linked without its library: the compiler calls the functions at the
// end of this file before each load and store that may touch memory of others.

namespace tokenmill::cuda::emu {

void CheckShared(Machine& machine, const void* at, size_t bytes, const char* what, const void* site) {
  const size_t offset = static_cast<const uint8_t*>(at) - machine.block().shared;
  if (offset <= machine.shared_bytes() && bytes <= machine.shared_bytes() - offset) return;
  machine.Raise(Format("%s outside of the block's %zu bytes of shared memory (%zu bytes at offset %td)", what,
                       machine.shared_bytes(), bytes, static_cast<const uint8_t*>(at) - machine.block().shared),
                site);
}

namespace {

const char* NameOf(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
}

void CheckState(Machine& machine, Access access, const void* at, uint8_t* state, size_t bytes, const char* where,
                size_t offset, const void* site) {
  for (size_t i = 0; i < bytes; ++i) {
    if (state[i] == kDefined) continue;
    if (state[i] == kUndefined && access == Access::kWrite) continue;
    const char* why = state[i] == kForeign     ? "outside of any allocation"
                      : state[i] == kUnderWay ? "of bytes that a cp.async has under way"
                                              : "of uninitialized bytes";
    machine.Raise(Format("%s %s: %zu bytes at %s + 0x%zx", NameOf(access), why, bytes, where, offset), site);
  }
  if (access == Access::kWrite) std::memset(state, kDefined, bytes);
}

}  // namespace

void CheckAccess(Machine& machine, Access access, const void* at, size_t bytes, const void* site) {
  const uint64_t address = reinterpret_cast<uint64_t>(at);
  AddressSpace& space = AddressSpace::Instance();
  if (space.Contains(address)) {
    const int span = space.SpanOf(address);
    if (span != machine.device() && span != kPinnedSpan) {
      machine.Raise(Format("%s of device %d's memory on device %d", NameOf(access), span, machine.device()), site);
    }
    machine.MaybePreempt();
    CheckState(machine, access, at, space.StateOf(address), bytes, "device memory", address, site);
    return;
  }
  if (machine.InShared(at)) {
    CheckShared(machine, at, bytes, NameOf(access), site);
    machine.MaybePreempt();
    const size_t offset = static_cast<const uint8_t*>(at) - machine.block().shared;
    CheckState(machine, access, at, machine.block().shared_state + offset, bytes, "shared memory", offset, site);
    return;
  }
  if (machine.InStacks(at)) return;
  machine.CheckHost(access == Access::kRead, at, bytes, site);
}

}  // namespace tokenmill::cuda::emu

namespace emu = tokenmill::cuda::emu;

#define TM_SITE __builtin_return_address(0)
#define TM_ACCESS(name, kind, bytes)                                                                    \
  extern "C" void __tsan_##name(void* at) {                                                             \
    if (emu::Machine* machine = emu::Machine::Running())                                                \
      emu::CheckAccess(*machine, emu::Access::kind, at, bytes, TM_SITE);                                \
  }
#define TM_ACCESSES(bytes)                       \
  TM_ACCESS(read##bytes, kRead, bytes)           \
  TM_ACCESS(write##bytes, kWrite, bytes)         \
  TM_ACCESS(unaligned_read##bytes, kRead, bytes) \
  TM_ACCESS(unaligned_write##bytes, kWrite, bytes)

TM_ACCESSES(1)
TM_ACCESSES(2)
TM_ACCESSES(4)
TM_ACCESSES(8)
TM_ACCESSES(16)

extern "C" void __tsan_read_range(void* at, size_t bytes) {
  if (emu::Machine* machine = emu::Machine::Running())
    emu::CheckAccess(*machine, emu::Access::kRead, at, bytes, TM_SITE);
}
extern "C" void __tsan_write_range(void* at, size_t bytes) {
  if (emu::Machine* machine = emu::Machine::Running())
    emu::CheckAccess(*machine, emu::Access::kWrite, at, bytes, TM_SITE);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
