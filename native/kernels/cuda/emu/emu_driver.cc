#include "kernels/cuda/emu/emu_driver.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/emu/address_space.h"
#include "kernels/cuda/emu/machine.h"
#include "kernels/cuda/emu/source_line.h"

namespace tokenmill::cuda {
namespace {

using emu::AddressSpace;

using Work = std::function<Status()>;

class EmuGraph : public Graph {
 public:
  explicit EmuGraph(std::vector<Work> work) : work_(std::move(work)) {}
  const std::vector<Work>& work() const { return work_; }

 private:
  std::vector<Work> work_;
};

class EmuDriver : public Driver {
 public:
  explicit EmuDriver(const EmuOptions& options) : options_(options), launch_seed_(0) {
    SetSeed(options.seed);
    info_.name = Format("emulated %d", options.device);
    info_.index = options.device;
    info_.major = options.major, info_.minor = options.minor;
    info_.multiprocessors = options.multiprocessors;
    info_.memory_bytes = options.memory_bytes;
    info_.shared_bytes_max = options.shared_bytes_max;
  }

  ~EmuDriver() override {
    for (DevicePtr at : allocations_) AddressSpace::Instance().Free(at);
  }

  const DeviceInfo& info() const override { return info_; }

  Status MemoryInfo(size_t* free_bytes, size_t* total_bytes) override {
    std::lock_guard lock(mutex_);
    *free_bytes = options_.memory_bytes - used_bytes_;
    *total_bytes = options_.memory_bytes;
    return Status();
  }

  Result<DevicePtr> Allocate(size_t bytes) override {
    std::lock_guard lock(mutex_);
    const size_t room = Room(bytes);
    const size_t free_bytes = options_.memory_bytes - used_bytes_;
    const DevicePtr at = room <= free_bytes ? AddressSpace::Instance().Allocate(options_.device, bytes) : 0;
    if (at == 0) {
      return Error(Code::kOutOfMemory, "%s has %zu of %zu bytes free, %zu were asked for", info_.name.c_str(),
                   free_bytes, options_.memory_bytes, bytes);
    }
    used_bytes_ += room;
    allocations_.insert(at);
    return at;
  }

  void Free(DevicePtr at) override {
    if (at == 0) return;
    (void)Synchronize(Stream::kStep);
    (void)Synchronize(Stream::kCopy);
    std::lock_guard lock(mutex_);
    if (allocations_.erase(at) == 0) {
      failure_ = Error(Code::kInternal, "Free of 0x%zx, which is no allocation", static_cast<size_t>(at));
      return;
    }
    used_bytes_ -= Room(AddressSpace::Instance().Free(at));
  }

  // Of the process rather than of a device, and its bytes count as defined: the host writes them unseen.
  Result<void*> AllocatePinned(size_t bytes) override {
    const uint64_t at = AddressSpace::Instance().Allocate(emu::kPinnedSpan, bytes);
    if (at == 0) return Error(Code::kOutOfMemory, "%zu bytes of pinned memory cannot be had", bytes);
    return reinterpret_cast<void*>(at);
  }

  void FreePinned(void* at) override { AddressSpace::Instance().Free(reinterpret_cast<uint64_t>(at)); }

  Status Upload(Stream stream, DevicePtr to, const void* from, size_t bytes) override {
    return Enqueue(stream, [=, this] {
      TM_RETURN_IF_ERROR(CheckOwned(to, bytes, "Upload"));
      std::memcpy(As<void>(to), from, bytes);
      std::memset(AddressSpace::Instance().StateOf(to), emu::kDefined, bytes);
      return Status();
    });
  }

  Status Download(Stream stream, void* to, DevicePtr from, size_t bytes) override {
    return Enqueue(stream, [=, this] {
      TM_RETURN_IF_ERROR(CheckOwned(from, bytes, "Download"));
      std::memcpy(to, As<void>(from), bytes);
      return Status();
    });
  }

  Status Copy(Stream stream, DevicePtr to, DevicePtr from, size_t bytes) override {
    return Enqueue(stream, [=, this] {
      TM_RETURN_IF_ERROR(CheckOwned(to, bytes, "Copy"));
      TM_RETURN_IF_ERROR(CheckOwned(from, bytes, "Copy"));
      std::memmove(As<void>(to), As<void>(from), bytes);
      AddressSpace& space = AddressSpace::Instance();
      std::memmove(space.StateOf(to), space.StateOf(from), bytes);
      return Status();
    });
  }

  Status Fill(Stream stream, DevicePtr to, uint8_t value, size_t bytes) override {
    return Enqueue(stream, [=, this] {
      TM_RETURN_IF_ERROR(CheckOwned(to, bytes, "Fill"));
      std::memset(As<void>(to), value, bytes);
      std::memset(AddressSpace::Instance().StateOf(to), emu::kDefined, bytes);
      return Status();
    });
  }

  Status Launch(Stream stream, const char* name, const LaunchShape& shape, const void* params,
                size_t params_bytes) override {
    const emu::Kernel* kernel = emu::FindKernel(name);
    if (kernel == nullptr) return Error(Code::kInternal, "no GPU kernel is named %s", name);
    TM_RETURN_IF_ERROR(CheckShape(*kernel, shape, params_bytes));
    std::vector<uint8_t> copy(static_cast<const uint8_t*>(params),
                              static_cast<const uint8_t*>(params) + params_bytes);
    return Enqueue(stream, [this, kernel, shape, copy = std::move(copy)] {
      emu::Machine& machine = emu::Machine::OfThisThread();
      TM_RETURN_IF_ERROR(machine.Run(*kernel, shape, copy.data(), {launch_seed_++, options_.device}));
      AddCounts(kernel->name, machine.counts());
      return Status();
    });
  }

  Status Synchronize(Stream stream) override {
    std::lock_guard lock(mutex_);
    if (capturing_ && stream == Stream::kStep) {
      return Status(Code::kInternal, "Synchronize of a stream that is being captured");
    }
    Drain(stream);
    return failure_;
  }

  Status BeginCapture() override {
    std::lock_guard lock(mutex_);
    if (capturing_) return Status(Code::kInternal, "BeginCapture within a capture");
    capturing_ = true;
    captured_.clear();
    return Status();
  }

  Result<std::unique_ptr<Graph>> EndCapture() override {
    std::lock_guard lock(mutex_);
    if (!capturing_) return Status(Code::kInternal, "EndCapture without BeginCapture");
    capturing_ = false;
    return std::unique_ptr<Graph>(new EmuGraph(std::exchange(captured_, {})));
  }

  Status Replay(const Graph& graph) override {
    for (const Work& work : static_cast<const EmuGraph&>(graph).work()) {
      TM_RETURN_IF_ERROR(Enqueue(Stream::kStep, work));
    }
    return Status();
  }

  void SetSeed(uint64_t seed) {
    launch_seed_ = seed * 1000003;
    random_.seed(static_cast<uint32_t>(seed));
  }

  EmuStats StatsOf(const std::string& kernel) {
    std::lock_guard lock(mutex_);
    const Counts& counts = counts_[kernel];
    EmuStats stats;
    stats.launches = counts.launches;
    stats.mma = counts.mma;
    std::vector<std::pair<uint64_t, uint32_t>> sites;
    for (const auto& [site, count] : counts.banks) {
      stats.shared_groups += count.groups;
      stats.bank_conflicts += count.wavefronts - count.groups;
      if (count.wavefronts > count.groups) sites.push_back({count.wavefronts - count.groups, site});
    }
    std::sort(sites.rbegin(), sites.rend());
    for (size_t i = 0; i < sites.size() && i < 5; ++i) {
      const emu::BankCount& count = counts.banks.at(sites[i].second);
      stats.worst += Format("%zu conflicts in %zu wavefronts at %s\n", static_cast<size_t>(sites[i].first),
                            static_cast<size_t>(count.wavefronts),
                            emu::SourceLine(emu::UnpackSite(sites[i].second)).c_str());
    }
    return stats;
  }

  void ResetStats() {
    std::lock_guard lock(mutex_);
    counts_.clear();
  }

 private:
  static size_t Room(size_t bytes) {
    return (bytes + emu::kAllocationAlignment - 1) / emu::kAllocationAlignment * emu::kAllocationAlignment;
  }

  struct Counts {
    uint64_t launches = 0, mma = 0;
    emu::BankCounts banks;
  };

  void AddCounts(const std::string& kernel, const emu::LaunchCounts& launch) {
    Counts& counts = counts_[kernel];
    ++counts.launches;
    counts.mma += launch.mma;
    for (const auto& [site, count] : launch.banks) {
      counts.banks[site].groups += count.groups;
      counts.banks[site].wavefronts += count.wavefronts;
    }
  }

  Status CheckOwned(DevicePtr at, size_t bytes, const char* what) const {
    if (bytes == 0 || AddressSpace::Instance().Owns(options_.device, at, bytes)) return Status();
    return Error(Code::kInternal, "%s of %zu bytes at 0x%zx, outside of any allocation of %s", what, bytes,
                 static_cast<size_t>(at), info_.name.c_str());
  }

  Status CheckShape(const emu::Kernel& kernel, const LaunchShape& shape, size_t params_bytes) const {
    const char* name = kernel.name.c_str();
    if (params_bytes != kernel.params_bytes) {
      return Error(Code::kInternal, "%s: parameters of %zu bytes, the kernel has %zu", name, params_bytes,
                   kernel.params_bytes);
    }
    if (shape.threads == 0 || shape.threads > static_cast<unsigned>(kernel.threads_max) ||
        shape.threads % 32 != 0) {
      return Error(Code::kInternal, "%s: blocks of %u threads; whole warps up to %d are possible", name,
                   shape.threads, kernel.threads_max);
    }
    if (shape.shared_bytes > info_.shared_bytes_max) {
      return Error(Code::kInternal, "%s: %zu bytes of shared memory, %s has %zu", name, shape.shared_bytes,
                   info_.name.c_str(), info_.shared_bytes_max);
    }
    if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_z == 0 || shape.grid_x > 0x7fffffffu ||
        shape.grid_y > 65535 || shape.grid_z > 65535) {
      return Error(Code::kInternal, "%s: no grid can be %u x %u x %u", name, shape.grid_x, shape.grid_y,
                   shape.grid_z);
    }
    return Status();
  }

  Status Enqueue(Stream stream, Work work) {
    std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    if (capturing_ && stream == Stream::kStep) {
      captured_.push_back(std::move(work));
      return Status();
    }
    queues_[static_cast<int>(stream)].push_back(std::move(work));
    // A device is sometimes fast and sometimes slow; that of one stream says nothing about the other.
    if (random_() % 4 == 0) Drain(random_() % 2 == 0 ? Stream::kStep : Stream::kCopy, random_() % 4);
    return Status();
  }

  void Drain(Stream stream, size_t items = SIZE_MAX) {
    std::deque<Work>& queue = queues_[static_cast<int>(stream)];
    for (; items > 0 && !queue.empty() && failure_.ok(); --items) {
      failure_ = queue.front()();
      queue.pop_front();
    }
    if (!failure_.ok()) queue.clear();
  }

  EmuOptions options_;
  DeviceInfo info_;
  std::recursive_mutex mutex_;
  size_t used_bytes_ = 0;
  std::set<DevicePtr> allocations_;
  std::deque<Work> queues_[2];
  bool capturing_ = false;
  std::vector<Work> captured_;
  Status failure_;  // the first one; what follows fails with it, as with a device that is lost
  uint64_t launch_seed_;
  std::minstd_rand random_;
  std::map<std::string, Counts> counts_;
};

}  // namespace

std::unique_ptr<Driver> CreateEmuDriver(const EmuOptions& options) {
  return std::make_unique<EmuDriver>(options);
}

EmuStats EmuStatsOf(Driver& driver, const std::string& kernel) {
  return static_cast<EmuDriver&>(driver).StatsOf(kernel);
}

void ResetEmuStats(Driver& driver) { static_cast<EmuDriver&>(driver).ResetStats(); }

void SetEmuSeed(Driver& driver, uint64_t seed) { static_cast<EmuDriver&>(driver).SetSeed(seed); }

}  // namespace tokenmill::cuda
