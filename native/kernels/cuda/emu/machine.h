#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/status.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/emu/address_space.h"
#include "kernels/cuda/emu/banks.h"
#include "kernels/cuda/emu/fiber.h"
#include "kernels/cuda/emu/gpu_emu.h"
#include "kernels/cuda/emu/shadow.h"

// Carries out one launch on the calling thread. A few blocks run at once; every thread of theirs is a fiber,
// and a seeded scheduler picks which goes on whenever one waits, and at random accesses.

namespace tokenmill::cuda::emu {

constexpr int kWarpLanes = 32;
constexpr int kThreadsMax = 1024;
constexpr size_t kSharedBytesMax = 227 * 1024;

struct Kernel {
  std::string name;
  void (*run)(const void* params);
  size_t params_bytes;
  int threads_max;
};

/// Null for an unknown name.
const Kernel* FindKernel(const char* name);

enum class Collective { kNone, kSyncWarp, kShuffleXor, kShuffle, kBallot, kMma, kLdmatrix };
enum class Waits { kNot, kForWarp, kForBlock, kExited };

struct Place {
  int thread, threads;
  int block[3], grid[3];
};

/// Four or sixteen bytes on their way to shared memory.
struct AsyncCopy {
  uint8_t* shared;
  const uint8_t* global;
  int bytes;
  bool valid;
  const void* site;
  uint8_t value[16];
  uint8_t state[16];
};

struct Thread {
  Place place = {};
  Context context;
  Block* block = nullptr;
  Warp* warp = nullptr;
  int lane = 0;
  Waits waits = Waits::kNot;
  const void* site = nullptr;            // where it waits, an address in the kernel
  std::vector<AsyncCopy> copies;         // in the order of issue
  std::vector<size_t> copy_groups;       // how many of `copies` each committed group has
  uint32_t stamp = 0, atomic_stamp = 0;  // of its epoch, 0: not asked for yet
  uint32_t fences = 0;
  KnowledgePtr fenced, seen, known;  // what its atomics release, what they got, what a fence made of that
};

/// What a lane brings to a collective, and what it gets.
struct LaneData {
  uint32_t value = 0;
  int select = 0;
  F4 d;
  S4 sums;
  U4 a;
  U2 b;
  const void* row = nullptr;
  U4 result;
};

struct Warp {
  int index = 0;
  uint32_t phase = 0, stamp = 0;
  const void* site = nullptr;  // of the first lane to arrive
  Collective collective = Collective::kNone;
  int kind = 0;  // which form of the collective
  int arrived = 0, exited = 0;
  Thread* lanes[kWarpLanes] = {};
  LaneData data[kWarpLanes];
  BankLog banks;
};

struct Block {
  int slot = 0;
  int index = 0;
  uint8_t* shared = nullptr;
  uint8_t* shared_state = nullptr;
  Cells shared_cells = {};
  uint32_t phase = 0, stamp = 0;
  bool uses_fences = false;
  const void* site = nullptr;  // of the first thread to arrive
  int arrived = 0, exited = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
};

struct LaunchCounts {
  uint64_t mma = 0;
  BankCounts banks;
};

struct LaunchOptions {
  uint64_t seed = 1;
  int device = 0;
};

class Machine {
 public:
  /// The calling thread's, kept for its next launches.
  static Machine& OfThisThread();
  /// The machine whose fiber is running, or null: outside of launches nothing is checked.
  static Machine* Running() { return running_; }

  ~Machine();
  /// Internal with the report of the first fault.
  Status Run(const Kernel& kernel, const LaunchShape& shape, const void* params,
             const LaunchOptions& options);

  /// Stamps begin anew: cells of shared memory of all threads' machines are cleared before their next launch.
  static void ForgetShared();

  Shadow& shadow();
  Thread& current() { return *current_; }
  Block& block() { return *current_->block; }
  size_t shared_bytes() const { return shape_.shared_bytes; }
  LaunchCounts& counts() { return counts_; }
  int device() const { return options_.device; }
  bool InStacks(const void* at) const {
    return IsWithin(at, stacks_, kSlotsMax * kThreadsMax * kStackStride);
  }
  bool InShared(const void* at) const { return IsWithin(at, shared_, kSlotsMax * kSharedStride); }
  bool InParams(const void* at) const { return IsWithin(at, params_.data(), params_.size()); }
  /// Kernels may read their parameters and constants of the program, nothing else of the host's.
  void CheckHost(bool reads, const void* at, size_t bytes, const void* site);

  /// Ends the launch with a report about what the current thread did at `site`.
  [[noreturn]] void Raise(const std::string& what, const void* site);
  /// Lets others run until this thread is made ready again.
  void Wait(Waits waits, const void* site);
  void MakeReady(Thread* thread);
  /// Lets others run first, now and then.
  void MaybePreempt() {
    if (--accesses_to_preemption_ <= 0) Preempt();
  }

  /// All threads of the block.
  void SyncBlock(const void* site);
  void SyncWarp(const void* site);
  /// Ends the launch because of two accesses that nothing orders.
  [[noreturn]] void RaiseRace(Access access, const Conflict& conflict, const std::string& where,
                              const void* site);
  /// Waits for all lanes; the last one carries out `all(warp)` for everybody.
  template <class Action>
  void Rendezvous(Collective collective, int kind, const void* site, const Action& all) {
    if (JoinWarp(collective, kind, site)) {
      all(*current_->warp);
      ReleaseWarp();
    } else {
      Wait(Waits::kForWarp, site);
    }
  }
  LaneData& lane_data() { return current_->warp->data[current_->lane]; }

 private:
  static constexpr int kSlotsMax = 4;
  static constexpr size_t kStackBytes = 64 * 1024;
  static constexpr size_t kStackStride = kStackBytes + 8 * 1024;
  static constexpr size_t kSharedStride = 256 * 1024;
  static inline constinit thread_local Machine* running_ = nullptr;

  Machine();
  static bool IsWithin(const void* at, const void* begin, size_t bytes) {
    return reinterpret_cast<uintptr_t>(at) - reinterpret_cast<uintptr_t>(begin) < bytes;
  }
  static void Entry();
  void Preempt();
  void StartBlock(int slot, int index);
  bool JoinWarp(Collective collective, int kind, const void* site);
  void ReleaseWarp();
  void Exit();
  [[noreturn]] void RaiseDeadlock();
  Thread* TakeReady();
  std::string Describe(const Thread& thread) const;
  void CheckSameSite(const void* one, const void* other, const char* what);

  const Kernel* kernel_ = nullptr;
  LaunchShape shape_;
  LaunchOptions options_;
  LaunchCounts counts_;
  std::vector<uint8_t> params_;
  std::minstd_rand random_;
  Context main_;
  Thread* current_ = nullptr;
  int accesses_to_preemption_ = 0;
  std::vector<Thread*> ready_;
  std::vector<std::unique_ptr<Block>> slots_;
  int finished_slot_ = -1;
  std::string fault_;
  uint8_t* stacks_ = nullptr;
  uint8_t* shared_ = nullptr;
  uint8_t* shared_states_ = nullptr;
  Cells shared_cells_ = {};
  int forgotten_ = 0;
};

}  // namespace tokenmill::cuda::emu
