#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

// Which accesses are ordered, after the PTX memory model made stricter: within a block only sync_block and
// sync_warp order accesses of different threads. Between blocks of a launch an access is ordered before
// another by
//   fence_device after it (by its thread, or by one that a barrier ordered behind it), then an atomic;
//   an atomic on the same address that came later; then fence_device, before the other access (likewise).
// Launches of one device are ordered.

namespace tokenmill::cuda::emu {

struct Thread;
struct Warp;
struct Block;

constexpr int32_t kSeveral = -1;

/// A stretch of a thread's life between synchronizations, or those of several threads that read the same
/// byte.
struct Epoch {
  uint32_t block;        // index in the grid
  uint32_t block_phase;  // sync_blocks before it
  uint32_t warp_phase;   // sync_warps before it
  uint32_t fences;       // of the thread, before it
  int16_t warp, lane;    // or kSeveral
  bool atomic;
};

/// What of a block's past is ordered before something: all of earlier phases, and what threads fenced.
struct Cover {
  uint32_t block_phase = 0;
  std::vector<uint32_t> warp_phases;  // of each warp, empty: none
  std::vector<uint32_t> fences;       // of each thread, empty: none
};
using Knowledge = std::map<uint32_t, std::shared_ptr<const Cover>>;
using KnowledgePtr = std::shared_ptr<const Knowledge>;

/// Of a thread or an address; null is nothing.
KnowledgePtr Join(const KnowledgePtr& a, const KnowledgePtr& b);

/// A byte's last writer and the readers since, as stamps: numbers of epochs, ascending over all launches; 0
/// is none. Sites are addresses in the program relative to SiteBase().
struct Cells {
  uint32_t* writers;
  uint32_t* readers;
  uint32_t* writer_sites;
  uint32_t* reader_sites;
};

enum class Access { kRead, kWrite, kAtomic };
/// A read that belongs to all lanes of a warp, as ldmatrix's.
enum class Reader { kLane, kWarp };

struct Conflict {
  bool found = false;
  bool with_write = false;
  size_t byte = 0;
  Epoch other = {};
  const void* other_site = nullptr;
};

class Shadow {
 public:
  Shadow();

  void BeginLaunch();
  void EndLaunch();

  /// Records an access of the thread to `bytes` and gives the first conflict with an earlier one.
  Conflict Record(Thread& thread, Access access, Reader reader, const void* at, const Cells& cells,
                  size_t bytes, bool shared, const void* site);
  /// The bytes are now written by the thread, whatever was before.
  void Overwrite(Thread& thread, const Cells& cells, size_t bytes);

  void SyncBlock(Block& block);
  void SyncWarp(Warp& warp);
  void Fence(Thread& thread);

  /// Cells of a byte of the address space.
  Cells CellsOf(uint64_t at) const;

 private:
  uint32_t NewStamp(const Epoch& epoch);
  uint32_t StampOf(Thread& thread, bool atomic);
  uint32_t StampOfWarp(Thread& thread);
  uint32_t StampOfBlock(Thread& thread);
  const Epoch& EpochOf(uint32_t stamp) const { return epochs_[stamp - base_]; }
  bool IsOrdered(uint32_t stamp, const Thread& thread, bool shared, Reader reader) const;
  uint32_t AddReader(uint32_t readers, Thread& thread, bool shared, Reader reader);
  void Acquire(Thread& thread, uint64_t at);

  uint32_t base_ = 1;  // stamps below belong to earlier launches
  std::vector<Epoch> epochs_;
  uint32_t several_blocks_ = 0;
  std::unordered_map<uint64_t, KnowledgePtr> released_;  // by atomics on an address
  Cells device_;
};

const void* SiteBase();
inline uint32_t PackSite(const void* site) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(site) - reinterpret_cast<uintptr_t>(SiteBase()));
}
inline const void* UnpackSite(uint32_t site) {
  return static_cast<const uint8_t*>(SiteBase()) + static_cast<int32_t>(site);
}

}  // namespace tokenmill::cuda::emu
