#include "kernels/cuda/emu/shadow.h"

#include <sys/mman.h>

#include <algorithm>

#include "kernels/cuda/emu/machine.h"

namespace tokenmill::cuda::emu {
namespace {

constexpr uint32_t kStampsMax = 0x80000000u;

uint32_t* ReserveCells() { return static_cast<uint32_t*>(ReserveMemory(kSpaceBytes * sizeof(uint32_t))); }

void Raise(std::vector<uint32_t>& values, const std::vector<uint32_t>& others) {
  if (values.size() < others.size()) values.resize(others.size());
  for (size_t i = 0; i < others.size(); ++i) values[i] = std::max(values[i], others[i]);
}

std::shared_ptr<const Cover> JoinCovers(const std::shared_ptr<const Cover>& a,
                                        const std::shared_ptr<const Cover>& b) {
  if (a == b) return a;
  auto joined = std::make_shared<Cover>(*a);
  joined->block_phase = std::max(joined->block_phase, b->block_phase);
  Raise(joined->warp_phases, b->warp_phases);
  Raise(joined->fences, b->fences);
  return joined;
}

bool Covers(const Cover& cover, const Epoch& epoch) {
  if (epoch.block_phase < cover.block_phase) return true;
  if (epoch.warp == kSeveral) return false;
  const size_t warp = static_cast<size_t>(epoch.warp);
  if (warp < cover.warp_phases.size() && epoch.warp_phase < cover.warp_phases[warp]) return true;
  if (epoch.lane == kSeveral) return false;
  const size_t thread = warp * kWarpLanes + static_cast<size_t>(epoch.lane);
  return thread < cover.fences.size() && epoch.fences < cover.fences[thread];
}

bool Knows(const Thread& thread, const Epoch& epoch) {
  if (!thread.known) return false;
  const auto found = thread.known->find(epoch.block);
  return found != thread.known->end() && Covers(*found->second, epoch);
}

/// What the threads know is from now on known to each of them.
template <class Threads>
void Share(const Threads& threads) {
  KnowledgePtr fenced, seen, known;
  for (Thread* thread : threads) {
    fenced = Join(fenced, thread->fenced);
    seen = Join(seen, thread->seen);
    known = Join(known, thread->known);
  }
  for (Thread* thread : threads) thread->fenced = fenced, thread->seen = seen, thread->known = known;
}

}  // namespace

const void* SiteBase() { return reinterpret_cast<const void*>(&FindKernel); }

KnowledgePtr Join(const KnowledgePtr& a, const KnowledgePtr& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto joined = std::make_shared<Knowledge>(*a);
  for (const auto& [block, cover] : *b) {
    auto& slot = (*joined)[block];
    slot = slot ? JoinCovers(slot, cover) : cover;
  }
  return joined;
}

Shadow::Shadow() : device_{ReserveCells(), ReserveCells(), ReserveCells(), ReserveCells()} {}

void Shadow::BeginLaunch() {
  epochs_.clear();
  released_.clear();
  several_blocks_ = NewStamp({UINT32_MAX, 0, 0, 0, kSeveral, kSeveral, false});
}

void Shadow::EndLaunch() {
  base_ += static_cast<uint32_t>(epochs_.size());
  if (base_ < kStampsMax) return;
  // Stamps have run out: forget all and begin anew. Shared memory's cells are cleared with each machine's.
  for (uint32_t* cells : {device_.writers, device_.readers}) {
    madvise(cells, kSpaceBytes * sizeof(uint32_t), MADV_DONTNEED);
  }
  Machine::ForgetShared();
  base_ = 1;
}

Cells Shadow::CellsOf(uint64_t at) const {
  const size_t offset = at - AddressSpace::Instance().base();
  return {device_.writers + offset, device_.readers + offset, device_.writer_sites + offset,
          device_.reader_sites + offset};
}

uint32_t Shadow::NewStamp(const Epoch& epoch) {
  epochs_.push_back(epoch);
  return base_ + static_cast<uint32_t>(epochs_.size()) - 1;
}

uint32_t Shadow::StampOf(Thread& thread, bool atomic) {
  uint32_t& stamp = atomic ? thread.atomic_stamp : thread.stamp;
  if (stamp == 0) {
    stamp = NewStamp({static_cast<uint32_t>(thread.block->index), thread.block->phase, thread.warp->phase,
                      thread.fences, static_cast<int16_t>(thread.warp->index),
                      static_cast<int16_t>(thread.lane), atomic});
  }
  return stamp;
}

uint32_t Shadow::StampOfWarp(Thread& thread) {
  Warp& warp = *thread.warp;
  if (warp.stamp == 0) {
    warp.stamp = NewStamp({static_cast<uint32_t>(thread.block->index), thread.block->phase, warp.phase, 0,
                           static_cast<int16_t>(warp.index), kSeveral, false});
  }
  return warp.stamp;
}

uint32_t Shadow::StampOfBlock(Thread& thread) {
  Block& block = *thread.block;
  if (block.stamp == 0) {
    block.stamp =
        NewStamp({static_cast<uint32_t>(block.index), block.phase, 0, 0, kSeveral, kSeveral, false});
  }
  return block.stamp;
}

bool Shadow::IsOrdered(uint32_t stamp, const Thread& thread, bool shared, Reader reader) const {
  if (stamp < base_) return true;
  const Epoch& e = EpochOf(stamp);
  if (e.block != static_cast<uint32_t>(thread.block->index)) return shared || Knows(thread, e);
  if (e.block_phase < thread.block->phase) return true;
  if (e.warp != thread.warp->index) return false;
  if (e.warp_phase < thread.warp->phase) return true;
  return e.lane == thread.lane && reader == Reader::kLane;
}

uint32_t Shadow::AddReader(uint32_t readers, Thread& thread, bool shared, Reader reader) {
  const uint32_t own = reader == Reader::kWarp ? StampOfWarp(thread) : StampOf(thread, false);
  if (readers < base_ || readers == own) return own;
  const Epoch& e = EpochOf(readers);
  if (e.block != static_cast<uint32_t>(thread.block->index)) {
    return shared || Knows(thread, e) ? own : several_blocks_;
  }
  if (e.block_phase < thread.block->phase) return own;
  if (e.warp != thread.warp->index) return StampOfBlock(thread);
  if (e.warp_phase < thread.warp->phase) return own;
  return e.lane == thread.lane && reader == Reader::kLane ? own : StampOfWarp(thread);
}

void Shadow::Acquire(Thread& thread, uint64_t at) {
  KnowledgePtr& released = released_[at];
  thread.seen = Join(thread.seen, released);
  released = Join(released, thread.fenced);
  thread.block->uses_fences = true;
}

Conflict Shadow::Record(Thread& thread, Access access, Reader reader, const void* at, const Cells& cells,
                        size_t bytes, bool shared, const void* site) {
  const uint32_t packed = PackSite(site);
  Conflict conflict;
  const auto judge = [&](uint32_t stamp, uint32_t other_site, bool with_write, size_t byte) {
    if (stamp < base_ || IsOrdered(stamp, thread, shared, reader)) return;
    if (access == Access::kAtomic && with_write && EpochOf(stamp).atomic) return;
    if (!conflict.found) conflict = {true, with_write, byte, EpochOf(stamp), UnpackSite(other_site)};
  };
  for (size_t i = 0, n; i < bytes; i += n) {
    const uint32_t writer = cells.writers[i], readers = cells.readers[i];
    for (n = 1; i + n < bytes && cells.writers[i + n] == writer && cells.readers[i + n] == readers;) ++n;
    judge(writer, cells.writer_sites[i], true, i);
    if (access == Access::kRead) {
      std::fill_n(cells.readers + i, n, AddReader(readers, thread, shared, reader));
    } else {
      judge(readers, cells.reader_sites[i], false, i);
      std::fill_n(cells.writers + i, n, StampOf(thread, access == Access::kAtomic));
      std::fill_n(cells.readers + i, n, 0u);
    }
  }
  std::fill_n(access == Access::kRead ? cells.reader_sites : cells.writer_sites, bytes, packed);
  if (access == Access::kAtomic && !shared) Acquire(thread, reinterpret_cast<uint64_t>(at));
  return conflict;
}

void Shadow::Overwrite(Thread& thread, const Cells& cells, size_t bytes) {
  std::fill_n(cells.writers, bytes, StampOf(thread, false));
  std::fill_n(cells.readers, bytes, 0u);
}

void Shadow::SyncBlock(Block& block) {
  ++block.phase;
  block.stamp = 0;
  for (Warp& warp : block.warps) warp.stamp = 0;
  for (Thread& thread : block.threads) thread.stamp = thread.atomic_stamp = 0;
  if (!block.uses_fences) return;
  std::vector<Thread*> threads;
  for (Thread& thread : block.threads) threads.push_back(&thread);
  Share(threads);
}

void Shadow::SyncWarp(Warp& warp) {
  ++warp.phase;
  warp.stamp = 0;
  for (Thread* thread : warp.lanes) thread->stamp = thread->atomic_stamp = 0;
  if (warp.lanes[0]->block->uses_fences) Share(warp.lanes);
}

void Shadow::Fence(Thread& thread) {
  ++thread.fences;
  thread.stamp = thread.atomic_stamp = 0;
  thread.block->uses_fences = true;
  thread.known = Join(thread.known, thread.seen);
  thread.seen = nullptr;
  auto cover = std::make_shared<Cover>();
  cover->block_phase = thread.block->phase;
  cover->warp_phases.resize(thread.block->warps.size());
  cover->warp_phases[static_cast<size_t>(thread.warp->index)] = thread.warp->phase;
  cover->fences.resize(thread.block->threads.size());
  cover->fences[static_cast<size_t>(thread.place.thread)] = thread.fences;
  auto own = std::make_shared<Knowledge>();
  (*own)[static_cast<uint32_t>(thread.block->index)] = cover;
  thread.fenced = Join(Join(thread.fenced, thread.known), own);
}

}  // namespace tokenmill::cuda::emu
