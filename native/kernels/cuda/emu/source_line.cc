#include "kernels/cuda/emu/source_line.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>

#include "core/status.h"

namespace tokenmill::cuda::emu {
namespace {

std::string Ask(const std::string& command) {
  std::string answer;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return answer;
  char buffer[512];
  while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) answer += buffer;
  pclose(pipe);
  return answer;
}

/// Lines of addr2line -i to "inner.cu:3 < outer.cu:9", without the emulator's own header.
std::string Shorten(const std::string& lines) {
  std::string result, last;
  size_t begin = 0;
  while (begin < lines.size()) {
    size_t end = lines.find('\n', begin);
    if (end == std::string::npos) end = lines.size();
    std::string line = lines.substr(begin, end - begin);
    begin = end + 1;
    if (line.find("gpu_emu.h") != std::string::npos || line.find("??") != std::string::npos) continue;
    line = line.substr(0, line.find(" ("));  // a discriminator
    const size_t slash = line.rfind('/');
    if (slash != std::string::npos) line = line.substr(slash + 1);
    if (line == last) continue;
    last = line;
    result += (result.empty() ? "" : " < ") + line;
  }
  return result;
}

}  // namespace

std::string SourceLine(const void* site) {
  static std::mutex mutex;
  static std::map<const void*, std::string> known;
  std::lock_guard lock(mutex);
  std::string& line = known[site];
  if (!line.empty()) return line;
  Dl_info info;
  link_map* map = nullptr;
  if (dladdr1(site, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) != 0 &&
      info.dli_fname != nullptr) {
    const std::string file = map != nullptr && map->l_name[0] != 0 ? map->l_name : "/proc/self/exe";
    const uintptr_t offset = reinterpret_cast<uintptr_t>(site) - 1 - (map != nullptr ? map->l_addr : 0);
    const std::string path = file == "/proc/self/exe" ? "/proc/$PPID/exe" : "'" + file + "'";
    line = Shorten(
        Ask(Format("addr2line -i -e %s 0x%zx 2>/dev/null", path.c_str(), static_cast<size_t>(offset))));
  }
  if (line.empty()) line = Format("%p", site);
  return line;
}

}  // namespace tokenmill::cuda::emu
