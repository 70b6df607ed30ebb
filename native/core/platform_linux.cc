#include <malloc.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "core/cpu_features.h"
#include "core/memory.h"

namespace tokenmill {
namespace {

std::optional<std::string> ReadLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<uint64_t> ReadNumber(const std::string& path) {
  const std::optional<std::string> line = ReadLine(path);
  if (!line || line->empty() || (*line)[0] < '0' || (*line)[0] > '9') return std::nullopt;
  return std::strtoull(line->c_str(), nullptr, 10);
}

// The folder of this process's cgroup for a v1 controller, or of its v2 group for "".
std::string CgroupFolder(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers.find("," + controller + ",") == std::string::npos) continue;
    return "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller) + line.substr(second + 1);
  }
  return "";
}

// A value of the innermost group that this process can see: its own folder, else (in a container with its own
// view of the tree) the root.
template <class T>
std::optional<T> InCgroup(const std::string& controller, const std::string& name,
                          std::optional<T> (*read)(const std::string&)) {
  if (auto value = read(CgroupFolder(controller) + "/" + name)) return value;
  return read("/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller) + "/" + name);
}

int CoresByQuota() {
  if (const auto line = InCgroup<std::string>("", "cpu.max", ReadLine)) {
    double quota = 0, period = 0;
    if (std::sscanf(line->c_str(), "%lf %lf", &quota, &period) == 2 && period > 0) {
      return std::max(1, static_cast<int>(quota / period));
    }
  }
  const auto quota = InCgroup<uint64_t>("cpu", "cpu.cfs_quota_us", ReadNumber);
  const auto period = InCgroup<uint64_t>("cpu", "cpu.cfs_period_us", ReadNumber);
  if (quota && period && *period > 0) return std::max(1, static_cast<int>(*quota / *period));
  return 1 << 20;
}

int CoresByAffinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  std::set<std::string> cores;  // hardware threads of one core name the same siblings
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    cores.insert(ReadLine(folder + "thread_siblings_list").value_or(std::to_string(cpu)));
  }
  return static_cast<int>(cores.size());
}

uint64_t SystemAvailable() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    unsigned long long kilobytes = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kilobytes) == 1) return kilobytes * 1024;
  }
  return static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// A value of a cgroup's memory.stat.
std::optional<uint64_t> MemoryStat(const std::string& controller, const char* name) {
  const auto read = [name](const std::string& path) -> std::optional<uint64_t> {
    std::ifstream file(path);
    std::string key;
    for (uint64_t value = 0; file >> key >> value;) {
      if (key == name) return value;
    }
    return std::nullopt;
  };
  if (auto value = read(CgroupFolder(controller) + "/memory.stat")) return value;
  return read("/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller) + "/memory.stat");
}

// Pages of files that nobody has used lately count as used, but the system takes them back when it needs them.
uint64_t CgroupAvailable() {
  uint64_t available = UINT64_MAX;
  const auto consider = [&available](std::optional<uint64_t> limit, std::optional<uint64_t> used,
                                     std::optional<uint64_t> reclaimable) {
    if (!limit || !used) return;
    const uint64_t held = *used - std::min(*used, reclaimable.value_or(0));
    available = std::min(available, *limit > held ? *limit - held : 0);
  };
  consider(InCgroup<uint64_t>("", "memory.max", ReadNumber),
           InCgroup<uint64_t>("", "memory.current", ReadNumber), MemoryStat("", "inactive_file"));
  consider(InCgroup<uint64_t>("memory", "memory.limit_in_bytes", ReadNumber),
           InCgroup<uint64_t>("memory", "memory.usage_in_bytes", ReadNumber),
           MemoryStat("memory", "total_inactive_file"));
  return available;
}

}  // namespace

void DetectArmFeatures([[maybe_unused]] CpuFeatures* features) {
#if defined(__aarch64__)
  // The kernel's bits; older C libraries do not name them.
  constexpr unsigned long kAsimdDp = 1ul << 20, kI8mm = 1ul << 13;
  features->arm_dotprod = (getauxval(AT_HWCAP) & kAsimdDp) != 0;
  features->arm_i8mm = features->arm_dotprod && (getauxval(AT_HWCAP2) & kI8mm) != 0;
#endif
}

int UsableCores() { return std::max(1, std::min(CoresByAffinity(), CoresByQuota())); }

uint64_t AvailableMemoryBytes() { return std::min(SystemAvailable(), CgroupAvailable()); }

void ReleaseFreeMemory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

SystemBuffer::SystemBuffer(size_t bytes) {
  if (bytes == 0) return;
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  constexpr size_t kHugePage = size_t{2} << 20;
  if (bytes >= 2 * kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
}

SystemBuffer::~SystemBuffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace tokenmill
