// The emulated driver: memory with a limit, streams whose work is done late, graphs, several devices.
// sources: emulator.cu
// backends: emu ptx

#include "emulator.h"

#include "gpu_test.h"

using namespace gpu_test;
using tokenmill::Code;
using tokenmill::cuda::CreateEmuDriver;
using tokenmill::cuda::EmulatorParams;

namespace {

constexpr LaunchShape kReverse = {.threads = 64, .shared_bytes = 512};

std::vector<float> Ascending(int n) {
  std::vector<float> values(n);
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(i);
  return values;
}

float First(const DeviceBuffer<float>& buffer) {
  const std::vector<float> values = buffer.Download();
  return values[0];
}

}  // namespace

TEST(memory_has_a_limit) {
  auto driver = CreateEmuDriver({.memory_bytes = 1 << 20});
  size_t free_bytes = 0, total_bytes = 0;
  auto first = driver->Allocate(700000);
  EXPECT(first.ok());
  EXPECT_EQ(first.value() % 256, 0u);
  EXPECT(driver->MemoryInfo(&free_bytes, &total_bytes).ok());
  EXPECT_EQ(total_bytes, size_t{1} << 20);
  EXPECT_EQ(free_bytes, (size_t{1} << 20) - (700000 + 255) / 256 * 256);
  auto second = driver->Allocate(400000);
  EXPECT(second.status().code() == Code::kOutOfMemory);
  EXPECT(second.status().message().find("400000") != std::string::npos);
  driver->Free(first.value());
  auto third = driver->Allocate(400000);
  EXPECT(third.ok());
  driver->Free(third.value());
  EXPECT(driver->MemoryInfo(&free_bytes, &total_bytes).ok());
  EXPECT_EQ(free_bytes, total_bytes);
}

TEST(work_is_done_in_order_and_late) {
  int late = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto driver = CreateEmuDriver({.seed = seed});
    DeviceBuffer<float> x(*driver, 64), y(*driver, 64);
    std::vector<float> host = Ascending(64), result(64, -1.0f);
    EXPECT(driver->Upload(Stream::kStep, x.address(), host.data(), 256).ok());
    EXPECT(driver->Launch("emulator_reverse", kReverse, EmulatorParams{x.data(), y.data(), 64, 0, nullptr})
               .ok());
    EXPECT(driver->Copy(Stream::kStep, x.address(), y.address(), 128).ok());
    EXPECT(driver->Download(Stream::kStep, result.data(), x.address(), 256).ok());
    late += result[0] == -1.0f;
    EXPECT(driver->Synchronize(Stream::kStep).ok());
    EXPECT_EQ(result[0], 63.0f);
    EXPECT_EQ(result[33], 33.0f);
  }
  EXPECT_LE(1, late);
}

TEST(graphs_are_replayed_with_the_memory_of_then) {
  auto driver = CreateEmuDriver({});
  DeviceBuffer<float> x(*driver, Ascending(64)), y(*driver, 64);
  EXPECT(driver->BeginCapture().ok());
  EXPECT(
      driver->Launch("emulator_reverse", kReverse, EmulatorParams{x.data(), y.data(), 64, 0, nullptr}).ok());
  EXPECT(driver->Copy(Stream::kStep, x.address(), y.address(), 256).ok());
  EXPECT(!driver->Synchronize(Stream::kStep).ok());
  auto graph = driver->EndCapture();
  EXPECT(graph.ok());
  EXPECT_EQ(First(x), 0.0f);  // recorded, not done
  EXPECT(driver->Replay(*graph.value()).ok());
  EXPECT_EQ(First(x), 63.0f);
  EXPECT(driver->Replay(*graph.value()).ok());
  EXPECT_EQ(First(x), 0.0f);
}

TEST(launches_are_checked) {
  auto driver = CreateEmuDriver({});
  const EmulatorParams params = {};
  EXPECT(driver->Launch("no_such_kernel", kReverse, params).code() == Code::kInternal);
  EXPECT(driver->Launch("emulator_reverse", {.threads = 128}, params).code() == Code::kInternal);
  EXPECT(driver->Launch("emulator_reverse", {.threads = 33}, params).code() == Code::kInternal);
  EXPECT(driver->Launch("emulator_reverse", {.grid_x = 0, .threads = 64}, params).code() == Code::kInternal);
  EXPECT(driver->Launch("emulator_reverse", {.threads = 64, .shared_bytes = 100 << 10}, params).code() ==
         Code::kInternal);
  EXPECT(driver->Launch("emulator_reverse", kReverse, 1.0f).code() == Code::kInternal);
  EXPECT(driver->Synchronize(Stream::kStep).ok());
}

TEST(copies_stay_within_allocations) {
  for (int what = 0; what < 4; ++what) {
    auto driver = CreateEmuDriver({});
    DeviceBuffer<float> x(*driver, Ascending(64)), y(*driver, 64);
    std::vector<float> host(65);
    Status status;
    if (what == 0) status = driver->Upload(Stream::kStep, y.address(), host.data(), 65 * 4);
    if (what == 1) status = driver->Download(Stream::kStep, host.data(), x.address() + 4, 64 * 4);
    if (what == 2) status = driver->Copy(Stream::kStep, y.address(), x.address() - 256, 4);
    if (what == 3) status = driver->Fill(Stream::kStep, y.address() + 252, 0, 8);
    if (status.ok()) status = driver->Synchronize(Stream::kStep);
    EXPECT(status.code() == Code::kInternal);
    // The device is lost: whatever follows fails too.
    EXPECT(driver->Upload(Stream::kCopy, x.address(), host.data(), 4).code() == Code::kInternal);
  }
}

TEST(copies_carry_along_what_is_undefined) {
  auto driver = CreateEmuDriver({});
  DeviceBuffer<float> x(*driver, 64), y(*driver, 64), z(*driver, Ascending(64));
  EXPECT(driver->Copy(Stream::kStep, z.address(), x.address(), 256).ok());
  EXPECT(
      driver->Launch("emulator_reverse", kReverse, EmulatorParams{z.data(), y.data(), 64, 0, nullptr}).ok());
  EXPECT(driver->Synchronize(Stream::kStep).message().find("uninitialized") != std::string::npos);
}

TEST(freed_memory_and_that_of_other_devices_is_foreign) {
  auto one = CreateEmuDriver({.device = 0}), two = CreateEmuDriver({.device = 1});
  DeviceBuffer<float> x(*one, Ascending(64)), y(*two, 64);
  EXPECT(two->Launch("emulator_reverse", kReverse, EmulatorParams{x.data(), y.data(), 64, 0, nullptr}).ok());
  EXPECT(two->Synchronize(Stream::kStep).message().find("device 0's memory on device 1") !=
         std::string::npos);

  DeviceBuffer<float> z(*one, 64);
  float* freed = nullptr;
  {
    DeviceBuffer<float> gone(*one, Ascending(64));
    freed = gone.data();
  }
  EXPECT(one->Launch("emulator_reverse", kReverse, EmulatorParams{freed, z.data(), 64, 0, nullptr}).ok());
  EXPECT(one->Synchronize(Stream::kStep).message().find("outside of any allocation") != std::string::npos);
}

TEST(kernels_reach_pinned_memory) {
  auto driver = CreateEmuDriver({});
  auto pinned = driver->AllocatePinned(256);
  EXPECT(pinned.ok());
  float* host = static_cast<float*>(pinned.value());
  for (int i = 0; i < 64; ++i) host[i] = static_cast<float>(i);
  DeviceBuffer<float> y(*driver, 64);
  EXPECT(driver->Launch("emulator_reverse", kReverse, EmulatorParams{host, y.data(), 64, 0, nullptr}).ok());
  EXPECT_EQ(First(y), 63.0f);
  driver->FreePinned(host);
}

HARNESS_MAIN()
