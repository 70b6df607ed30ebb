#include "kernels/cuda/emu/machine.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>

#include "kernels/cuda/emu/source_line.h"

namespace tokenmill::cuda::emu {
namespace {

/// Device memory's shadow is everybody's, so launches take turns.
std::mutex launch_mutex;
std::atomic<int> times_forgotten = 0;

Shadow& TheShadow() {
  static Shadow* shadow = new Shadow();
  return *shadow;
}

std::map<std::string, Kernel>& Kernels() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

const char* NameOf(Collective collective) {
  switch (collective) {
    case Collective::kNone:
      return "nothing";
    case Collective::kSyncWarp:
      return "sync_warp";
    case Collective::kShuffleXor:
      return "shuffle_xor";
    case Collective::kShuffle:
      return "shuffle";
    case Collective::kBallot:
      return "ballot";
    case Collective::kMma:
      return "mma";
    case Collective::kLdmatrix:
      return "ldmatrix";
  }
  return "?";
}

/// Whether an address lies in a loaded program or library, as constant tables do.
bool InImages(const void* at) {
  struct Segment {
    uintptr_t begin = 0;
    size_t bytes = 0;
    uintptr_t wanted = 0;
    bool Holds() const { return wanted - begin < bytes; }
  };
  static thread_local Segment last;
  last.wanted = reinterpret_cast<uintptr_t>(at);
  if (last.Holds()) return true;
  const auto search = [](dl_phdr_info* info, size_t, void* data) {
    Segment& segment = *static_cast<Segment*>(data);
    for (int i = 0; i < info->dlpi_phnum && !segment.Holds(); ++i) {
      const auto& header = info->dlpi_phdr[i];
      if (header.p_type != PT_LOAD) continue;
      segment.begin = info->dlpi_addr + header.p_vaddr;
      segment.bytes = header.p_memsz;
    }
    return segment.Holds() ? 1 : 0;
  };
  return dl_iterate_phdr(search, &last) != 0;
}

}  // namespace

Registrar::Registrar(const char* name, void (*run)(const void*), size_t params_bytes, int threads_max) {
  if (!Kernels().try_emplace(name, Kernel{name, run, params_bytes, threads_max}).second) {
    std::fprintf(stderr, "tokenmill: two GPU kernels are named %s\n", name);
    std::abort();
  }
}

const Kernel* FindKernel(const char* name) {
  const auto found = Kernels().find(name);
  return found == Kernels().end() ? nullptr : &found->second;
}

Machine& Machine::OfThisThread() {
  static thread_local std::unique_ptr<Machine> machine;
  if (!machine) machine.reset(new Machine());
  return *machine;
}

Shadow& Machine::shadow() { return TheShadow(); }
void Machine::ForgetShared() { ++times_forgotten; }

Machine::Machine() {
  stacks_ = static_cast<uint8_t*>(ReserveMemory(kSlotsMax * kThreadsMax * kStackStride));
  shared_ = static_cast<uint8_t*>(ReserveMemory(kSlotsMax * kSharedStride));
  shared_states_ = static_cast<uint8_t*>(ReserveMemory(kSlotsMax * kSharedStride));
  for (uint32_t** cells : {&shared_cells_.writers, &shared_cells_.readers, &shared_cells_.writer_sites,
                           &shared_cells_.reader_sites}) {
    *cells = static_cast<uint32_t*>(ReserveMemory(kSlotsMax * kSharedStride * sizeof(uint32_t)));
  }
}

Machine::~Machine() {
  munmap(stacks_, kSlotsMax * kThreadsMax * kStackStride);
  munmap(shared_, kSlotsMax * kSharedStride);
  munmap(shared_states_, kSlotsMax * kSharedStride);
  for (uint32_t* cells : {shared_cells_.writers, shared_cells_.readers, shared_cells_.writer_sites,
                          shared_cells_.reader_sites}) {
    munmap(cells, kSlotsMax * kSharedStride * sizeof(uint32_t));
  }
}

Status Machine::Run(const Kernel& kernel, const LaunchShape& shape, const void* params,
                    const LaunchOptions& options) {
  std::lock_guard lock(launch_mutex);
  TheShadow().BeginLaunch();
  if (forgotten_ != times_forgotten) {
    forgotten_ = times_forgotten;
    std::memset(shared_cells_.writers, 0, kSlotsMax * kSharedStride * sizeof(uint32_t));
    std::memset(shared_cells_.readers, 0, kSlotsMax * kSharedStride * sizeof(uint32_t));
  }
  kernel_ = &kernel;
  shape_ = shape;
  options_ = options;
  params_.assign(static_cast<const uint8_t*>(params),
                 static_cast<const uint8_t*>(params) + kernel.params_bytes);
  random_.seed(static_cast<uint32_t>(options.seed * 2654435761u + 1));
  counts_ = {};
  fault_.clear();
  ready_.clear();

  const int blocks = static_cast<int>(shape.grid_x * shape.grid_y * shape.grid_z);
  std::vector<int> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  const int slots = std::min<int>({blocks, kSlotsMax, 1 + static_cast<int>(random_() % kSlotsMax)});
  slots_.resize(std::max<size_t>(slots_.size(), slots));

  int started = 0, finished = 0;
  for (; started < slots; ++started) StartBlock(started, order[started]);
  running_ = this;
  while (finished < blocks && fault_.empty()) {
    finished_slot_ = -1;
    current_ = TakeReady();
    SwitchContext(&main_, &current_->context);
    if (finished_slot_ < 0) continue;
    ++finished;
    if (started < blocks) StartBlock(finished_slot_, order[started++]);
  }
  running_ = nullptr;
  TheShadow().EndLaunch();
  return fault_.empty() ? Status() : Status(Code::kInternal, fault_);
}

void Machine::CheckHost(bool reads, const void* at, size_t bytes, const void* site) {
  if (reads && InImages(at)) return;
  Raise(
      Format("%s of %zu bytes at %p, neither device nor shared memory", reads ? "read" : "write", bytes, at),
      site);
}

void Machine::StartBlock(int slot, int index) {
  if (!slots_[slot]) slots_[slot] = std::make_unique<Block>();
  Block& block = *slots_[slot];
  const int threads = static_cast<int>(shape_.threads);
  block.slot = slot;
  block.index = index;
  block.shared = shared_ + slot * kSharedStride;
  block.shared_state = shared_states_ + slot * kSharedStride;
  std::memset(block.shared, kPoison, shape_.shared_bytes);
  std::memset(block.shared_state, kUndefined, shape_.shared_bytes);
  std::memset(block.shared_state + shape_.shared_bytes, kForeign, kSharedStride - shape_.shared_bytes);
  const size_t cell = slot * kSharedStride;
  block.shared_cells = {shared_cells_.writers + cell, shared_cells_.readers + cell,
                        shared_cells_.writer_sites + cell, shared_cells_.reader_sites + cell};
  block.arrived = block.exited = 0;
  block.phase = block.stamp = 0;
  block.uses_fences = false;
  block.threads.resize(threads);
  block.warps.assign(threads / kWarpLanes, Warp());
  Place place = {};
  place.threads = threads;
  const int x = static_cast<int>(shape_.grid_x), y = static_cast<int>(shape_.grid_y);
  place.block[0] = index % x, place.block[1] = index / x % y, place.block[2] = index / x / y;
  place.grid[0] = x, place.grid[1] = y, place.grid[2] = static_cast<int>(shape_.grid_z);
  for (int i = 0; i < threads; ++i) {
    Thread& thread = block.threads[i];
    place.thread = i;
    thread.place = place;
    thread.block = &block;
    thread.warp = &block.warps[i / kWarpLanes];
    thread.warp->index = i / kWarpLanes;
    thread.stamp = thread.atomic_stamp = thread.fences = 0;
    thread.fenced = thread.seen = thread.known = nullptr;
    thread.lane = i % kWarpLanes;
    thread.warp->lanes[thread.lane] = &thread;
    thread.copies.clear();
    thread.copy_groups.clear();
    // Without the offset the hot ends of all stacks would share a few sets of the cache.
    uint8_t* stack = stacks_ + (slot * kThreadsMax + i) * kStackStride + i * 320 % 4096;
    PrepareContext(&thread.context, stack, kStackBytes, &Machine::Entry);
    MakeReady(&thread);
  }
}

void Machine::Entry() {
  Machine& machine = *running_;
  machine.kernel_->run(machine.params_.data());
  machine.Exit();
}

void Machine::Exit() {
  Thread& thread = *current_;
  Block& block = *thread.block;
  if (thread.warp->arrived > 0) {
    Raise(Format("a thread exits while lanes of its warp wait at %s", NameOf(thread.warp->collective)),
          nullptr);
  }
  if (block.arrived > 0) Raise("a thread exits while others of its block wait at sync_block", nullptr);
  thread.waits = Waits::kExited;
  ++thread.warp->exited;
  if (thread.warp->exited == kWarpLanes) thread.warp->banks.Flush(&counts_.banks);
  if (++block.exited == static_cast<int>(block.threads.size())) {
    finished_slot_ = block.slot;
    SwitchContext(&thread.context, &main_);
  }
  Wait(Waits::kExited, nullptr);
  std::abort();
}

void Machine::Raise(const std::string& what, const void* site) {
  fault_ = Format("%s: %s by %s", kernel_->name.c_str(), what.c_str(), Describe(*current_).c_str());
  if (site != nullptr) fault_ += " at " + SourceLine(site);
  SwitchContext(&current_->context, &main_);
  std::abort();
}

std::string Machine::Describe(const Thread& thread) const {
  const Place& p = thread.place;
  return Format("block (%d, %d, %d) thread %d (warp %d lane %d)", p.block[0], p.block[1], p.block[2],
                p.thread, p.thread / kWarpLanes, thread.lane);
}

void Machine::RaiseDeadlock() {
  std::string waiting;
  for (const auto& block : slots_) {
    if (!block) continue;
    for (const Thread& thread : block->threads) {
      if (thread.waits == Waits::kNot || thread.waits == Waits::kExited || waiting.size() > 2000) continue;
      waiting += "\n  " + Describe(thread) + " waits for its " +
                 (thread.waits == Waits::kForWarp ? "warp" : "block") + " at " + SourceLine(thread.site);
    }
  }
  Raise("threads wait for each other for ever (found" + waiting + "\n)", nullptr);
}

Thread* Machine::TakeReady() {
  const size_t last = ready_.size() - 1;
  const uint32_t dice = static_cast<uint32_t>(random_());
  if ((dice & 0x300) == 0) std::swap(ready_[(dice >> 10) % ready_.size()], ready_[last]);
  Thread* thread = ready_[last];
  ready_.pop_back();
  return thread;
}

void Machine::MakeReady(Thread* thread) {
  thread->waits = Waits::kNot;
  ready_.push_back(thread);
}

void Machine::Wait(Waits waits, const void* site) {
  Thread* self = current_;
  self->waits = waits;
  self->site = site;
  if (ready_.empty()) RaiseDeadlock();
  current_ = TakeReady();
  SwitchContext(&self->context, &current_->context);
}

void Machine::Preempt() {
  accesses_to_preemption_ = 1 + static_cast<int>(random_() % 512);
  Thread* self = current_;
  if (ready_.empty()) return;
  std::swap(ready_[random_() % ready_.size()], ready_.back());
  current_ = ready_.back();
  ready_.back() = self;
  SwitchContext(&self->context, &current_->context);
}

void Machine::RaiseRace(Access access, const Conflict& conflict, const std::string& where, const void* site) {
  const Epoch& e = conflict.other;
  std::string other = "threads of several blocks";
  if (e.block != UINT32_MAX) {
    other = Format("block %u ", e.block);
    if (e.lane != kSeveral) {
      other += Format("thread %d", e.warp * kWarpLanes + e.lane);
    } else {
      other += e.warp == kSeveral ? "several warps" : Format("several lanes of warp %d", e.warp);
    }
  }
  const char* verb = access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
  Raise(Format("race: %s at %s, not ordered after a %s by %s at %s,", verb, where.c_str(),
               conflict.with_write ? e.atomic ? "atomic" : "write" : "read", other.c_str(),
               SourceLine(conflict.other_site).c_str()),
        site);
}

void Machine::CheckSameSite(const void* one, const void* other, const char* what) {
  // The compiler may have made several instructions of one line.
  if (one == other || SourceLine(one) == SourceLine(other)) return;
  Raise(Format("%s while others wait at another one (%s)", what, SourceLine(one).c_str()), other);
}

void Machine::SyncBlock(const void* site) {
  Block& block = *current_->block;
  if (block.exited > 0) Raise("sync_block after a thread of the block has exited", site);
  if (block.arrived == 0) block.site = site;
  CheckSameSite(block.site, site, "sync_block");
  if (++block.arrived < static_cast<int>(block.threads.size())) {
    Wait(Waits::kForBlock, site);
    return;
  }
  block.arrived = 0;
  shadow().SyncBlock(block);
  for (Warp& warp : block.warps) warp.banks.Flush(&counts_.banks);
  for (Thread& thread : block.threads) {
    if (&thread != current_) MakeReady(&thread);
  }
}

void Machine::SyncWarp(const void* site) {
  Rendezvous(Collective::kSyncWarp, 0, site, [this](Warp& warp) { shadow().SyncWarp(warp); });
}

bool Machine::JoinWarp(Collective collective, int kind, const void* site) {
  Warp& warp = *current_->warp;
  if (warp.exited > 0) Raise(Format("%s after a lane of the warp has exited", NameOf(collective)), site);
  if (warp.arrived == 0) {
    warp.collective = collective;
    warp.kind = kind;
    warp.site = site;
  } else if (warp.collective != collective || warp.kind != kind) {
    Raise(Format("%s while other lanes of the warp are at another collective (%s at %s)", NameOf(collective),
                 NameOf(warp.collective), SourceLine(warp.site).c_str()),
          site);
  }
  CheckSameSite(warp.site, site, NameOf(collective));
  return ++warp.arrived == kWarpLanes;
}

void Machine::ReleaseWarp() {
  Warp& warp = *current_->warp;
  warp.arrived = 0;
  warp.banks.Flush(&counts_.banks);
  for (Thread* lane : warp.lanes) {
    if (lane != current_) MakeReady(lane);
  }
}

}  // namespace tokenmill::cuda::emu
