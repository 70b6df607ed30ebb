// The row kernels of each ISA against scalar arithmetic in double.

#include <algorithm>

#include "core/float16.h"
#include "cpu_test_util.h"
#include "harness.h"

using namespace tokenmill;
using namespace tokenmill::cpu;
using namespace cpu_test;

namespace {

constexpr int kSizes[] = {1, 7, 16, 20, 33, 64, 576};

// Runs `body` for all kernels and sizes; what it returns must be the same bits on every ISA.
template <class Body>
void OnAll(Body body) {
  for (int n : kSizes) {
    std::vector<float> first;
    for (const CpuKernels* kernels : AllKernels()) {
      const std::vector<float> got = body(*kernels, n);
      if (first.empty()) first = got;
      EXPECT(got.size() == first.size() && SameBits(got.data(), first.data(), got.size()));
    }
  }
}

double UlpsOff(float got, double want) {
  const float nearest = static_cast<float>(want);
  const double ulp = std::nextafter(std::fabs(nearest), INFINITY) - std::fabs(nearest);
  return std::fabs(got - want) / ulp;
}

}  // namespace

TEST(RmsNorm) {
  OnAll([](const CpuKernels& kernels, int n) {
    const std::vector<float> x = RandomFloats(n, 1, 3), weight = RandomFloats(n, 2);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    std::vector<float> got(x), want;
    for (int i = 0; i < n; ++i)
      want.push_back(static_cast<float>(x[i] * weight[i] / std::sqrt(squares / n + 1e-5)));
    kernels.rms_norm(got.data(), weight.data(), 1e-5f, got.data(), n);
    EXPECT_LE(Nmse(got.data(), want.data(), n), 1e-13);
    return got;
  });
}

TEST(SoftmaxIsAccurateToTheUlp) {
  OnAll([](const CpuKernels& kernels, int n) {
    const int begin = n / 3, end = std::min(n, 250);
    std::vector<float> scores = RandomFloats(256, 4, 20);
    std::vector<float> got = scores;
    for (int i = 0; i < 256; ++i) {
      if (i < begin || i >= end) got[i] = NAN;  // masked, whatever it is
    }
    const SoftmaxState state = kernels.softmax(got.data(), begin, end, 0);
    const float max = *std::max_element(scores.begin() + begin, scores.begin() + end);
    EXPECT_EQ(state.max, max);
    double sum = 0;
    for (int i = begin / 16 * 16; i < (end + 15) / 16 * 16; ++i) {
      if (i < begin || i >= end) {
        EXPECT_EQ(got[i], 0.0f);
        continue;
      }
      const double shifted = static_cast<double>(scores[i] - max),
                   want = shifted < -87.3 ? 0 : std::exp(shifted);
      EXPECT_LE(UlpsOff(got[i], want), 2.0);
      sum += want;
    }
    EXPECT_LE(std::fabs(state.sum / sum - 1), 1e-6);
    return std::vector<float>(got.begin() + begin, got.begin() + end);
  });
}

TEST(ExpOverItsRange) {
  for (const CpuKernels* kernels : AllKernels()) {
    double worst = 0;
    for (float x = -87.2f; x < 0; x += 0.0137f) {
      float scores[16] = {0, x};
      kernels->softmax(scores, 0, 2, 0);
      worst = std::max(worst, UlpsOff(scores[1], std::exp(static_cast<double>(x))));
    }
    EXPECT_LE(worst, 1.5);
    float scores[16] = {0, -88, -1000, -INFINITY, NAN};
    EXPECT(std::isnan(kernels->softmax(scores, 0, 5, 0).sum));
    EXPECT(scores[1] == 0 && scores[2] == 0 && scores[3] == 0 && std::isnan(scores[4]));
  }
}

TEST(GatedActivations) {
  OnAll([](const CpuKernels& kernels, int n) {
    std::vector<float> gate = RandomFloats(n, 5, 4), up = RandomFloats(n, 6), all;
    gate[0] = -200;
    for (int kind = 0; kind < 2; ++kind) {
      std::vector<float> got(gate), want;
      kernels.gated[kind](got.data(), up.data(), got.data(), n);
      for (int i = 0; i < n; ++i) {
        const double x = gate[i];
        const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        const double y = kind == 0 ? x / (1 + std::exp(-x)) : 0.5 * x * (1 + std::tanh(u));
        want.push_back(static_cast<float>(y * up[i]));
        EXPECT_LE(std::fabs(got[i] - y * up[i]), 1e-6 * std::fabs(y * up[i]) + 2e-6 * std::fabs(up[i]));
      }
      EXPECT_LE(Nmse(got.data(), want.data(), n), 1e-12);
      all.insert(all.end(), got.begin(), got.end());
    }
    return all;
  });
}

TEST(Rope) {
  OnAll([](const CpuKernels& kernels, int pairs) {
    const std::vector<float> x = RandomFloats(2 * pairs + 3, 7);
    std::vector<float> all;
    for (int style = 0; style < 2; ++style) {
      std::vector<float> a(2 * pairs), b(2 * pairs), got(x);
      for (int i = 0; i < pairs; ++i) {
        const float cosine = static_cast<float>(std::cos(0.3 * i)),
                    sine = static_cast<float>(std::sin(0.3 * i));
        if (style == 1) {
          a[i] = cosine, b[i] = sine;
        } else {
          a[2 * i] = a[2 * i + 1] = cosine;
          b[2 * i] = -sine, b[2 * i + 1] = sine;
        }
      }
      kernels.rope[style](got.data(), a.data(), b.data(), pairs);
      std::vector<float> want(x);
      for (int i = 0; i < pairs; ++i) {
        const int p = style == 0 ? 2 * i : i, q = style == 0 ? 2 * i + 1 : i + pairs;
        const double cosine = static_cast<float>(std::cos(0.3 * i)),
                     sine = static_cast<float>(std::sin(0.3 * i));
        want[p] = static_cast<float>(x[p] * cosine - x[q] * sine);
        want[q] = static_cast<float>(x[p] * sine + x[q] * cosine);
      }
      EXPECT_LE(Nmse(got.data(), want.data(), got.size()), 1e-13);
      EXPECT(SameBits(got.data() + 2 * pairs, x.data() + 2 * pairs, 3));
      all.insert(all.end(), got.begin(), got.end());
    }
    return all;
  });
}

TEST(HalvesRoundLikeTheScalarOnes) {
  OnAll([](const CpuKernels& kernels, int n) {
    std::vector<float> x = RandomFloats(n, 8, 1000);
    if (n > 8) x[1] = 1e-7f, x[2] = 70000, x[3] = -INFINITY, x[4] = 65519, x[5] = NAN;
    std::vector<uint16_t> got(n + 1, 0xabcd);
    kernels.to_half(x.data(), got.data(), n);
    for (int i = 0; i < n; ++i) {
      const uint16_t want = F32ToF16(std::isnan(x[i]) ? x[i] : std::clamp(x[i], -65504.0f, 65504.0f));
      if (std::isnan(x[i])) EXPECT(std::isnan(F16ToF32(got[i])));
      else EXPECT_EQ(got[i], want);
    }
    EXPECT_EQ(got[n], 0xabcd);
    return std::vector<float>{};
  });
}

TEST(Int8KeepsHalfAStepOfEachValue) {
  OnAll([](const CpuKernels& kernels, int n) {
    std::vector<float> x = RandomFloats(n, 12, 3);
    std::vector<int8_t> got(n + 1, 77);
    const float scale = kernels.to_int8(x.data(), got.data(), n);
    float largest = 0;
    for (const float value : x) largest = std::max(largest, std::abs(value));
    EXPECT_EQ(scale, largest / 127.0f);
    std::vector<float> all = {scale};
    for (int i = 0; i < n; ++i) {
      EXPECT_LE(std::abs(static_cast<float>(got[i]) * scale - x[i]), 0.5001f * scale);
      all.push_back(got[i]);
    }
    EXPECT_EQ(static_cast<int>(got[n]), 77);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      x[n / 2] = bad;
      EXPECT(std::isnan(kernels.to_int8(x.data(), got.data(), n)));
      EXPECT_EQ(static_cast<int>(got[n - 1]), 0);
    }
    const std::vector<float> zeros(n);
    EXPECT_EQ(kernels.to_int8(zeros.data(), got.data(), n), 0.0f);
    return all;
  });
}

TEST(TilesAreStored) {
  OnAll([](const CpuKernels& kernels, int n) {
    const int columns = std::min(n, 32), rows = 3;
    const std::vector<float> tile = RandomFloats(rows * 32, 9), bias = RandomFloats(32, 10),
                             before = RandomFloats(rows * 40, 11);
    std::vector<float> got(before);
    kernels.store_tile(tile.data(), rows, columns, bias.data(), true, got.data(), 40);
    for (int row = 0; row < rows; ++row) {
      for (int c = 0; c < 40; ++c) {
        const float old = before[row * 40 + c];
        EXPECT_EQ(got[row * 40 + c], c < columns ? old + (tile[row * 32 + c] + bias[c]) : old);
      }
    }
    std::vector<float> plain(before);
    kernels.store_tile(tile.data(), rows, columns, nullptr, false, plain.data(), 40);
    for (int c = 0; c < columns; ++c) EXPECT_EQ(plain[40 + c], tile[32 + c]);
    kernels.add(plain.data(), tile.data(), n <= 96 ? n : 96);
    kernels.scale(plain.data(), 0.5f, n <= 96 ? n : 96);
    EXPECT_EQ(plain[0], (tile[0] + tile[0]) * 0.5f);
    got.insert(got.end(), plain.begin(), plain.end());
    return got;
  });
}

TEST(LogitStatistics) {
  OnAll([](const CpuKernels& kernels, int n) {
    for (float cap : {0.0f, 10.0f}) {
      std::vector<float> logits = RandomFloats(n, 12, 8), got(logits);
      const LogitStats stats = kernels.logit_stats(got.data(), n, cap);
      double sum = 0, max = -INFINITY;
      for (float& logit : logits) {
        const double capped = cap > 0 ? cap * std::tanh(logit / static_cast<double>(cap)) : logit;
        EXPECT_LE(std::fabs(got[&logit - logits.data()] - capped), 4e-6);
        max = std::max<double>(max, got[&logit - logits.data()]);
      }
      for (float logit : got) sum += std::exp(logit - max);
      EXPECT_EQ(stats.max, static_cast<float>(max));
      EXPECT_LE(std::fabs(stats.sum / sum - 1), 1e-6);
      EXPECT(stats.finite);
      for (float bad : {NAN, INFINITY, -INFINITY}) {
        got[n - 1] = bad;
        EXPECT(!kernels.logit_stats(got.data(), n, cap).finite);
      }
    }
    std::vector<float> logits = RandomFloats(n, 13);
    std::vector<int32_t> found(n), want;
    for (int i = 0; i < n; ++i) {
      if (logits[i] >= logits[0]) want.push_back(i);
    }
    found.resize(static_cast<size_t>(kernels.collect(logits.data(), n, logits[0], found.data())));
    EXPECT(found == want);
    return std::vector<float>{};
  });
}

TEST(SegmentsMerge) {
  OnAll([](const CpuKernels& kernels, int size) {
    const int n = (size + 15) / 16 * 16;
    std::vector<float> a = RandomFloats(n, 14), all;
    const std::vector<float> before(a), b = RandomFloats(n, 15);
    SoftmaxState state = {3, 5};
    const SoftmaxState next = {4.5f, 2};
    kernels.merge(a.data(), &state, b.data(), &next, n);
    for (int i = 0; i < n; ++i) EXPECT_LE(std::fabs(a[i] - (before[i] * std::exp(-1.5) + b[i])), 1e-6);
    EXPECT_EQ(state.max, 4.5f);
    EXPECT_LE(std::fabs(state.sum - (5 * std::exp(-1.5) + 2)), 1e-6);
    return a;
  });
}

HARNESS_MAIN()
