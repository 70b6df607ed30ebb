#include "kernels/cuda/gated.h"

#include "gpu_test.h"
#include "kernels/reference/math.h"
#include "row_forms.h"

using namespace gpu_test;
using tokenmill::Activation;
using tokenmill::cuda::GatedActivation;
using tokenmill::cuda::GatedParams;
using tokenmill::cuda::LaunchGated;

namespace {

double Exact(GatedActivation activation, double x) {
  if (activation == GatedActivation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

void CheckGated(Driver& driver, int rows, int width, GatedActivation activation, int64_t stride,
                float scale) {
  const std::vector<float> gate = RandomFloats(static_cast<size_t>(rows * stride), 1, scale);
  const std::vector<float> up = RandomFloats(static_cast<size_t>(rows * stride), 2);
  DeviceBuffer<float> device_gate(driver, gate), device_up(driver, up);
  const DeviceBuffer<StepCounts> counts = Counts(driver, rows);
  const FormBuffers out(driver, rows, width, width % 32 == 0 ? kAllForms : kPlainForms);
  const GatedParams params = {counts.data(), device_gate.data(), device_up.data(), stride,
                              width,         activation,         out.view()};
  if (!GPU_OK(driver, LaunchGated(driver, params, rows + 2))) return;
  std::vector<double> expected;
  for (int r = 0; r < rows; ++r) {
    for (int k = 0; k < width; ++k) {
      const size_t at = static_cast<size_t>(r * stride + k);
      expected.push_back(Exact(activation, gate[at]) * up[at]);
    }
  }
  const std::vector<float> got = out.f32();
  EXPECT_LE(Nmse(got, expected), 1e-13);
  out.Expect(got);
}

constexpr GatedActivation kBoth[] = {GatedActivation::kSilu, GatedActivation::kGeluTanh};

}  // namespace

TEST(gates_rows_of_any_width) {
  ForSeeds([](Driver& driver) {
    for (const GatedActivation activation : kBoth) {
      for (const int width : {1, 31, 64, 100, 576, 1000, 2048})
        CheckGated(driver, 2, width, activation, width, 3);
      CheckGated(driver, 33, 96, activation, 96, 3);
      CheckGated(driver, 3, 96, activation, 192, 20);
    }
  });
}

TEST(gates_wide_rows) {
  for (const int width : {5120, 16384, 16416, 24003}) {
    const int rows = width == 16416 ? 2 : 1;
    CheckGated(TestDriver(), rows, width, kBoth[width % 64 == 0], width, 3);
  }
}

TEST(agrees_with_the_reference_far_out) {
  ForSeeds([](Driver& driver) {
    std::vector<float> gate = {0,   -0.0f, 1e-30f, -1e-30f, 88,       100, 1e30f, -20,
                               -88, -100,  -1000,  -1e30f,  INFINITY, 5,   NAN,   -5};
    gate.resize(32, 1.0f);
    DeviceBuffer<float> device_gate(driver, gate), up(driver, std::vector<float>(32, 2.0f));
    const DeviceBuffer<StepCounts> counts = Counts(driver, 1);
    for (const GatedActivation activation : kBoth) {
      const FormBuffers out(driver, 1, 32, kAllForms);
      const GatedParams params = {counts.data(), device_gate.data(), up.data(), 32, 32,
                                  activation,    out.view()};
      if (!GPU_OK(driver, LaunchGated(driver, params, 1))) return;
      const std::vector<float> got = out.f32();
      for (size_t i = 0; i < 32; ++i) {
        const float expected =
            2 * tokenmill::reference::Activate(static_cast<Activation>(activation), gate[i]);
        if (std::isnan(expected)) {
          EXPECT(std::isnan(got[i]));
        } else if (std::isinf(expected)) {
          EXPECT_EQ(got[i], expected);
        } else {
          EXPECT_LE(std::fabs(got[i] - expected), 1e-6f * std::fabs(expected) + 1e-6f);
        }
      }
      out.Expect(got);
    }
  });
}

TEST(does_nothing_without_rows) {
  ForSeeds([](Driver& driver) {
    DeviceBuffer<float> gate(driver, 64), up(driver, 64);
    const DeviceBuffer<StepCounts> counts = Counts(driver, 0);
    const FormBuffers out(driver, 1, 64, kAllForms);
    const GatedParams params = {counts.data(),          gate.data(), up.data(), 64, 64,
                                GatedActivation::kSilu, out.view()};
    (void)GPU_OK(driver, LaunchGated(driver, params, 4));
  });
}

HARNESS_MAIN()
