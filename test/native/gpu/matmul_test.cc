// sources: kernels/cuda/matmul_q4.cu kernels/cuda/matmul_q5.cu kernels/cuda/matmul_q6_q8.cu
// sources: kernels/cuda/matmul_plain.cu kernels/cuda/pack.cu quant/quant.cc core/dtype.cc
// Products of every form against loops in double over dequantized weights; the same bits from both kernels
// for every number of rows.

#include "kernels/cuda/matmul.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "gpu_test.h"
#include "kernels/cuda/pack.h"
#include "matmul_inputs.h"
#include "random_weights.h"

using namespace tokenmill;
using namespace tokenmill::cuda;
using namespace gpu_test;

namespace {

struct Form {
  DType dtype;
  MatmulPrecision precision;
};
std::vector<Form> Forms() {
  std::vector<Form> forms;
  for (DType dtype : kRunningTypes) forms.push_back({dtype, MatmulPrecision::kFast});
  forms.push_back({DType::kQ8_0, MatmulPrecision::kHigh});
  forms.push_back({DType::kBF16, MatmulPrecision::kHigh});
  return forms;
}

bool IsBytes(const Form& form) {
  return form.dtype == DType::kQ8_0 && form.precision == MatmulPrecision::kFast;
}

// The k that a form's product is tested with: less than a split, ragged ones, more splits than a block has
// warps.
std::vector<int> KsOf(DType dtype) {
  switch (KMultipleOf(WeightFormOf(dtype).value())) {
    case 1:
      return {1, 7, 37, 64, 104, 321, 2305};
    case 32:
      return {32, 96, 576, 960, 2336};
    default:
      return {256, 768, 2304};
  }
}

// One of a few splits, the last of them ragged where it can be.
int ShortK(DType dtype) { return KMultipleOf(WeightFormOf(dtype).value()) == 256 ? 512 : 352; }

// A matrix, activations and what is made of them on a device.
class Problem {
 public:
  Problem(Driver& driver, const Form& form, int features, int k, int rows, bool extreme)
      : driver_(driver),
        form_(form),
        weights_(MakeWeights(form.dtype, features, k, static_cast<uint32_t>(7 * features + k), extreme)),
        in_(MakeActivations(rows, k, static_cast<uint32_t>(rows + k))),
        weight_form_(WeightFormOf(form.dtype).value()),
        packed_(driver, static_cast<size_t>(WeightBytes(LayoutOf(weight_form_), features, k))),
        device_in_(driver, in_) {
    const DeviceBuffer<uint8_t> raw(driver, weights_.rows);
    const PackParams params = {raw.data(), packed_.data(), 0, features, k};
    (void)GPU_OK(driver, LaunchPack(driver, Stream::kStep, weight_form_, params));
  }

  const RandomWeights& weights() const { return weights_; }
  const HostActivations& in() const { return in_; }
  int rows() const { return in_.rows; }
  int features() const { return weights_.features; }

  struct Options {
    int first = 0;  // row
    int rows_max = 0;  // 0: as many as rows
    MatmulKernel kernel = MatmulKernel::kAuto;
    const float* bias = nullptr;
    std::optional<float> before = {};  // what out holds, and is added to
  };

  static constexpr int kMargin = 3;
  static constexpr float kUntouched = -12345.5f;

  // `rows` rows, [row][feature]; empty after a fault. Fails where other than these was written.
  std::vector<float> Run(int rows, const Options& options) const {
    const int stride = features() + kMargin, rows_max = std::max(options.rows_max, rows);
    DeviceBuffer<float> out(driver_, std::vector<float>(static_cast<size_t>(rows_max * stride),
                                                        options.before.value_or(kUntouched)));
    const DeviceBuffer<int32_t> count(driver_, std::vector<int32_t>{rows});
    MatmulArgs args = {
        .form = weight_form_, .precision = form_.precision, .kernel = options.kernel, .rows_max = rows_max};
    args.params = {packed_.data(), count.data(), device_in_.View(options.first),    options.bias, out.data(),
                   stride,         features(),   options.before.has_value() ? 1 : 0};
    if (!GPU_OK(driver_, LaunchMatmul(driver_, args))) return {};
    return Unpadded(out.Download(), rows, rows_max, options.before.value_or(kUntouched));
  }

 private:
  std::vector<float> Unpadded(const std::vector<float>& out, int rows, int rows_max, float untouched) const {
    const int stride = features() + kMargin;
    std::vector<float> values;
    int touched = 0;
    for (int i = 0; i < rows_max * stride; ++i) {
      if (i / stride < rows && i % stride < features()) {
        values.push_back(out[static_cast<size_t>(i)]);
      } else {
        touched += out[static_cast<size_t>(i)] != untouched;
      }
    }
    EXPECT_EQ(touched, 0);
    return values;
  }

  Driver& driver_;
  Form form_;
  RandomWeights weights_;
  HostActivations in_;
  WeightForm weight_form_;
  DeviceBuffer<uint8_t> packed_;
  DeviceActivations device_in_;
};

// The activation that a form's product takes for x, without what its format's own sums add.
double Rounded(const Form& form, const HostActivations& in, int row, int k) {
  const size_t at = static_cast<size_t>(row) * in.k + k;
  switch (form.dtype) {
    case DType::kF32:
      return in.f32[at];
    case DType::kBF16:
      return double{Bf16ToF32(in.bf16[at])} +
             (form.precision == MatmulPrecision::kHigh ? double{Bf16ToF32(in.bf16_rest[at])} : 0);
    default:
      if (IsBytes(form)) return double{in.s8_scale[at / 32]} * in.s8[at];
      return double{in.row_scale[static_cast<size_t>(row)]} * F16ToF32(in.f16[at]);
  }
}

// Squared errors over squared norms, the greatest of all features; rows are weighed alike, however large
// they are.
double WorstNmse(const Problem& problem, const std::vector<float>& got, const Form* rounded) {
  const HostActivations& in = problem.in();
  double worst = 0;
  for (int f = 0; f < problem.features(); ++f) {
    double error = 0, norm = 0;
    for (int row = 0; row < in.rows; ++row) {
      double expected = 0;
      for (int k = 0; k < in.k; ++k) {
        const double x =
            rounded != nullptr ? Rounded(*rounded, in, row, k) : in.f32[static_cast<size_t>(row) * in.k + k];
        expected += x * problem.weights().values[static_cast<size_t>(f) * in.k + k];
      }
      const double size = in.row_scale[static_cast<size_t>(row)];
      const double difference = got[static_cast<size_t>(row) * problem.features() + f] - expected;
      error += difference * difference / (size * size);
      norm += expected * expected / (size * size);
    }
    if (!(error < HUGE_VAL)) return HUGE_VAL;
    worst = std::max(worst, norm > 0 ? error / norm : error);
  }
  return worst;
}

// Q8_0 × s8 by the tree that matmul.h gives: its sums are integers, so that every bit is known.
std::vector<float> BytesTree(const Problem& problem) {
  const HostActivations& in = problem.in();
  const RandomWeights& w = problem.weights();
  std::vector<float> out;
  for (int row = 0; row < in.rows; ++row) {
    for (int f = 0; f < w.features; ++f) {
      float total = 0, chain = 0;
      for (int block = 0; block < in.k / 32; ++block) {
        const uint8_t* raw = w.rows.data() + w.row_bytes() * f + static_cast<size_t>(block) * 34;
        uint16_t d;
        std::memcpy(&d, raw, 2);
        int sum = 0;
        for (int i = 0; i < 32; ++i) {
          sum += static_cast<int8_t>(raw[2 + i]) * in.s8[static_cast<size_t>(row) * in.k + block * 32 + i];
        }
        const float scale = F16ToF32(d) * in.s8_scale[static_cast<size_t>(row) * (in.k / 32) + block];
        chain = std::fma(scale, static_cast<float>(sum), chain);
        if (block % 8 == 7 || block == in.k / 32 - 1) {
          total += chain;
          chain = 0;
        }
      }
      out.push_back(total);
    }
  }
  return out;
}

void Check(const Problem& problem, const Form& form, const std::vector<float>& got, bool extreme) {
  EXPECT_LE(WorstNmse(problem, got, &form), form.dtype == DType::kF32 ? 1e-12 : 1e-9);
  // Blocks of extreme scales leave a feature a handful of inputs, whose rounding is not what is bounded here.
  if (!extreme) EXPECT_LE(WorstNmse(problem, got, nullptr), form.dtype == DType::kF32 ? 1e-6 : 5e-4);
  if (IsBytes(form)) EXPECT(got == BytesTree(problem));
}

// Rows from `first` of `all`, bit for bit.
void ExpectRows(const Problem& problem, const std::vector<float>& got, const std::vector<float>& all,
                int first) {
  EXPECT(!got.empty() && std::memcmp(got.data(), all.data() + static_cast<size_t>(first) * problem.features(),
                                     got.size() * sizeof(float)) == 0);
}

std::string NameOf(const Form& form) {
  return std::string(InfoOf(form.dtype).name) + (form.precision == MatmulPrecision::kHigh ? " high" : "");
}

template <class Body>
void ForForms(const Body& body) {
  for (const Form& form : Forms()) {
    const int before = harness::Failures();
    ForSeeds([&](Driver& driver) { body(driver, form); });
    if (harness::Failures() != before) std::printf("    %s\n", NameOf(form).c_str());
  }
}

}  // namespace

TEST(products_of_all_forms_with_every_number_of_rows) {
  ForForms([](Driver& driver, const Form& form) {
    const Problem problem(driver, form, 129, ShortK(form.dtype), 130, false);
    const std::vector<float> all = problem.Run(130, {.kernel = MatmulKernel::kPrefill});
    if (all.empty()) return;
    Check(problem, form, all, false);
    for (int rows : {1, 2, 7, 8, 9, 16, 33, 130}) {
      const int first = 130 - rows > 77 ? 77 : 0;  // another place in the tile, other neighbours
      ExpectRows(problem, problem.Run(rows, {.first = first, .kernel = MatmulKernel::kDecode}), all, first);
      if (rows != 9 && rows != 33) continue;
      ExpectRows(problem, problem.Run(rows, {.first = first, .kernel = MatmulKernel::kPrefill}), all, first);
    }
  });
}

TEST(products_of_ragged_shapes) {
  ForForms([](Driver& driver, const Form& form) {
    for (int k : KsOf(form.dtype)) {
      for (int features : {1, 15, 40}) {
        if (k > 1000 && features != 40) continue;
        const Problem problem(driver, form, features, k, 19, features == 15);
        const std::vector<float> all = problem.Run(19, {.kernel = MatmulKernel::kPrefill});
        if (all.empty()) return;
        Check(problem, form, all, features == 15);
        for (int rows : {3, 11, 19}) {
          const int first = 19 - rows;
          ExpectRows(problem, problem.Run(rows, {.first = first, .kernel = MatmulKernel::kDecode}), all,
                     first);
        }
      }
    }
  });
}

TEST(rows_are_counted_on_the_device) {
  ForForms([](Driver& driver, const Form& form) {
    const Problem problem(driver, form, 17, 256, 70, false);
    const std::vector<float> all = problem.Run(70, {});
    if (all.empty()) return;
    for (int rows_max : {8, 16, 32, 64, 70})
      ExpectRows(problem, problem.Run(5, {.rows_max = rows_max}), all, 0);
    EXPECT(problem.Run(0, {.rows_max = 70}).empty());
  });
}

TEST(a_bias_and_what_was_there_are_added) {
  ForForms([](Driver& driver, const Form& form) {
    const Problem problem(driver, form, 40, 256, 9, false);
    std::vector<float> bias(40);
    for (int i = 0; i < 40; ++i) bias[i] = 0.25f * static_cast<float>(i - 20);
    const DeviceBuffer<float> device_bias(driver, bias);
    const std::vector<float> plain = problem.Run(9, {});
    if (plain.empty()) return;
    for (MatmulKernel kernel : {MatmulKernel::kDecode, MatmulKernel::kPrefill}) {
      std::vector<float> expected = plain;
      for (size_t i = 0; i < expected.size(); ++i) expected[i] = 3.5f + (expected[i] + bias[i % 40]);
      ExpectRows(problem, problem.Run(9, {.kernel = kernel, .bias = device_bias.data(), .before = 3.5f}),
                 expected, 0);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] = 3.5f + plain[i];
      ExpectRows(problem, problem.Run(9, {.kernel = kernel, .before = 3.5f}), expected, 0);
    }
  });
}

TEST(shared_memory_has_few_bank_conflicts) {
  if (!Emulated()) return;
  Driver& driver = TestDriver();
  ResetEmuStats(driver);
  for (const Form& form : Forms()) {
    const Problem problem(driver, form, 64, ShortK(form.dtype), 40, false);
    for (int rows : {8, 16, 32}) problem.Run(rows, {.kernel = MatmulKernel::kDecode});
    problem.Run(40, {.kernel = MatmulKernel::kPrefill});
  }
  for (const char* form : {"q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0_s8", "q8_0_f16",
                           "f16", "bf16", "bf16_two"}) {
    for (const char* kernel : {"decode8", "decode16", "decode32", "prefill"}) {
      const EmuStats stats = EmuStatsOf(driver, Format("matmul_%s_%s", form, kernel));
      EXPECT(stats.shared_groups > 0);
      if (stats.bank_conflicts * 20 > stats.shared_groups)
        std::printf("    %s_%s: %s\n", form, kernel, stats.worst.c_str());
      EXPECT_LE(stats.bank_conflicts * 20, stats.shared_groups);
    }
  }
}

TEST(refuses_a_k_that_the_form_has_not) {
  MatmulArgs args = {.form = WeightForm::kQ4_K, .rows_max = 1};
  args.params.features = 16;
  args.params.in.k = 576;
  EXPECT(LaunchMatmul(TestDriver(), args).code() == Code::kInvalidArgument);
}

HARNESS_MAIN()
