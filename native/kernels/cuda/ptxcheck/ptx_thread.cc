#include "kernels/cuda/ptxcheck/ptx_thread.h"

#include <cstring>

#include "core/status.h"
#include "kernels/cuda/emu/access.h"
#include "kernels/cuda/emu/machine.h"

#define TM_SITE __builtin_return_address(0)

namespace tokenmill::cuda::ptx {
namespace {

using emu::Collective;
using emu::Machine;

// Kinds of collectives, apart from those of gpu.h's primitives.
constexpr int kKind = 1000;

Machine& Current() { return *Machine::Running(); }

const char* NameOf(Space space) {
  switch (space) {
    case Space::kGlobal: return "global";
    case Space::kShared: return "shared";
    case Space::kLocal: return "local";
    case Space::kParam: return "param";
    default: return "generic";
  }
}

[[noreturn]] void RaiseOutside(Space space, emu::Access access, uint64_t at, unsigned bytes, const void* site) {
  const char* what = access == emu::Access::kRead ? "read" : access == emu::Access::kWrite ? "write" : "atomic";
  const std::string access_text = Format("%s of %u bytes at 0x%zx", what, bytes, static_cast<size_t>(at));
  if (space != Space::kShared) Current().Raise(access_text + ", outside of " + NameOf(space) + " memory", site);
  Current().Raise(access_text + Format(", outside of the block's %zu bytes of shared memory from 0x%zx",
                                       Current().shared_bytes(), static_cast<size_t>(kSharedBase)),
                  site);
}

void CheckAligned(Space space, uint64_t at, unsigned bytes, const void* site) {
  if (at % bytes == 0) return;
  Current().Raise(Format("misaligned access of %u bytes at 0x%zx of %s memory", bytes, static_cast<size_t>(at),
                         NameOf(space)),
                  site);
}

bool Within(uint64_t at, unsigned bytes, uint64_t begin, uint64_t size) {
  return at - begin <= size && bytes <= size - (at - begin);
}

void RequireWholeWarp(uint32_t mask, const char* what, const void* site) {
  if (mask != ~0u) Current().Raise(Format("%s with the mask %08x: only whole warps are supported", what, mask), site);
}

/// Every lane's operands, which lie on its stack.
template <class T>
std::array<const T*, 32> OperandsOf(const emu::Warp& warp) {
  std::array<const T*, 32> operands;
  for (int lane = 0; lane < 32; ++lane) operands[lane] = static_cast<const T*>(warp.data[lane].row);
  return operands;
}

/// Brings `mine` to a collective; the last lane calls all(operands of every lane).
template <class T, class Action>
void Meet(Collective collective, int kind, const T& mine, const void* site, const Action& all) {
  Machine& machine = Current();
  machine.lane_data().row = &mine;
  machine.Rendezvous(collective, kKind + kind, site, [&](emu::Warp& warp) { all(OperandsOf<T>(warp)); });
}

}  // namespace

/// Where accesses end up in the host's memory, once they are checked.
class Accesses {
 public:
  static void* Resolve(const Thread& t, Space space, uint64_t at, unsigned bytes, emu::Access access,
                       const void* site, emu::Reader reader = emu::Reader::kLane) {
    Machine& machine = Current();
    CheckAligned(space, at, bytes, site);
    if (space == Space::kGeneric) space = SpaceOf(at);
    uint64_t place = at;
    switch (space) {
      case Space::kGlobal:
        if (!emu::AddressSpace::Instance().Contains(at)) RaiseOutside(space, access, at, bytes, site);
        break;
      case Space::kShared:
        if (!Within(at, bytes, kSharedBase, machine.shared_bytes())) RaiseOutside(space, access, at, bytes, site);
        place = t.SharedToGeneric(at);
        break;
      case Space::kLocal:
        if (!Within(at, bytes, t.local_begin_, t.local_bytes_)) RaiseOutside(space, access, at, bytes, site);
        return reinterpret_cast<void*>(at);
      case Space::kParam:
        if (!Within(at, bytes, kParameterBase, t.params_bytes_)) RaiseOutside(space, access, at, bytes, site);
        if (access != emu::Access::kRead) machine.Raise("a write to a parameter", site);
        return reinterpret_cast<void*>(t.ParamToGeneric(at));
      case Space::kGeneric: return GenericPlace(t, at, bytes, access, site);
    }
    emu::CheckAccess(machine, access, reinterpret_cast<void*>(place), bytes, site, reader);
    return reinterpret_cast<void*>(place);
  }

 private:
  /// kGeneric for what is no global memory.
  static Space SpaceOf(uint64_t at) {
    return emu::AddressSpace::Instance().Contains(at) ? Space::kGlobal : Space::kGeneric;
  }

  static void* GenericPlace(const Thread& t, uint64_t at, unsigned bytes, emu::Access access, const void* site) {
    if (Within(at, bytes, t.local_begin_, t.local_bytes_)) return Resolve(t, Space::kLocal, at, bytes, access, site);
    if (Within(at, bytes, t.params_, t.params_bytes_)) {
      return Resolve(t, Space::kParam, t.GenericToParam(at), bytes, access, site);
    }
    if (Within(at, bytes, t.shared_, Current().shared_bytes())) {
      return Resolve(t, Space::kShared, t.GenericToShared(at), bytes, access, site);
    }
    RaiseOutside(Space::kGeneric, access, at, bytes, site);
  }
};

Thread::Thread(const void* params, size_t params_bytes)
    : params_(reinterpret_cast<uint64_t>(params)), params_bytes_(params_bytes) {
  Machine& machine = Current();
  const emu::Place& place = machine.current().place;
  tid_ = static_cast<uint32_t>(place.thread);
  threads_ = static_cast<uint32_t>(place.threads);
  for (int axis = 0; axis < 3; ++axis) {
    block_[axis] = static_cast<uint32_t>(place.block[axis]);
    grid_[axis] = static_cast<uint32_t>(place.grid[axis]);
  }
  shared_ = reinterpret_cast<uint64_t>(machine.block().shared);
}

void Thread::Read(Space space, uint64_t at, unsigned bytes, void* values) {
  std::memcpy(values, Accesses::Resolve(*this, space, at, bytes, emu::Access::kRead, TM_SITE), bytes);
}

void Thread::ReadUsed(Space space, uint64_t at, unsigned bytes, uint32_t used, void* values) {
  const void* site = TM_SITE;
  CheckAligned(space, at, bytes, site);
  for (unsigned i = 0; i < bytes; ++i) {
    if (!(used >> i & 1)) continue;
    const void* place = Accesses::Resolve(*this, space, at + i, 1, emu::Access::kRead, site);
    std::memcpy(static_cast<uint8_t*>(values) + i, place, 1);
  }
}

void Thread::Write(Space space, uint64_t at, unsigned bytes, const void* values) {
  std::memcpy(Accesses::Resolve(*this, space, at, bytes, emu::Access::kWrite, TM_SITE), values, bytes);
}

void* Thread::BeginAtomic(Space space, uint64_t at, unsigned bytes) {
  return Accesses::Resolve(*this, space, at, bytes, emu::Access::kAtomic, TM_SITE);
}

void* Thread::CopyTarget(uint64_t shared, uint32_t bytes, uint32_t read) {
  if (!Within(shared, bytes, kSharedBase, Current().shared_bytes())) {
    RaiseOutside(Space::kShared, emu::Access::kWrite, shared, bytes, TM_SITE);
  }
  if (read != 0 && read != bytes) Current().Raise("cp.async that reads a part of its bytes is not supported", TM_SITE);
  return reinterpret_cast<void*>(SharedToGeneric(shared));
}

void Thread::SyncWarp(uint32_t mask) {
  RequireWholeWarp(mask, "bar.warp.sync", TM_SITE);
  Current().SyncWarp(TM_SITE);
}

uint32_t Thread::VoteBallot(bool holds, uint32_t mask) {
  RequireWholeWarp(mask, "vote.sync", TM_SITE);
  struct Vote {
    bool holds;
    uint32_t* votes;
  };
  uint32_t votes = 0;
  Meet(Collective::kBallot, 0, Vote{holds, &votes}, TM_SITE, [](const std::array<const Vote*, 32>& lanes) {
    uint32_t all = 0;
    for (int lane = 0; lane < 32; ++lane) all |= static_cast<uint32_t>(lanes[lane]->holds) << lane;
    for (const Vote* lane : lanes) *lane->votes = all;
  });
  return votes;
}

std::array<uint32_t, 32> Thread::ExchangeWords(uint32_t value, uint32_t mask) {
  RequireWholeWarp(mask, "redux.sync", TM_SITE);
  struct Word {
    uint32_t value;
    std::array<uint32_t, 32>* all;
  };
  std::array<uint32_t, 32> words;
  Meet(Collective::kShuffle, 10, Word{value, &words}, TM_SITE, [](const std::array<const Word*, 32>& lanes) {
    std::array<uint32_t, 32> all;
    for (int lane = 0; lane < 32; ++lane) all[lane] = lanes[lane]->value;
    for (const Word* lane : lanes) *lane->all = all;
  });
  return words;
}

Shuffled Thread::ExchangeShuffled(ShuffleMode mode, uint32_t value, uint32_t b, uint32_t c, uint32_t mask) {
  RequireWholeWarp(mask, "shfl.sync", TM_SITE);
  struct Request {
    uint32_t value, b, c;
    Shuffled* result;
  };
  Shuffled result = {};
  Meet(Collective::kShuffle, static_cast<int>(mode), Request{value, b, c, &result}, TM_SITE,
       [mode](const std::array<const Request*, 32>& lanes) {
         std::array<uint32_t, 32> values;
         for (int lane = 0; lane < 32; ++lane) values[lane] = lanes[lane]->value;
         for (uint32_t lane = 0; lane < 32; ++lane) {
           *lanes[lane]->result = ShuffleLane(mode, values, lane, lanes[lane]->b, lanes[lane]->c);
         }
       });
  return result;
}

std::array<uint32_t, 4> Thread::ExchangeRows(uint64_t row, int count, bool transposed) {
  struct Row {
    MatrixRow elements;
    std::array<uint32_t, 4>* registers;
  };
  std::array<uint32_t, 4> registers;
  Row mine = {{}, &registers};
  if (laneid() < static_cast<uint32_t>(8 * count)) {
    const void* place =
        Accesses::Resolve(*this, Space::kShared, row, 16, emu::Access::kRead, TM_SITE, emu::Reader::kWarp);
    std::memcpy(mine.elements.data(), place, 16);
  }
  Meet(Collective::kLdmatrix, 2 * count + transposed, mine, TM_SITE, [=](const std::array<const Row*, 32>& lanes) {
    std::array<MatrixRow, 32> rows;
    for (int lane = 0; lane < 32; ++lane) rows[lane] = lanes[lane]->elements;
    for (uint32_t lane = 0; lane < 32; ++lane) *lanes[lane]->registers = DealMatrices(rows, count, transposed, lane);
  });
  return registers;
}

std::array<uint32_t, 4> Thread::ExchangeFragments(const Fragments& fragments, const Shape& shape) {
  struct Operands {
    Fragments fragments;
    std::array<uint32_t, 4>* sums;
  };
  std::array<uint32_t, 4> sums;
  const int kind = static_cast<int>(shape.a) * 4 + static_cast<int>(shape.b) + 16 * shape.k;
  Meet(Collective::kMma, kind, Operands{fragments, &sums}, TM_SITE,
       [&shape](const std::array<const Operands*, 32>& lanes) {
         std::array<const Fragments*, 32> all;
         for (int lane = 0; lane < 32; ++lane) all[lane] = &lanes[lane]->fragments;
         const auto results = MultiplyFragments(all, shape);
         for (int lane = 0; lane < 32; ++lane) *lanes[lane]->sums = results[lane];
       });
  return sums;
}

void Thread::Trap() { Current().Raise("trap", TM_SITE); }

}  // namespace tokenmill::cuda::ptx
