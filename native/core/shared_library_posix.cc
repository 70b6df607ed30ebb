#include <dlfcn.h>

#include "core/shared_library.h"

namespace tokenmill {

Result<SharedLibrary> SharedLibrary::Open(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle != nullptr) return SharedLibrary(handle);
  const char* reason = dlerror();
  return Error(Code::kDeviceUnavailable, "'%s' could not be loaded: %s", path.c_str(),
               reason != nullptr ? reason : "unknown reason");
}

void* SharedLibrary::Find(const char* symbol) const { return dlsym(handle_, symbol); }

}  // namespace tokenmill
