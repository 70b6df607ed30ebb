#include "kernels/cuda/emu/access.h"

#include <cstring>

#include "core/status.h"

// Kernels are compiled with -fsanitize=thread and linked without its library: the compiler calls the
// functions at the end of this file before each load and store that may touch memory of others.

namespace tokenmill::cuda::emu {

void CheckShared(Machine& machine, const void* at, size_t bytes, const char* what, const void* site) {
  const size_t offset = static_cast<const uint8_t*>(at) - machine.block().shared;
  if (offset <= machine.shared_bytes() && bytes <= machine.shared_bytes() - offset) return;
  machine.Raise(
      Format("%s outside of the block's %zu bytes of shared memory (%zu bytes at offset %td)", what,
             machine.shared_bytes(), bytes, static_cast<const uint8_t*>(at) - machine.block().shared),
      site);
}

namespace {

const char* NameOf(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
}

void CheckState(Machine& machine, Access access, const void* at, uint8_t* state, size_t bytes,
                const char* where, size_t offset, const void* site) {
  for (size_t i = 0; i < bytes; ++i) {
    if (state[i] == kDefined) continue;
    if (state[i] == kUndefined && access == Access::kWrite) continue;
    const char* why = state[i] == kForeign    ? "outside of any allocation"
                      : state[i] == kUnderWay ? "of bytes that a cp.async has under way"
                                              : "of uninitialized bytes";
    machine.Raise(Format("%s %s: %zu bytes at %s + 0x%zx", NameOf(access), why, bytes, where, offset), site);
  }
  if (access == Access::kWrite) std::memset(state, kDefined, bytes);
}

}  // namespace

Cells SharedCells(const Block& block, const void* at) {
  const size_t offset = static_cast<size_t>(static_cast<const uint8_t*>(at) - block.shared);
  const Cells& c = block.shared_cells;
  return {c.writers + offset, c.readers + offset, c.writer_sites + offset, c.reader_sites + offset};
}

void CheckAccess(Machine& machine, Access access, const void* at, size_t bytes, const void* site,
                 Reader reader) {
  if (machine.InParams(at) && access == Access::kRead) return;
  const uint64_t address = reinterpret_cast<uint64_t>(at);
  AddressSpace& space = AddressSpace::Instance();
  Thread& thread = machine.current();
  if (machine.InShared(at)) {
    CheckShared(machine, at, bytes, NameOf(access), site);
    machine.MaybePreempt();
    const size_t offset = static_cast<const uint8_t*>(at) - machine.block().shared;
    const Cells cells = SharedCells(machine.block(), at);
    thread.warp->banks.Add(thread.lane, PackSite(site), offset, bytes, access != Access::kRead);
    const Conflict race = machine.shadow().Record(thread, access, reader, at, cells, bytes, true, site);
    if (race.found)
      machine.RaiseRace(access, race, Format("shared memory + 0x%zx", offset + race.byte), site);
    CheckState(machine, access, at, machine.block().shared_state + offset, bytes, "shared memory", offset,
               site);
    return;
  }
  if (machine.InStacks(at)) return;
  if (!space.Contains(address)) return machine.CheckHost(access == Access::kRead, at, bytes, site);
  const int span = space.SpanOf(address);
  if (span != machine.device() && span != kPinnedSpan) {
    machine.Raise(Format("%s of device %d's memory on device %d", NameOf(access), span, machine.device()),
                  site);
  }
  machine.MaybePreempt();
  uint8_t* state = space.StateOf(address);
  if (*state == kForeign) CheckState(machine, access, at, state, bytes, "device memory", address, site);
  const Conflict race = machine.shadow().Record(thread, access, reader, at, machine.shadow().CellsOf(address),
                                                bytes, false, site);
  if (race.found) machine.RaiseRace(access, race, Format("device memory 0x%zx", address + race.byte), site);
  CheckState(machine, access, at, state, bytes, "device memory", address, site);
}

}  // namespace tokenmill::cuda::emu

namespace emu = tokenmill::cuda::emu;

#define TM_SITE __builtin_return_address(0)
/// For an access that the compiler takes to be aligned, as the GPU demands.
static void CheckAligned(emu::Machine& machine, const void* at, size_t bytes, const void* site) {
  if (reinterpret_cast<uintptr_t>(at) % bytes == 0) return;
  machine.Raise(tokenmill::Format("misaligned access of %zu bytes at %p", bytes, at), site);
}

#define TM_ACCESS(name, kind, bytes, kAligned)                         \
  extern "C" void __tsan_##name(void* at) {                            \
    emu::Machine* machine = emu::Machine::Running();                   \
    if (machine == nullptr) return;                                    \
    if (kAligned) CheckAligned(*machine, at, bytes, TM_SITE);          \
    emu::CheckAccess(*machine, emu::Access::kind, at, bytes, TM_SITE); \
  }
#define TM_ACCESSES(bytes)                              \
  TM_ACCESS(read##bytes, kRead, bytes, true)            \
  TM_ACCESS(write##bytes, kWrite, bytes, true)          \
  TM_ACCESS(unaligned_read##bytes, kRead, bytes, false) \
  TM_ACCESS(unaligned_write##bytes, kWrite, bytes, false)

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
// -fsanitize=alignment: before an access through a pointer that is not aligned for its type, whose parts may
// be.
extern "C" void __ubsan_handle_type_mismatch_v1(void*, void* at) {
  emu::Machine* machine = emu::Machine::Running();
  if (machine != nullptr) machine->Raise(tokenmill::Format("misaligned access at %p", at), TM_SITE);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
