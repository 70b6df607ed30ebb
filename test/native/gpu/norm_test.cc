#include "kernels/cuda/norm.h"

#include "gpu_test.h"
#include "kernels/reference/math.h"
#include "row_forms.h"

using namespace gpu_test;
using tokenmill::cuda::LaunchNorm;
using tokenmill::cuda::NormParams;

namespace {

std::vector<float> NormedRows(const std::vector<float>& rows, const std::vector<float>& weight,
                              float epsilon) {
  std::vector<float> out(rows.size());
  for (size_t begin = 0; begin < rows.size(); begin += weight.size()) {
    tokenmill::reference::RmsNorm(rows.data() + begin, weight.data(), epsilon,
                                  static_cast<int64_t>(weight.size()), out.data() + begin);
  }
  return out;
}

// Norm of random rows into all forms that the width has: f32 against the reference, the rest against the f32.
void CheckNorm(Driver& driver, int rows, int width) {
  const std::vector<float> x = RandomFloats(static_cast<size_t>(rows * width), 1, 3);
  const std::vector<float> weight = RandomFloats(static_cast<size_t>(width), 2);
  DeviceBuffer<float> device_x(driver, x), device_weight(driver, weight);
  const DeviceBuffer<StepCounts> counts = Counts(driver, rows);
  const FormBuffers out(driver, rows, width, width % 32 == 0 ? kAllForms : kPlainForms);
  const NormParams params = {.counts = counts.data(),
                             .x = device_x.data(),
                             .weight = device_weight.data(),
                             .width = width,
                             .epsilon = 1e-5f,
                             .out = out.view()};
  if (!GPU_OK(driver, LaunchNorm(driver, params, rows))) return;
  const std::vector<float> got = out.f32();
  EXPECT_LE(Nmse(got, NormedRows(x, weight, 1e-5f)), 1e-13);
  out.Expect(got);
  EXPECT(device_x.Download() == x);
}

}  // namespace

TEST(norms_rows_of_any_width) {
  ForSeeds([](Driver& driver) {
    for (const int width : {1, 31, 64, 100, 576, 1000, 2048}) CheckNorm(driver, 3, width);
    CheckNorm(driver, 33, 96);
  });
}

TEST(norms_wide_rows) {
  SetSeed(3);
  for (const int width : {4096, 4128, 8190, 16384}) CheckNorm(TestDriver(), 1, width);
}

TEST(refuses_what_it_cannot_write) {
  NormParams params;
  params.width = 16385;
  EXPECT(!LaunchNorm(TestDriver(), params, 1).ok());
  float f32 = 0;
  int8_t s8 = 0;
  params.width = params.out.k = 100;
  params.out.s8 = &s8;
  EXPECT(!LaunchNorm(TestDriver(), params, 1).ok());
  params.out = {};
  params.out.f32 = &f32;
  params.out.k = 64;
  EXPECT(!LaunchNorm(TestDriver(), params, 1).ok());
}

TEST(adds_products_and_norms_the_sum) {
  ForSeeds([](Driver& driver) {
    for (const bool post : {false, true}) {
      for (const bool with_bias : {false, true}) {
        for (const int width : {64, 100, 576}) {
          const int rows = 5;
          const size_t n = static_cast<size_t>(rows * width);
          const std::vector<float> x = RandomFloats(n, 1), product = RandomFloats(n, 2, 5);
          const std::vector<float> bias = RandomFloats(static_cast<size_t>(width), 3);
          const std::vector<float> post_weight = RandomFloats(static_cast<size_t>(width), 4);
          const std::vector<float> weight = RandomFloats(static_cast<size_t>(width), 5);
          std::vector<float> added = product;
          for (size_t i = 0; i < n && with_bias; ++i) added[i] += bias[i % static_cast<size_t>(width)];
          if (post) added = NormedRows(added, post_weight, 1e-3f);
          for (size_t i = 0; i < n; ++i) added[i] += x[i];

          DeviceBuffer<float> device_x(driver, x), device_product(driver, product), device_bias(driver, bias);
          DeviceBuffer<float> device_post(driver, post_weight), device_weight(driver, weight);
          const DeviceBuffer<StepCounts> counts = Counts(driver, rows);
          const FormBuffers out(driver, rows, width, kPlainForms);
          NormParams params = {.counts = counts.data(),
                               .x = device_x.data(),
                               .product = device_product.data(),
                               .weight = device_weight.data(),
                               .width = width,
                               .post_epsilon = 1e-3f,
                               .epsilon = 1e-5f,
                               .out = out.view()};
          if (with_bias) params.bias = device_bias.data();
          if (post) params.post_weight = device_post.data();
          if (!GPU_OK(driver, LaunchNorm(driver, params, rows))) return;
          const std::vector<float> sum = device_x.Download();
          if (post) EXPECT_LE(Nmse(sum, added), 1e-13);
          if (!post) EXPECT(sum == added);
          const std::vector<float> got = out.f32();
          EXPECT_LE(Nmse(got, NormedRows(sum, weight, 1e-5f)), 1e-13);
          out.Expect(got);
        }
      }
    }
  });
}

TEST(adds_alone) {
  ForSeeds([](Driver& driver) {
    const std::vector<float> x = RandomFloats(2 * 100, 1), product = RandomFloats(2 * 100, 2);
    DeviceBuffer<float> device_x(driver, x), device_product(driver, product);
    const DeviceBuffer<StepCounts> counts = Counts(driver, 2);
    const NormParams params = {
        .counts = counts.data(), .x = device_x.data(), .product = device_product.data(), .width = 100};
    if (!GPU_OK(driver, LaunchNorm(driver, params, 4))) return;
    std::vector<float> expected = x;
    for (size_t i = 0; i < x.size(); ++i) expected[i] += product[i];
    EXPECT(device_x.Download() == expected);
  });
}

TEST(converts_rows_as_they_are) {
  ForSeeds([](Driver& driver) {
    for (const int width : {64, 192, 5120}) {
      std::vector<float> x = EdgeRows(width);
      DeviceBuffer<float> device_x(driver, x);
      const DeviceBuffer<StepCounts> counts = Counts(driver, kEdgeRows);
      const std::vector<Forms> several = {
          kAllForms, {.f16 = true}, {.f16 = true, .sums = true}, {.s8 = true}, {.bf16 = true}};
      for (const Forms& forms : several) {
        const FormBuffers out(driver, kEdgeRows, width, forms);
        const NormParams params = {
            .counts = counts.data(), .x = device_x.data(), .width = width, .out = out.view()};
        if (!GPU_OK(driver, LaunchNorm(driver, params, kEdgeRows))) return;
        out.Expect(x);
        if (width > 1000) break;
      }
    }
  });
}

TEST(takes_listed_rows) {
  ForSeeds([](Driver& driver) {
    const int width = 160;
    const std::vector<int32_t> list = {0, 2, 3, 7, 8};
    const std::vector<float> x = RandomFloats(9 * width, 1), weight = RandomFloats(width, 2);
    DeviceBuffer<float> device_x(driver, x), device_weight(driver, weight);
    DeviceBuffer<int32_t> device_list(driver, list);
    const DeviceBuffer<StepCounts> counts = Counts(driver, 9, 5);
    for (const int first : {0, 3}) {
      const int rows = 5 - first;
      const FormBuffers out(driver, rows, width, kAllForms);
      const NormParams params = {.counts = counts.data(),
                                 .x = device_x.data(),
                                 .weight = device_weight.data(),
                                 .row_list = device_list.data(),
                                 .row_first = first,
                                 .width = width,
                                 .epsilon = 1e-6f,
                                 .out = out.view()};
      if (!GPU_OK(driver, LaunchNorm(driver, params, 5))) return;
      std::vector<float> chosen;
      for (int i = first; i < 5; ++i)
        chosen.insert(chosen.end(), x.begin() + list[i] * width, x.begin() + (list[i] + 1) * width);
      EXPECT_LE(Nmse(out.f32(), NormedRows(chosen, weight, 1e-6f)), 1e-13);
      out.Expect(out.f32());
    }
  });
}

TEST(rows_do_not_depend_on_the_step) {
  ForSeeds([](Driver& driver) {
    const int width = 608, rows = 33;
    const std::vector<float> x = RandomFloats(rows * width, 1), weight = RandomFloats(width, 2);
    const auto run = [&](int first, int count, int grid) {
      DeviceBuffer<float> device_x(
          driver, std::vector<float>(x.begin() + first * width, x.begin() + (first + count) * width));
      DeviceBuffer<float> device_weight(driver, weight);
      const DeviceBuffer<StepCounts> counts = Counts(driver, count);
      const FormBuffers out(driver, count, width, {.f32 = true});
      const NormParams params = {.counts = counts.data(),
                                 .x = device_x.data(),
                                 .weight = device_weight.data(),
                                 .width = width,
                                 .epsilon = 1e-5f,
                                 .out = out.view()};
      if (!GPU_OK(driver, LaunchNorm(driver, params, grid))) return std::vector<float>();
      return out.f32();
    };
    const std::vector<float> all = run(0, rows, 64);
    for (const int r : {0, 17, 32}) {
      EXPECT(run(r, 1, 1) == std::vector<float>(all.begin() + r * width, all.begin() + (r + 1) * width));
    }
  });
}

TEST(does_nothing_without_rows) {
  ForSeeds([](Driver& driver) {
    DeviceBuffer<float> x(driver, 64), weight(driver, 64);
    const DeviceBuffer<StepCounts> counts = Counts(driver, 0);
    const FormBuffers out(driver, 1, 64, kAllForms);
    const NormParams params = {
        .counts = counts.data(), .x = x.data(), .weight = weight.data(), .width = 64, .out = out.view()};
    (void)GPU_OK(driver, LaunchNorm(driver, params, 4));
  });
}

HARNESS_MAIN()
