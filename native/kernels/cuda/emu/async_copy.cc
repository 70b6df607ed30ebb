// cp.async: bytes arrive in shared memory at the wait for their group, and until then hold garbage that
// nobody may touch.

#include <cstring>

#include "core/status.h"
#include "kernels/cuda/emu/access.h"

#define TM_SITE __builtin_return_address(0)

namespace tokenmill::cuda::emu {
namespace {

uint8_t* StateOfShared(Machine& machine, const uint8_t* shared) {
  return machine.block().shared_state + (shared - machine.block().shared);
}

void Complete(Machine& machine, const AsyncCopy& copy) {
  if (copy.valid && std::memcmp(copy.global, copy.value, copy.bytes) != 0) {
    machine.Raise("the source of a cp.async changed while it was under way, issued", copy.site);
  }
  std::memcpy(copy.shared, copy.value, copy.bytes);
  std::memcpy(StateOfShared(machine, copy.shared), copy.state, copy.bytes);
  machine.shadow().Overwrite(machine.current(), SharedCells(machine.block(), copy.shared), copy.bytes);
}

}  // namespace

void CpAsync(void* shared, const void* global, int bytes, bool valid) {
  Machine& machine = *Machine::Running();
  const void* site = TM_SITE;
  const uint64_t from = reinterpret_cast<uint64_t>(global);
  CheckShared(machine, shared, bytes, "cp.async", site);
  if (reinterpret_cast<uint64_t>(shared) % bytes != 0)
    machine.Raise("cp.async to a misaligned address", site);
  if (from % bytes != 0) machine.Raise("cp.async from a misaligned address", site);
  AsyncCopy copy = {
      static_cast<uint8_t*>(shared), static_cast<const uint8_t*>(global), bytes, valid, site, {}, {}};
  std::memset(copy.state, kDefined, bytes);
  if (valid) {
    if (!AddressSpace::Instance().Contains(from))
      machine.Raise("cp.async from outside of device memory", site);
    CheckAccess(machine, Access::kRead, global, bytes, site);
    std::memcpy(copy.value, global, bytes);
  }
  CheckAccess(machine, Access::kWrite, shared, bytes, site);
  std::memset(shared, kPoison, bytes);
  std::memset(StateOfShared(machine, copy.shared), kUnderWay, bytes);
  machine.current().copies.push_back(copy);
}

void CpAsyncCommit() {
  Thread& thread = Machine::Running()->current();
  size_t grouped = 0;
  for (size_t group : thread.copy_groups) grouped += group;
  thread.copy_groups.push_back(thread.copies.size() - grouped);
}

void CpAsyncWait(int pending) {
  Machine& machine = *Machine::Running();
  Thread& thread = machine.current();
  while (thread.copy_groups.size() > static_cast<size_t>(pending)) {
    const size_t count = thread.copy_groups.front();
    for (size_t i = 0; i < count; ++i) Complete(machine, thread.copies[i]);
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<ptrdiff_t>(count));
    thread.copy_groups.erase(thread.copy_groups.begin());
  }
}

}  // namespace tokenmill::cuda::emu
