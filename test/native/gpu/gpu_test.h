#pragma once

// What tests of GPU kernels share. They run on whichever driver GPU_BACKEND names: emu (the default), ptx or
// cuda.
//
//   TEST(adds) {
//     ForSeeds([](Driver& driver) {
//       DeviceBuffer<float> x(driver, {1, 2, 3});
//       DeviceBuffer<float> y(driver, 3);          // undefined: a kernel that reads it fails
//       if (!GPU_OK(driver, LaunchAdd(driver, AddParams{x.data(), y.data(), 3}))) return;
//       EXPECT_LE(Nmse(y.Download(), {2, 3, 4}), 1e-12);
//     });
//   }
//   HARNESS_MAIN()

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/emu/emu_driver.h"

namespace gpu_test {

using tokenmill::Status;
using tokenmill::cuda::As;
using tokenmill::cuda::DevicePtr;
using tokenmill::cuda::Driver;
using tokenmill::cuda::LaunchShape;
using tokenmill::cuda::Stream;

inline std::string Backend() {
  const char* name = std::getenv("GPU_BACKEND");
  return name == nullptr || *name == 0 ? "emu" : name;
}

/// Whether kernels run on the emulator, from their sources or from nvcc's PTX.
inline bool Emulated() { return Backend() != "cuda"; }

/// Of which target's PTX the kernels are translated: GPU_PTX_TARGET, sm_80 by default.
inline std::string PtxTarget() {
  const char* target = std::getenv("GPU_PTX_TARGET");
  return target == nullptr ? "sm_80" : target;
}

/// Opens a GPU, in programs that can (cuda_test_driver.cc); null where there is none.
inline std::shared_ptr<Driver> (*open_cuda_driver)() = nullptr;

/// How a program ends that found no GPU.
inline constexpr int kSkipped = 77;

/// A fresh device of the chosen backend; ends the program where there is none, saying so.
inline std::shared_ptr<Driver> NewTestDriver(tokenmill::cuda::EmuOptions options = {}) {
  const std::string backend = Backend();
  std::shared_ptr<Driver> driver;
  if (backend == "emu") driver = tokenmill::cuda::CreateEmuDriver(options);
  if (backend == "ptx") {
    options.target = PtxTarget();
    driver = tokenmill::cuda::CreateEmuDriver(options);
  }
  if (backend == "cuda" && open_cuda_driver != nullptr) {
    driver = open_cuda_driver();
    if (!driver) std::exit(kSkipped);
  }
  if (!driver) {
    std::printf("FAIL this program has no GPU_BACKEND=%s\n", backend.c_str());
    std::exit(1);
  }
  return driver;
}

/// One device for a whole test program. After a fault it is replaced by a fresh one at the next call.
inline std::shared_ptr<Driver>& TestDriverSlot() {
  static std::shared_ptr<Driver> driver;
  return driver;
}
inline Driver& TestDriver() {
  std::shared_ptr<Driver>& driver = TestDriverSlot();
  if (!driver || !driver->Synchronize(Stream::kStep).ok()) driver = NewTestDriver();
  return *driver;
}

/// How many schedules a test tries: GPU_SEEDS, 2 by default.
inline int Seeds() {
  const char* seeds = std::getenv("GPU_SEEDS");
  return seeds == nullptr ? 2 : std::atoi(seeds);
}

/// The schedule of the test device's launches to come, where they are emulated.
inline void SetSeed(int seed) {
  Driver& driver = TestDriver();
  if (Emulated()) tokenmill::cuda::SetEmuSeed(driver, static_cast<uint64_t>(seed));
}

/// Calls body(driver) once for each schedule, once in all where nothing is emulated.
template <class Body>
void ForSeeds(const Body& body) {
  const int seeds = Backend() == "cuda" ? 1 : Seeds();
  for (int seed = 1; seed <= seeds; ++seed) {
    const int before = harness::Failures();
    SetSeed(seed);
    body(TestDriver());
    if (harness::Failures() != before) {
      std::printf("    with seed %d of %s\n", seed, Backend().c_str());
      return;
    }
  }
}

inline bool CheckDone(Driver& driver, const Status& status, const char* file, int line) {
  Status done = status;
  if (done.ok()) done = driver.Synchronize(Stream::kStep);
  if (done.ok()) done = driver.Synchronize(Stream::kCopy);
  if (!done.ok()) harness::Fail(file, line, done.message());
  return done.ok();
}

/// True when a launch went through and no fault was found in it; a failed expectation otherwise.
#define GPU_OK(driver, status) gpu_test::CheckDone(driver, status, __FILE__, __LINE__)

/// `count` elements in device memory; undefined unless given values.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer(Driver& driver, size_t count) : driver_(&driver), count_(count) {
    auto at = driver.Allocate(count * sizeof(T));
    if (at.ok()) at_ = at.value();
    if (!at.ok()) harness::Fail(__FILE__, __LINE__, at.status().message());
  }
  DeviceBuffer(Driver& driver, const std::vector<T>& values) : DeviceBuffer(driver, values.size()) {
    Upload(values);
  }
  ~DeviceBuffer() {
    if (at_ != 0) driver_->Free(at_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : driver_(other.driver_), at_(std::exchange(other.at_, 0)), count_(other.count_) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(driver_, other.driver_);
    std::swap(at_, other.at_);
    std::swap(count_, other.count_);
    return *this;
  }

  T* data() const { return As<T>(at_); }
  DevicePtr address() const { return at_; }
  size_t size() const { return count_; }

  void Upload(const std::vector<T>& values) {
    (void)GPU_OK(*driver_, driver_->Upload(Stream::kStep, at_, values.data(), values.size() * sizeof(T)));
  }
  std::vector<T> Download() const {
    std::vector<T> values(count_);
    (void)GPU_OK(*driver_, driver_->Download(Stream::kStep, values.data(), at_, count_ * sizeof(T)));
    return values;
  }
  void Fill(uint8_t byte) {
    (void)GPU_OK(*driver_, driver_->Fill(Stream::kStep, at_, byte, count_ * sizeof(T)));
  }

 private:
  Driver* driver_;
  DevicePtr at_ = 0;
  size_t count_ = 0;
};

/// Squared error over the squared norm of what was expected; infinite for lengths or values that do not fit.
template <class T, class U>
double Nmse(const std::vector<T>& got, const std::vector<U>& expected) {
  if (got.size() != expected.size()) return HUGE_VAL;
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(expected[i]);
    error += difference * difference;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  if (!(error < HUGE_VAL)) return HUGE_VAL;
  return norm == 0 ? (error == 0 ? 0 : HUGE_VAL) : error / norm;
}

}  // namespace gpu_test
