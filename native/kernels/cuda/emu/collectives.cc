// Warp collectives, barriers and asynchronous copies as kernels call them. Fragments are laid out as in the
// PTX ISA: g = lane / 4, t = lane % 4.

#include <cstring>

#include "core/float16.h"
#include "kernels/cuda/emu/access.h"
#include "kernels/cuda/emu/gpu_emu.h"
#include "kernels/cuda/emu/machine.h"

#define TM_SITE __builtin_return_address(0)

namespace tokenmill::cuda::emu {
namespace {

Machine& Current() { return *Machine::Running(); }

/// A 16-bit float of any bits in f32.
struct HalfTable {
  float values[65536];
  explicit HalfTable(float (*widen)(uint16_t)) {
    for (int i = 0; i < 65536; ++i) values[i] = widen(static_cast<uint16_t>(i));
  }
};

/// d[16][8] += a[16][16] * b[16][8], products exact, sums in f32 over ascending k.
void MultiplyHalf(Warp& warp, bool bf16) {
  static const HalfTable* f16_table = new HalfTable(&F16ToF32);
  static const HalfTable* bf16_table = new HalfTable(&Bf16ToF32);
  const float* values = (bf16 ? bf16_table : f16_table)->values;
  alignas(32) float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const LaneData& x = warp.data[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const uint16_t h = static_cast<uint16_t>(x.a.v[i / 2] >> (16 * (i % 2)));
      a[g + (i / 2 % 2) * 8][t * 2 + i % 2 + (i / 4) * 8] = values[h];
    }
    for (int i = 0; i < 4; ++i) {
      const uint16_t h = static_cast<uint16_t>(x.b.v[i / 2] >> (16 * (i % 2)));
      b[t * 2 + i % 2 + (i / 2) * 8][g] = values[h];
    }
    for (int i = 0; i < 4; ++i) d[g + (i / 2) * 8][t * 2 + i % 2] = x.d.v[i];
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) warp.data[lane].d.v[i] = d[g + (i / 2) * 8][t * 2 + i % 2];
  }
}

/// d[16][8] += a[16][32] * b[32][8], sums modulo 2^32.
void MultiplyS8(Warp& warp) {
  int a[16][32], b[32][8];
  uint32_t d[16][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const LaneData& x = warp.data[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 16; ++i) {
      const int8_t level = static_cast<int8_t>(x.a.v[i / 4] >> (8 * (i % 4)));
      a[g + (i / 4 % 2) * 8][t * 4 + i % 4 + (i / 8) * 16] = level;
    }
    for (int i = 0; i < 8; ++i) {
      const int8_t level = static_cast<int8_t>(x.b.v[i / 4] >> (8 * (i % 4)));
      b[t * 4 + i % 4 + (i / 4) * 16][g] = level;
    }
    for (int i = 0; i < 4; ++i) d[g + (i / 2) * 8][t * 2 + i % 2] = static_cast<uint32_t>(x.sums.v[i]);
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 32; ++k) {
      for (int n = 0; n < 8; ++n) d[m][n] += static_cast<uint32_t>(a[m][k] * b[k][n]);
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      warp.data[lane].sums.v[i] = static_cast<int>(d[g + (i / 2) * 8][t * 2 + i % 2]);
  }
}

F4 MmaHalf(const F4& d, const U4& a, const U2& b, bool bf16, const void* site) {
  Machine& machine = Current();
  LaneData& data = machine.lane_data();
  data.d = d, data.a = a, data.b = b;
  machine.Rendezvous(Collective::kMma, bf16, site, [&, bf16](Warp& warp) {
    ++machine.counts().mma;
    MultiplyHalf(warp, bf16);
  });
  return data.d;
}

void LoadMatrices(Warp& warp, int matrices, bool trans) {
  for (int matrix = 0; matrix < matrices; ++matrix) {
    uint16_t rows[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(rows[row], warp.data[matrix * 8 + row].row, 16);
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t low = trans ? rows[t * 2][g] : rows[g][t * 2];
      const uint32_t high = trans ? rows[t * 2 + 1][g] : rows[g][t * 2 + 1];
      warp.data[lane].result.v[matrix] = low | high << 16;
    }
  }
}

}  // namespace

int PlaceOf(Where where) {
  const Place& place = Current().current().place;
  switch (where) {
    case kThread:
      return place.thread;
    case kThreads:
      return place.threads;
    case kBlockX:
      return place.block[0];
    case kBlockY:
      return place.block[1];
    case kBlockZ:
      return place.block[2];
    case kGridX:
      return place.grid[0];
    case kGridY:
      return place.grid[1];
    case kGridZ:
      return place.grid[2];
  }
  return 0;
}

void* SharedMemory() { return Current().block().shared; }
void SyncBlock() { Current().SyncBlock(TM_SITE); }

void SyncWarp() { Current().SyncWarp(TM_SITE); }
void FenceDevice() { Current().shadow().Fence(Current().current()); }

uint32_t AtomicAdd(uint32_t* at, uint32_t value) {
  Machine& machine = Current();
  CheckAccess(machine, Access::kAtomic, at, sizeof(*at), TM_SITE);
  const uint32_t old = *at;
  *at = old + value;
  return old;
}

uint32_t ShuffleXor(uint32_t value, int mask) {
  Machine& machine = Current();
  LaneData& data = machine.lane_data();
  data.value = value;
  data.select = machine.current().lane ^ (mask & 31);
  machine.Rendezvous(Collective::kShuffleXor, mask, TM_SITE, [](Warp& warp) {
    for (LaneData& lane : warp.data) lane.result.v[0] = warp.data[lane.select].value;
  });
  return data.result.v[0];
}

uint32_t Shuffle(uint32_t value, int from_lane) {
  Machine& machine = Current();
  LaneData& data = machine.lane_data();
  data.value = value;
  data.select = from_lane & 31;
  machine.Rendezvous(Collective::kShuffle, 0, TM_SITE, [](Warp& warp) {
    for (LaneData& lane : warp.data) lane.result.v[0] = warp.data[lane.select].value;
  });
  return data.result.v[0];
}

uint32_t Ballot(bool predicate) {
  Machine& machine = Current();
  LaneData& data = machine.lane_data();
  data.value = predicate;
  machine.Rendezvous(Collective::kBallot, 0, TM_SITE, [](Warp& warp) {
    uint32_t bits = 0;
    for (int lane = 0; lane < kWarpLanes; ++lane) bits |= warp.data[lane].value << lane;
    for (LaneData& lane : warp.data) lane.result.v[0] = bits;
  });
  return data.result.v[0];
}

F4 MmaF16(F4 d, U4 a, U2 b) { return MmaHalf(d, a, b, false, TM_SITE); }
F4 MmaBf16(F4 d, U4 a, U2 b) { return MmaHalf(d, a, b, true, TM_SITE); }

S4 MmaS8(S4 d, U4 a, U2 b) {
  Machine& machine = Current();
  LaneData& data = machine.lane_data();
  data.sums = d, data.a = a, data.b = b;
  machine.Rendezvous(Collective::kMma, 2, TM_SITE, [&](Warp& warp) {
    ++machine.counts().mma;
    MultiplyS8(warp);
  });
  return data.sums;
}

U4 Ldmatrix(const void* shared_row, int matrices, bool trans) {
  Machine& machine = Current();
  const void* site = TM_SITE;
  CheckShared(machine, shared_row, 16, "ldmatrix", site);
  if (reinterpret_cast<uintptr_t>(shared_row) % 16 != 0) machine.Raise("ldmatrix of a misaligned row", site);
  if (machine.current().lane < matrices * 8) {
    CheckAccess(machine, Access::kRead, shared_row, 16, site, Reader::kWarp);
  }
  LaneData& data = machine.lane_data();
  data.row = shared_row;
  machine.Rendezvous(Collective::kLdmatrix, matrices * 2 + trans, site,
                     [=](Warp& warp) { LoadMatrices(warp, matrices, trans); });
  return data.result;
}

uint32_t SharedAddress(const void* shared) {
  Machine& machine = Current();
  CheckShared(machine, shared, 0, "address", TM_SITE);
  return static_cast<uint32_t>(static_cast<const uint8_t*>(shared) - machine.block().shared);
}

}  // namespace tokenmill::cuda::emu
