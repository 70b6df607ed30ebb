// A library with the functions of NVIDIA's driver that tokenmill calls. It records calls, fails those it is
// told to, and keeps count of what is alive. Device memory is the host's. Kernels are known by name: those
// that begin with "test_" exist, and a launch adds 1 to the int that the parameters' first pointer points to.

#include "fake_libcuda.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidContext = 201, kNoBinary = 209,
              kInvalidHandle = 400, kNotFound = 500, kCaptureInvalidated = 901;

struct State {
  std::map<std::string, std::pair<int, int>> failures;  // calls until then, result
  std::string calls;
  std::set<const void*> alive;
  int pushed = 0;
  int misuses = 0;
  int version = 12040;
  int devices = 2;
  int major = 9, minor = 0;
  unsigned long long memory = 1ull << 20;
  int dynamic_shared_bytes = 0;
  bool capturing = false;
  std::vector<int*> captured;
  std::vector<std::string> names;  // of functions, by handle - 1
};

State& state() {
  static State instance;
  return instance;
}

// Notes a call and says whether it is to fail.
int Enter(const char* function, bool needs_context, const std::string& detail = "") {
  State& s = state();
  s.calls += (s.calls.empty() ? "" : " ") + std::string(function) + detail;
  if (needs_context && s.pushed == 0) {
    ++s.misuses;
    return kInvalidContext;
  }
  const auto failure = s.failures.find(function);
  if (failure == s.failures.end()) return kSuccess;
  if (failure->second.first-- > 0) return kSuccess;
  const int result = failure->second.second;
  s.failures.erase(failure);
  return result;
}

template <class Handle>
int Make(Handle* handle) {
  void* made = std::malloc(1);
  state().alive.insert(made);
  *handle = static_cast<Handle>(made);
  return kSuccess;
}

int Drop(const void* handle) {
  if (state().alive.erase(handle) == 0) {
    ++state().misuses;
    return kInvalidHandle;
  }
  std::free(const_cast<void*>(handle));
  return kSuccess;
}

int CheckAlive(const void* handle) {
  if (state().alive.count(handle) != 0) return kSuccess;
  ++state().misuses;
  return kInvalidHandle;
}

}  // namespace

#define ENTER(function, needs_context)                                                 \
  do {                                                                                 \
    if (const int result = Enter(function, needs_context); result != 0) return result; \
  } while (false)

FAKE_EXPORT int cuDriverGetVersion(int* version) {
  ENTER("cuDriverGetVersion", false);
  *version = state().version;
  return kSuccess;
}
FAKE_EXPORT int cuInit(unsigned) {
  ENTER("cuInit", false);
  return kSuccess;
}
FAKE_EXPORT int cuGetErrorName(int error, const char** name) {
  *name = error == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == kNoBinary  ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
                                : "CUDA_ERROR_TEST";
  return error == 12345 ? kInvalidValue : kSuccess;
}
FAKE_EXPORT int cuGetErrorString(int, const char** text) {
  *text = "said by the test";
  return kSuccess;
}
FAKE_EXPORT int cuDeviceGetCount(int* count) {
  ENTER("cuDeviceGetCount", false);
  *count = state().devices;
  return kSuccess;
}
FAKE_EXPORT int cuDeviceGet(int* device, int ordinal) {
  ENTER("cuDeviceGet", false);
  *device = 100 + ordinal;
  return kSuccess;
}
FAKE_EXPORT int cuDeviceGetName(char* name, int length, int) {
  ENTER("cuDeviceGetName", false);
  std::strncpy(name, "Fake GPU", static_cast<size_t>(length));
  return kSuccess;
}
FAKE_EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
  ENTER("cuDeviceGetAttribute", false);
  *value = attribute == 75 ? state().major : attribute == 76 ? state().minor : attribute == 97 ? 101376 : 7;
  return kSuccess;
}
FAKE_EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) {
  ENTER("cuDeviceTotalMem", false);
  *bytes = 1u << 30;
  return kSuccess;
}
FAKE_EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  ENTER("cuDevicePrimaryCtxRetain", false);
  if (device < 100) ++state().misuses;
  *context = reinterpret_cast<void*>(static_cast<size_t>(device));
  state().alive.insert(*context);
  return kSuccess;
}
FAKE_EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  ENTER("cuDevicePrimaryCtxRelease", false);
  if (state().alive.erase(reinterpret_cast<void*>(static_cast<size_t>(device))) == 0) ++state().misuses;
  return kSuccess;
}
FAKE_EXPORT int cuCtxPushCurrent_v2(void* context) {
  const auto failure = state().failures.find("cuCtxPushCurrent");
  if (failure != state().failures.end() && failure->second.first-- <= 0) {
    const int result = failure->second.second;
    state().failures.erase(failure);
    return result;
  }
  if (const int result = CheckAlive(context); result != 0) return result;
  ++state().pushed;
  return kSuccess;
}
FAKE_EXPORT int cuCtxPopCurrent_v2(void** context) {
  *context = nullptr;
  if (state().pushed-- <= 0) ++state().misuses;
  return kSuccess;
}
FAKE_EXPORT int cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  ENTER("cuMemGetInfo", true);
  *free_bytes = static_cast<size_t>(state().memory);
  *total_bytes = 1u << 30;
  return kSuccess;
}
FAKE_EXPORT int cuMemAlloc_v2(unsigned long long* at, size_t bytes) {
  ENTER("cuMemAlloc", true);
  if (bytes == 0) return kInvalidValue;
  if (bytes > state().memory) return kOutOfMemory;
  void* made = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  state().alive.insert(made);
  *at = reinterpret_cast<unsigned long long>(made);
  return kSuccess;
}
FAKE_EXPORT int cuMemFree_v2(unsigned long long at) {
  ENTER("cuMemFree", true);
  return Drop(reinterpret_cast<void*>(at));
}
FAKE_EXPORT int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  ENTER("cuMemHostAlloc", true);
  if (bytes == 0) return kInvalidValue;
  *at = std::malloc(bytes);
  state().alive.insert(*at);
  return kSuccess;
}
FAKE_EXPORT int cuMemFreeHost(void* at) {
  ENTER("cuMemFreeHost", true);
  return Drop(at);
}
FAKE_EXPORT int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void* stream) {
  ENTER("cuMemcpyHtoDAsync", true);
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return CheckAlive(stream);
}
FAKE_EXPORT int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void* stream) {
  ENTER("cuMemcpyDtoHAsync", true);
  std::memcpy(to, reinterpret_cast<void*>(from), bytes);
  return CheckAlive(stream);
}
FAKE_EXPORT int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes,
                                     void* stream) {
  ENTER("cuMemcpyDtoDAsync", true);
  std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
  return CheckAlive(stream);
}
FAKE_EXPORT int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void* stream) {
  ENTER("cuMemsetD8Async", true);
  std::memset(reinterpret_cast<void*>(to), value, bytes);
  return CheckAlive(stream);
}
FAKE_EXPORT int cuStreamCreate(void** stream, unsigned flags) {
  ENTER("cuStreamCreate", true);
  if (flags != 1) return kInvalidValue;
  return Make(stream);
}
FAKE_EXPORT int cuStreamDestroy_v2(void* stream) {
  ENTER("cuStreamDestroy", true);
  return Drop(stream);
}
FAKE_EXPORT int cuStreamSynchronize(void* stream) {
  ENTER("cuStreamSynchronize", true);
  return CheckAlive(stream);
}
// Images are text: "none" runs nowhere.
FAKE_EXPORT int cuModuleLoadData(void** module, const void* image) {
  const char* text = static_cast<const char*>(image);
  if (const int result = Enter("cuModuleLoadData", true, std::string(":") + text); result != 0) return result;
  if (std::strcmp(text, "none") == 0) return kNoBinary;
  return Make(module);
}
FAKE_EXPORT int cuModuleUnload(void* module) {
  ENTER("cuModuleUnload", true);
  return Drop(module);
}
FAKE_EXPORT int cuModuleGetFunction(void** function, void* module, const char* name) {
  ENTER("cuModuleGetFunction", true);
  if (const int result = CheckAlive(module); result != 0) return result;
  if (std::strncmp(name, "test_", 5) != 0) return kNotFound;
  state().names.push_back(name);
  *function = reinterpret_cast<void*>(state().names.size());
  return kSuccess;
}
FAKE_EXPORT int cuFuncSetAttribute(void*, int attribute, int value) {
  ENTER("cuFuncSetAttribute", true);
  if (attribute != 8) return kInvalidValue;
  state().dynamic_shared_bytes = value;
  return kSuccess;
}
FAKE_EXPORT int cuLaunchKernel(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               unsigned, void* stream, void** params, void** extra) {
  const size_t index = reinterpret_cast<size_t>(function) - 1;
  if (index >= state().names.size()) return kInvalidHandle;
  if (const int result = Enter("cuLaunchKernel", true, ":" + state().names[index]); result != 0)
    return result;
  if (extra != nullptr || params == nullptr) return kInvalidValue;
  int* counter = nullptr;
  std::memcpy(&counter, params[0], sizeof(counter));
  if (state().capturing) {
    state().captured.push_back(counter);
  } else {
    ++*counter;
  }
  return CheckAlive(stream);
}
FAKE_EXPORT int cuStreamBeginCapture_v2(void* stream, int mode) {
  ENTER("cuStreamBeginCapture", true);
  if (state().capturing || mode != 1) ++state().misuses;
  state().capturing = true;
  state().captured.clear();
  return CheckAlive(stream);
}
FAKE_EXPORT int cuStreamEndCapture(void* stream, void** graph) {
  const bool capturing = state().capturing;
  state().capturing = false;
  ENTER("cuStreamEndCapture", true);
  if (!capturing) {
    ++state().misuses;
    return kCaptureInvalidated;
  }
  return CheckAlive(stream) != 0 ? kInvalidHandle : Make(graph);
}
FAKE_EXPORT int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
  ENTER("cuGraphInstantiate", true);
  return CheckAlive(graph) != 0 ? kInvalidHandle : Make(exec);
}
FAKE_EXPORT int cuGraphLaunch(void* exec, void* stream) {
  ENTER("cuGraphLaunch", true);
  for (int* counter : state().captured) ++*counter;
  return CheckAlive(exec) != 0 ? kInvalidHandle : CheckAlive(stream);
}
FAKE_EXPORT int cuGraphDestroy(void* graph) {
  ENTER("cuGraphDestroy", true);
  return Drop(graph);
}
#ifndef FAKE_LACKS_GRAPHS
FAKE_EXPORT int cuGraphExecDestroy(void* exec) {
  ENTER("cuGraphExecDestroy", true);
  return Drop(exec);
}
#endif

FAKE_EXPORT const FakeCuda* tokenmill_fake_cuda() {
  static const FakeCuda steering = {
      .reset = [] { state() = State(); },
      .fail = [](const char* function, int nth, int result) { state().failures[function] = {nth, result}; },
      .calls = [] { return state().calls.c_str(); },
      .alive = [] { return static_cast<int>(state().alive.size()); },
      .pushed = [] { return state().pushed; },
      .misuses = [] { return state().misuses; },
      .set_version = [](int version) { state().version = version; },
      .set_devices = [](int count) { state().devices = count; },
      .set_capability = [](int major, int minor) { state().major = major, state().minor = minor; },
      .set_memory = [](unsigned long long bytes) { state().memory = bytes; },
      .dynamic_shared_bytes = [] { return state().dynamic_shared_bytes; },
  };
  return &steering;
}
