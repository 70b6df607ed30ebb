#include "emulator.h"

#include "gpu_test.h"

using namespace gpu_test;
using tokenmill::cuda::EmulatorParams;

TEST(reverses_by_shared_memory) {
  ForSeeds([](Driver& driver) {
    std::vector<float> in(384), expected(384);
    for (int i = 0; i < 384; ++i) {
      in[i] = static_cast<float>(i);
      expected[i / 128 * 128 + 127 - i % 128] = in[i];
    }
    DeviceBuffer<float> x(driver, in), y(driver, 384);
    if (!GPU_OK(driver, driver.Launch("emulator_reverse", {.grid_x = 3, .threads = 128, .shared_bytes = 1024},
                                      EmulatorParams{x.data(), y.data(), 384, 0, nullptr})))
      return;
    EXPECT(y.Download() == expected);
  });
}

HARNESS_MAIN()
