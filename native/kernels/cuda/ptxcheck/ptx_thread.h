#pragma once

#include <array>

#include "kernels/cuda/emu/gpu_emu.h"
#include "kernels/cuda/ptxcheck/ptx_convert.h"
#include "kernels/cuda/ptxcheck/ptx_float.h"
#include "kernels/cuda/ptxcheck/ptx_integer.h"
#include "kernels/cuda/ptxcheck/ptx_warp.h"

// What a translated kernel works with: a thread of the emulator. Its memory accesses are checked as those of the
// kernels' sources are. State spaces:
//
//   global, local   addresses are those of the host
//   shared          kSharedBase + offset within the block's dynamic shared memory
//   param           kParameterBase + offset within the kernel's parameters
//   generic         all of them at their places in the host's memory
//
// What is checked by the emulator is told its place in the kernel: functions that find it as their return address are
// called by the kernel itself, so whatever stands between is always inlined.

namespace tokenmill::cuda::ptx {

inline constexpr uint64_t kSharedBase = 1024;
inline constexpr uint64_t kParameterBase = 1 << 20;

inline constexpr uint32_t kAllBytes = ~0u;

enum class Space { kGlobal, kShared, kLocal, kParam, kGeneric };

#define PTX_INLINE inline __attribute__((always_inline))

class Thread {
 public:
  Thread(const void* params, size_t params_bytes);

  // --- Special registers
  uint32_t tid_x() const { return tid_; }
  uint32_t tid_y() const { return 0; }
  uint32_t tid_z() const { return 0; }
  uint32_t ntid_x() const { return threads_; }
  uint32_t ntid_y() const { return 1; }
  uint32_t ntid_z() const { return 1; }
  uint32_t ctaid_x() const { return block_[0]; }
  uint32_t ctaid_y() const { return block_[1]; }
  uint32_t ctaid_z() const { return block_[2]; }
  uint32_t nctaid_x() const { return grid_[0]; }
  uint32_t nctaid_y() const { return grid_[1]; }
  uint32_t nctaid_z() const { return grid_[2]; }
  uint32_t laneid() const { return tid_ % 32; }
  uint32_t lanemask_eq() const { return 1u << laneid(); }
  uint32_t lanemask_lt() const { return lanemask_eq() - 1; }
  uint32_t lanemask_le() const { return lanemask_lt() | lanemask_eq(); }
  uint32_t lanemask_ge() const { return ~lanemask_lt(); }
  uint32_t lanemask_gt() const { return ~lanemask_le(); }

  // --- Memory. `n` elements are one access, which is aligned to all of it. Bit i of `used`: whether byte i is used.
  template <Space space, class E, int n, uint32_t used = kAllBytes>
  PTX_INLINE std::array<E, n> Load(uint64_t at) {
    std::array<E, n> values;
    if constexpr (used == kAllBytes) {
      Read(space, at, sizeof(values), values.data());
    } else {
      values.fill(static_cast<E>(kPoison));
      ReadUsed(space, at, sizeof(values), used, values.data());
    }
    return values;
  }
  template <Space space, class E, int n>
  PTX_INLINE void Store(uint64_t at, const E (&values)[n]) {
    Write(space, at, sizeof(values), values);
  }
  /// Replaces the old value, which it gives, by change(old).
  template <Space space, class E, class Change>
  PTX_INLINE E Atomic(uint64_t at, const Change& change) {
    E* const place = static_cast<E*>(BeginAtomic(space, at, sizeof(E)));
    const E old = *place;
    *place = change(old);
    return old;
  }
  /// The emulator's model has no order that is weaker than the device's: a block's fence orders nothing there.
  void FenceBlock() {}
  PTX_INLINE void FenceDevice() { emu::FenceDevice(); }

  uint64_t LocalBase() const { return local_begin_; }
  uint64_t GlobalToGeneric(uint64_t at) const { return at; }
  uint64_t LocalToGeneric(uint64_t at) const { return at; }
  uint64_t SharedToGeneric(uint64_t at) const { return at - kSharedBase + shared_; }
  uint64_t ParamToGeneric(uint64_t at) const { return at - kParameterBase + params_; }
  uint64_t GenericToGlobal(uint64_t at) const { return at; }
  uint64_t GenericToLocal(uint64_t at) const { return at; }
  uint64_t GenericToShared(uint64_t at) const { return at - shared_ + kSharedBase; }
  uint64_t GenericToParam(uint64_t at) const { return at - params_ + kParameterBase; }

  // --- Asynchronous copies: `bytes` to shared memory, of which `read` come from global memory, the others are zeros.
  template <int bytes>
  PTX_INLINE void CopyAsync(uint64_t shared, uint64_t global, uint32_t read) {
    emu::CpAsync(CopyTarget(shared, bytes, read), reinterpret_cast<const void*>(global), bytes, read == bytes);
  }
  PTX_INLINE void CopyCommit() { emu::CpAsyncCommit(); }
  PTX_INLINE void CopyWait(int pending) { emu::CpAsyncWait(pending); }
  PTX_INLINE void CopyWaitAll() {
    emu::CpAsyncCommit();
    emu::CpAsyncWait(0);
  }

  // --- Barriers and warps
  PTX_INLINE void SyncBlock() { emu::SyncBlock(); }
  void SyncWarp(uint32_t mask);
  uint32_t VoteBallot(bool holds, uint32_t mask);
  PTX_INLINE bool VoteAll(bool holds, uint32_t mask) { return VoteBallot(holds, mask) == ~0u; }
  PTX_INLINE bool VoteAny(bool holds, uint32_t mask) { return VoteBallot(holds, mask) != 0; }
  PTX_INLINE bool VoteUni(bool holds, uint32_t mask) {
    const uint32_t votes = VoteBallot(holds, mask);
    return votes == 0 || votes == ~0u;
  }
  template <ShuffleMode mode>
  PTX_INLINE Shuffled Shuffle(uint32_t value, uint32_t b, uint32_t c, uint32_t mask) {
    return ExchangeShuffled(mode, value, b, c, mask);
  }
  template <class T, Reduction how>
  PTX_INLINE uint32_t Reduce(uint32_t value, uint32_t mask) {
    const auto lanes = ExchangeWords(value, mask);
    return ReduceWords<T, how>(lanes);
  }
  template <int count, bool transposed>
  PTX_INLINE std::array<uint32_t, 4> LoadMatrix(uint64_t row) {
    return ExchangeRows(row, count, transposed);
  }
  template <int k, class A, class B>
  PTX_INLINE std::array<uint32_t, 4> MultiplyMatrices(const std::array<uint32_t, A::kWidth * k / 64>& a,
                                                      const std::array<uint32_t, A::kWidth * k / 128>& b,
                                                      const std::array<uint32_t, 4>& c) {
    Fragments fragments = {};
    std::copy(a.begin(), a.end(), fragments.a);
    std::copy(b.begin(), b.end(), fragments.b);
    std::copy(c.begin(), c.end(), fragments.c);
    return ExchangeFragments(fragments, MatrixShape<A, B>(k));
  }
  [[noreturn]] void Trap();

  void SetLocal(uint64_t begin, uint64_t bytes) { local_begin_ = begin, local_bytes_ = bytes; }

 private:
  void Read(Space space, uint64_t at, unsigned bytes, void* values);
  void ReadUsed(Space space, uint64_t at, unsigned bytes, uint32_t used, void* values);
  void Write(Space space, uint64_t at, unsigned bytes, const void* values);
  void* BeginAtomic(Space space, uint64_t at, unsigned bytes);
  void* CopyTarget(uint64_t shared, uint32_t bytes, uint32_t read);
  Shuffled ExchangeShuffled(ShuffleMode mode, uint32_t value, uint32_t b, uint32_t c, uint32_t mask);
  std::array<uint32_t, 32> ExchangeWords(uint32_t value, uint32_t mask);
  std::array<uint32_t, 4> ExchangeRows(uint64_t row, int count, bool transposed);
  std::array<uint32_t, 4> ExchangeFragments(const Fragments& fragments, const Shape& shape);

  friend class Accesses;
  uint32_t tid_, threads_;
  uint32_t block_[3], grid_[3];
  uint64_t params_;
  uint64_t params_bytes_;
  uint64_t shared_;  // the block's shared memory
  uint64_t local_begin_ = 0, local_bytes_ = 0;
};

/// A thread's local memory.
template <int bytes>
struct Local {
  explicit Local(Thread& t) {
    for (int i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(kPoison >> (8 * (i % 8)));
    t.SetLocal(reinterpret_cast<uint64_t>(data), bytes);
  }
  alignas(16) uint8_t data[bytes];
};

/// Runs a translated kernel as the emulator's current thread.
inline void RunThread(void (*body)(Thread&), const void* params, size_t params_bytes) {
  Thread thread(params, params_bytes);
  body(thread);
}

}  // namespace tokenmill::cuda::ptx
