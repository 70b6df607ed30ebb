// driver_cuda.cc over a library that stands in for NVIDIA's driver: what is missing is named, every failure
// is typed, nothing leaks, and calls come in the order that the driver wants. The library is fake_libcuda.cc,
// which the test compiles, whole and without one function.
// sources: kernels/cuda/driver_cuda.cc kernels/cuda/cuda_api.cc
// backends: emu

#include "kernels/cuda/driver_cuda.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "fake_libcuda.h"
#include "harness.h"

#if __has_include("/usr/local/cuda/include/cuda.h")
#define TOKENMILL_HAS_CUDA_H
#include "/usr/local/cuda/include/cuda.h"
#endif
#include "kernels/cuda/cuda_api.h"

using namespace tokenmill;
using namespace tokenmill::cuda;

namespace {

constexpr int kOutOfMemory = 2, kSomeError = 700, kUnknownError = 12345;

// The path of the library, compiled at first need. Run where the source is found: at the root of the
// repository.
std::string Built(const char* name, const char* options) {
  const char* folder = std::getenv("TMPDIR");
  const char* compiler = std::getenv("CXX");
  const std::string path =
      Format("%s/tokenmill-%d-%s.so", folder != nullptr ? folder : "/tmp", getpid(), name);
  const std::string command =
      Format("%s -std=c++20 -O1 -fPIC -shared %s test/native/gpu/fake_libcuda.cc -o %s",
             compiler != nullptr ? compiler : "c++", options, path.c_str());
  EXPECT_EQ(std::system(command.c_str()), 0);
  return path;
}

const char* Library() {
  static const std::string path = Built("fake-libcuda", "");
  return path.c_str();
}

const FakeCuda& Fake() {
  static const FakeCuda* fake = [] {
    void* handle = dlopen(Library(), RTLD_NOW | RTLD_LOCAL);
    using Get = const FakeCuda* (*)();
    return handle == nullptr ? nullptr : reinterpret_cast<Get>(dlsym(handle, "tokenmill_fake_cuda"))();
  }();
  return *fake;
}

const Image kImages[] = {{"rows", 80, false, "rows80", 7},
                         {"rows", 90, false, "rows90", 7},
                         {"rows", 80, true, "rowsptx80", 10},
                         {"matmul", 80, false, "matmul80", 9},
                         {"matmul", 90, false, "matmul90", 9}};

Result<std::shared_ptr<Driver>> Open(int device = 0, std::span<const Image> images = kImages) {
  return OpenCudaDriver(device, images, Library());
}

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// How often a function was called.
int Count(const char* function) {
  int count = 0;
  std::string calls = std::string(" ") + Fake().calls() + " ";
  for (size_t at = calls.find(std::string(" ") + function); at != std::string::npos;
       at = calls.find(std::string(" ") + function, at + 1)) {
    const char next = calls[at + 1 + std::strlen(function)];
    count += next == ' ' || next == ':';
  }
  return count;
}

void ExpectNothingIsLeft() {
  EXPECT_EQ(Fake().alive(), 0);
  EXPECT_EQ(Fake().pushed(), 0);
  EXPECT_EQ(Fake().misuses(), 0);
}

struct CounterParams {
  int* counter;
  char more[40];
};

// A little of everything that an executor does.
Status UseAll(Driver& driver) {
  size_t free_bytes = 0, total_bytes = 0;
  TM_RETURN_IF_ERROR(driver.MemoryInfo(&free_bytes, &total_bytes));
  struct Memory {
    ~Memory() {
      driver.Free(device);
      driver.FreePinned(pinned);
    }
    Driver& driver;
    DevicePtr device = 0;
    void* pinned = nullptr;
  } memory{driver};
  TM_ASSIGN_OR_RETURN(memory.device, driver.Allocate(64));
  TM_ASSIGN_OR_RETURN(memory.pinned, driver.AllocatePinned(64));
  TM_RETURN_IF_ERROR(driver.Fill(Stream::kStep, memory.device, 0, 64));
  TM_RETURN_IF_ERROR(driver.Upload(Stream::kCopy, memory.device, memory.pinned, 4));
  TM_RETURN_IF_ERROR(driver.Copy(Stream::kStep, memory.device + 8, memory.device, 4));
  const CounterParams params = {As<int>(memory.device), {}};
  TM_RETURN_IF_ERROR(driver.BeginCapture());
  const Status launched = driver.Launch("test_count", {.threads = 32, .shared_bytes = 64 * 1024}, params);
  auto graph = driver.EndCapture();
  TM_RETURN_IF_ERROR(launched);
  TM_RETURN_IF_ERROR(graph.status());
  TM_RETURN_IF_ERROR(driver.Replay(*graph.value()));
  TM_RETURN_IF_ERROR(driver.Download(Stream::kStep, memory.pinned, memory.device, 4));
  return driver.Synchronize(Stream::kStep);
}

}  // namespace

#ifdef TOKENMILL_HAS_CUDA_H
// The declarations of cuda_api.h against NVIDIA's, where these are at hand.
static_assert(api::kOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY &&
              api::kInvalidImage == CUDA_ERROR_INVALID_IMAGE);
static_assert(api::kNoBinaryForGpu == CUDA_ERROR_NO_BINARY_FOR_GPU &&
              api::kInvalidPtx == CUDA_ERROR_INVALID_PTX);
static_assert(api::kUnsupportedPtxVersion == CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
static_assert(api::kNotFound == CUDA_ERROR_NOT_FOUND);
static_assert(api::kAttributeMultiprocessors == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(api::kAttributeMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(api::kAttributeMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(api::kAttributeSharedBytesOptIn == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
static_assert(api::kFunctionDynamicSharedBytes == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(api::kStreamNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(api::kHostAllocPortable == CU_MEMHOSTALLOC_PORTABLE);
static_assert(api::kCaptureThreadLocal == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
static_assert(sizeof(CUdeviceptr) == sizeof(api::CUdeviceptr) && sizeof(CUresult) == sizeof(api::CUresult));
#define TM_SAME_ARITY(name, symbol, parameters)                    \
  static_assert(SameShape(static_cast<decltype(&::name)>(nullptr), \
                          static_cast<decltype(api::CudaApi::name)>(nullptr)));
template <class... A, class... B>
constexpr bool SameShape(CUresult (*)(A...), api::CUresult (*)(B...)) {
  if constexpr (sizeof...(A) != sizeof...(B)) {
    return false;
  } else {
    return ((sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>) && ...);
  }
}
TM_CUDA_FUNCTIONS(TM_SAME_ARITY)
// The macros of cuda.h give the symbol that goes with these signatures.
#define TM_TEXT_OF(name) #name
#define TM_SAME_SYMBOL(name, symbol, parameters) static_assert(std::string_view(TM_TEXT_OF(name)) == symbol);
TM_CUDA_FUNCTIONS(TM_SAME_SYMBOL)
#endif

TEST(WhatIsMissingIsNamed) {
  auto none = OpenCudaDriver(0, kImages, "libtokenmill-has-no-such-library.so.1");
  EXPECT(none.status().code() == Code::kDeviceUnavailable);
  EXPECT(Has(none.status().message(), "libtokenmill-has-no-such-library.so.1"));
  const std::string old_library = Built("old-libcuda", "-DFAKE_LACKS_GRAPHS");
  auto old = OpenCudaDriver(0, kImages, old_library.c_str());
  unlink(old_library.c_str());
  EXPECT(old.status().code() == Code::kDeviceUnavailable);
  EXPECT(Has(old.status().message(), "cuGraphExecDestroy"));
  Fake().reset();
  Fake().set_version(11020);
  EXPECT(Open().status().code() == Code::kDeviceUnavailable);
  EXPECT(Has(Open().status().message(), "11.2") && Has(Open().status().message(), "11.4"));
  Fake().reset();
  Fake().set_devices(0);
  EXPECT(Has(Open().status().message(), "no GPU"));
  EXPECT(CountCudaDevices(Library()).status().code() == Code::kDeviceUnavailable);
  Fake().set_devices(2);
  EXPECT_EQ(CountCudaDevices(Library()).value(), 2);
  EXPECT(Has(Open(2).status().message(), "GPU 2 does not exist"));
  EXPECT(Has(Open(-1).status().message(), "does not exist"));
  Fake().set_capability(7, 5);
  EXPECT(Has(Open().status().message(), "7.5") && Has(Open().status().message(), "8.0"));
  EXPECT(Open().status().code() == Code::kDeviceUnavailable);
  ExpectNothingIsLeft();
}

TEST(TheDeviceIsDescribed) {
  Fake().reset();
  auto driver = Open(1);
  EXPECT(driver.ok());
  const DeviceInfo& info = driver.value()->info();
  EXPECT_EQ(info.name, "Fake GPU");
  EXPECT_EQ(info.index, 1);
  EXPECT(info.major == 9 && info.minor == 0 && info.multiprocessors == 7);
  EXPECT_EQ(info.memory_bytes, size_t{1} << 30);
  EXPECT_EQ(info.shared_bytes_max, size_t{101376});
}

// The best image of each module; when that does not load, the next.
TEST(ImagesFitTheDevice) {
  EXPECT(ImageRank({"m", 80, false, nullptr, 0}, 8, 6) >= 0);
  EXPECT(ImageRank({"m", 86, false, nullptr, 0}, 8, 0) < 0);
  EXPECT(ImageRank({"m", 80, false, nullptr, 0}, 9, 0) < 0);
  EXPECT(ImageRank({"m", 90, true, nullptr, 0}, 12, 0) > ImageRank({"m", 80, true, nullptr, 0}, 12, 0));
  EXPECT(ImageRank({"m", 120, true, nullptr, 0}, 9, 0) < 0);
  EXPECT(ImageRank({"m", 80, false, nullptr, 0}, 8, 9) > ImageRank({"m", 80, true, nullptr, 0}, 8, 9));
  const auto loaded = [] { return std::string(Fake().calls()); };
  Fake().reset();
  EXPECT(Open().ok());
  EXPECT(Has(loaded(), "cuModuleLoadData:rows90 cuModuleLoadData:matmul90"));
  EXPECT_EQ(Count("cuModuleLoadData"), 2);
  Fake().reset();
  Fake().set_capability(8, 9);
  EXPECT(Open().ok());
  EXPECT(Has(loaded(), "cuModuleLoadData:rows80 cuModuleLoadData:matmul80"));
  Fake().reset();
  Fake().set_capability(12, 0);  // PTX of rows alone
  auto newer = Open();
  EXPECT(newer.status().code() == Code::kDeviceUnavailable);
  EXPECT(Has(newer.status().message(), "'matmul'") && Has(newer.status().message(), "12.0"));
  EXPECT(Has(loaded(), "cuModuleLoadData:rowsptx80"));
  ExpectNothingIsLeft();
  const Image choice[] = {{"rows", 90, false, "none", 5}, {"rows", 90, true, "ptx", 4}};
  Fake().reset();
  EXPECT(Open(0, choice).ok());
  EXPECT(Has(loaded(), "cuModuleLoadData:none cuModuleLoadData:ptx"));
  auto unfit = Open(0, std::span(choice).first(1));
  EXPECT(unfit.status().code() == Code::kDeviceUnavailable);
  EXPECT(Has(unfit.status().message(), "CUDA_ERROR_NO_BINARY_FOR_GPU") &&
         Has(unfit.status().message(), "12.4"));
  ExpectNothingIsLeft();
}

// Each function fails once, at its first call and at its second, with a typed error that names it.
TEST(EveryFailureIsTypedAndLeaksNothing) {
  const char* const opening[] = {"cuDriverGetVersion", "cuInit",
                                 "cuDeviceGetCount",   "cuDeviceGet",
                                 "cuDeviceGetName",    "cuDeviceGetAttribute",
                                 "cuDeviceTotalMem",   "cuDevicePrimaryCtxRetain",
                                 "cuStreamCreate",     "cuModuleLoadData"};
  for (const char* function : opening) {
    for (const int result : {kSomeError, kOutOfMemory, kUnknownError}) {
      for (int nth = 0; nth < 2; ++nth) {
        Fake().reset();
        Fake().fail(function, nth, result);
        auto driver = Open();
        const bool once = Count(function) <= nth;
        EXPECT_EQ(driver.ok(), once);
        if (driver.ok()) continue;
        const bool memory = result == kOutOfMemory && std::strcmp(function, "cuInit") != 0 &&
                            std::strcmp(function, "cuDriverGetVersion") != 0;
        EXPECT(driver.status().code() == (memory ? Code::kOutOfMemory : Code::kDeviceUnavailable));
        EXPECT(Has(driver.status().message(), function));
        EXPECT(result != kUnknownError || Has(driver.status().message(), "12345"));
        ExpectNothingIsLeft();
      }
    }
  }
  const char* const using_it[] = {"cuMemGetInfo",         "cuMemAlloc",          "cuMemHostAlloc",
                                  "cuMemsetD8Async",      "cuMemcpyHtoDAsync",   "cuMemcpyDtoDAsync",
                                  "cuStreamBeginCapture", "cuModuleGetFunction", "cuFuncSetAttribute",
                                  "cuLaunchKernel",       "cuStreamEndCapture",  "cuGraphInstantiate",
                                  "cuGraphLaunch",        "cuMemcpyDtoHAsync",   "cuStreamSynchronize"};
  for (const char* function : using_it) {
    Fake().reset();
    {
      auto driver = Open();
      EXPECT(driver.ok());
      Fake().fail(function, 0, kSomeError);
      const Status status = UseAll(*driver.value());
      EXPECT(status.code() == Code::kInternal);
      EXPECT(Has(status.message(), function) && Has(status.message(), "CUDA_ERROR_TEST"));
      EXPECT(UseAll(*driver.value()).ok());
    }
    ExpectNothingIsLeft();
  }
  for (int nth = 0; nth < 4; ++nth) {
    Fake().reset();
    Fake().fail("cuCtxPushCurrent", nth, kSomeError);
    auto driver = Open();
    EXPECT(Has(driver.status().message(), "cuCtxPushCurrent"));
    EXPECT(driver.status().code() == Code::kDeviceUnavailable);
    EXPECT_EQ(Fake().pushed(), 0);
  }
}

TEST(CallsComeInOrder) {
  Fake().reset();
  {
    auto driver = Open();
    EXPECT(UseAll(*driver.value()).ok());
  }
  EXPECT_EQ(
      std::string(Fake().calls()),
      "cuDriverGetVersion cuInit cuDeviceGetCount cuDeviceGet cuDeviceGetName cuDeviceGetAttribute "
      "cuDeviceGetAttribute cuDeviceGetAttribute cuDeviceGetAttribute cuDeviceTotalMem "
      "cuDevicePrimaryCtxRetain cuStreamCreate cuStreamCreate cuModuleLoadData:rows90 "
      "cuModuleLoadData:matmul90 cuMemGetInfo cuMemAlloc cuMemHostAlloc cuMemsetD8Async cuMemcpyHtoDAsync "
      "cuMemcpyDtoDAsync cuStreamBeginCapture cuModuleGetFunction cuFuncSetAttribute "
      "cuLaunchKernel:test_count cuStreamEndCapture cuGraphInstantiate cuGraphDestroy cuGraphLaunch "
      "cuMemcpyDtoHAsync cuStreamSynchronize cuGraphExecDestroy cuMemFree cuMemFreeHost cuStreamDestroy "
      "cuStreamDestroy cuModuleUnload cuModuleUnload cuDevicePrimaryCtxRelease");
  ExpectNothingIsLeft();
}

TEST(LaunchesPassOneStructure) {
  Fake().reset();
  auto opened = Open();
  Driver& driver = *opened.value();
  auto at = driver.Allocate(4);
  EXPECT(driver.Fill(Stream::kStep, at.value(), 0, 4).ok());
  const CounterParams params = {As<int>(at.value()), {}};
  EXPECT(driver.Launch("test_count", {.threads = 32, .shared_bytes = 48 * 1024}, params).ok());
  EXPECT_EQ(Count("cuFuncSetAttribute"), 0);
  EXPECT(driver.Launch("test_count", {.threads = 32, .shared_bytes = 99 * 1024}, params).ok());
  EXPECT(driver.Launch("test_count", {.threads = 32, .shared_bytes = 70 * 1024}, params).ok());
  EXPECT_EQ(Count("cuFuncSetAttribute"), 1);
  EXPECT_EQ(Fake().dynamic_shared_bytes(), 99 * 1024);
  EXPECT_EQ(Count("cuModuleGetFunction"), 1);
  EXPECT(driver.BeginCapture().ok());
  EXPECT(driver.Launch("test_count", {.threads = 32}, params).ok());
  auto graph = driver.EndCapture();
  EXPECT(driver.Replay(*graph.value()).ok() && driver.Replay(*graph.value()).ok());
  int count = 0;
  EXPECT(driver.Download(Stream::kStep, &count, at.value(), 4).ok());
  EXPECT_EQ(count, 5);
  const Status unknown = driver.Launch("missing", {.threads = 32}, params);
  EXPECT(unknown.code() == Code::kInternal && Has(unknown.message(), "'missing'"));
  driver.Free(at.value());
}

TEST(OutOfMemoryHasNumbers) {
  Fake().reset();
  auto driver = Open();
  Fake().set_memory(1000);
  auto refused = driver.value()->Allocate(1001);
  EXPECT(refused.status().code() == Code::kOutOfMemory);
  for (const char* part : {"GPU 0", "Fake GPU", "1000 of 1073741824 bytes free", "refused 1001"})
    EXPECT(Has(refused.status().message(), part));
  Fake().fail("cuMemHostAlloc", 0, kOutOfMemory);
  auto pinned = driver.value()->AllocatePinned(77);
  EXPECT(pinned.status().code() == Code::kOutOfMemory && Has(pinned.status().message(), "77 bytes"));
  auto empty = driver.value()->Allocate(0);
  EXPECT(empty.ok());
  driver.value()->Free(empty.value());
  driver.value()->Free(0);
  driver.value()->FreePinned(nullptr);
}

int main(int argc, char** argv) {
  const int result = harness::Main(argc, argv);
  unlink(Library());
  return result;
}
