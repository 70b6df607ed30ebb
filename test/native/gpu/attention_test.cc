// Paged attention against double loops over what the pages hold, and the laws of invariance, bit for bit.

#include "kernels/cuda/attention.h"

#include "kv_fixture.h"

namespace {

using namespace gpu_test;

struct Case {
  KvShape shape;
  std::vector<Span> spans;
  float softcap = 0;
  float q_sigma = 1;
};

int GroupOf(const KvShape& shape) { return shape.query_heads / shape.kv_heads; }

float ScaleOf(const KvShape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

/// Keys and values of every position up to a sequence's last row, by sequence, position and head alone. `exact` takes
/// them before they are rounded, [sequence][position][kv head][key, value][head_dim].
void FillKv(const Case& c, KvFixture& kv, std::vector<std::vector<float>>* exact) {
  const size_t dim = static_cast<size_t>(c.shape.head_dim);
  for (int s = 0; s < static_cast<int>(c.spans.size()); ++s) {
    const int end = c.spans[static_cast<size_t>(s)].position + c.spans[static_cast<size_t>(s)].rows;
    exact->push_back(RandomFloats(static_cast<size_t>(end * c.shape.kv_heads * 2) * dim, static_cast<uint32_t>(s + 1)));
    for (int p = 0; p < end; ++p) {
      for (int h = 0; h < 2 * c.shape.kv_heads; ++h) {
        kv.Set(s, p, h / 2, h % 2 != 0, exact->back().data() + static_cast<size_t>(p * 2 * c.shape.kv_heads + h) * dim);
      }
    }
  }
  kv.Upload();
}

/// As the header of attention.h says.
std::vector<double> RoundQuery(const float* q, int dim) {
  float largest = 0;
  for (int d = 0; d < dim; ++d) largest = std::max(largest, std::abs(q[d]));
  const int down = largest > 0 ? std::max(std::ilogb(largest) - 11, -100) : 0;
  std::vector<double> rounded;
  for (int d = 0; d < dim; ++d) {
    const float scaled = std::ldexp(q[d], -down);
    rounded.push_back(std::ldexp(static_cast<double>(tokenmill::F16ToF32(tokenmill::F32ToF16(scaled))), down));
  }
  return rounded;
}

/// Double loops; `at(sequence, position, kv head, value, d)` gives keys and values, `round` whether q is rounded.
template <class At>
std::vector<double> Oracle(const Case& c, const std::vector<float>& q, bool round, At at) {
  const int dim = c.shape.head_dim;
  std::vector<double> out;
  size_t row = 0;
  for (int s = 0; s < static_cast<int>(c.spans.size()); ++s) {
    const Span& span = c.spans[static_cast<size_t>(s)];
    for (int r = 0; r < span.rows; ++r, ++row) {
      const int position = span.position + r;
      const int first = c.shape.window > 0 ? std::max(0, position - c.shape.window + 1) : 0;
      for (int h = 0; h < c.shape.query_heads; ++h) {
        const float* head = q.data() + (row * static_cast<size_t>(c.shape.query_heads) + static_cast<size_t>(h)) *
                                           static_cast<size_t>(dim);
        const std::vector<double> query = round ? RoundQuery(head, dim) : std::vector<double>(head, head + dim);
        std::vector<double> weights;
        double maximum = -HUGE_VAL, sum = 0;
        for (int p = first; p <= position; ++p) {
          double score = 0;
          for (int d = 0; d < dim; ++d)
            score += query[static_cast<size_t>(d)] * at(s, p, h / GroupOf(c.shape), false, d);
          score *= static_cast<double>(ScaleOf(c.shape));
          if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
          weights.push_back(score);
          maximum = std::max(maximum, score);
        }
        for (double& weight : weights) sum += weight = std::exp(weight - maximum);
        for (int d = 0; d < dim; ++d) {
          double total = 0;
          for (int p = first; p <= position; ++p) {
            total += weights[static_cast<size_t>(p - first)] * at(s, p, h / GroupOf(c.shape), true, d);
          }
          out.push_back(total / sum);
        }
      }
    }
  }
  return out;
}

std::vector<float> QueriesOf(const Case& c, int rows) {
  return RandomFloats(static_cast<size_t>(rows * c.shape.query_heads * c.shape.head_dim), 99, c.q_sigma);
}

enum class Kernel { kPrefill, kDecode };

/// Runs a kernel with tiles of `tile_rows` (0: the most); of decode, with `splits` and twice, as graphs replay.
std::vector<float> Run(Driver& driver, const Case& c, const KvFixture& kv, const std::vector<float>& q, Kernel kernel,
                       int tile_rows = 0, int splits = 2) {
  const int most = kernel == Kernel::kPrefill ? AttentionPrefillRows(c.shape.query_heads, c.shape.kv_heads)
                                              : AttentionDecodeRows(c.shape.query_heads, c.shape.kv_heads);
  if (tile_rows == 0) tile_rows = most;
  const StepFixture step(driver, c.spans, tile_rows);
  const DeviceBuffer<float> queries(driver, q);
  DeviceBuffer<float> out(driver, q.size());
  AttentionParams params = {};
  params.step = step.View();
  params.kv = kv.View();
  params.tiles = step.tiles();
  params.tile_count = &params.step.counts->attention_tiles;
  params.q = queries.data();
  params.out = out.data();
  params.scale = ScaleOf(c.shape);
  params.softcap = c.softcap;
  const int tiles_max = step.tile_count + 1;  // a bucket's grid is larger than the step
  if (kernel == Kernel::kPrefill) {
    (void)GPU_OK(driver, LaunchAttentionPrefill(driver, params, tiles_max));
    return out.Download();
  }
  for (const Span& span : c.spans) {
    params.segments = std::max(params.segments, AttentionSegments(span.position, span.rows, c.shape.window) + 1);
  }
  params.tile_queries = std::min(16, tile_rows * std::min(16, GroupOf(c.shape)));
  const DeviceBuffer<float> partials(
      driver, static_cast<size_t>(AttentionPartialFloats(params.kv, tiles_max, params.segments, params.tile_queries)));
  const DeviceBuffer<int32_t> counters(
      driver, std::vector<int32_t>(
                  static_cast<size_t>(tiles_max * AttentionHeadTiles(c.shape.query_heads, c.shape.kv_heads)), 0));
  params.partials = partials.data();
  params.counters = counters.data();
  (void)GPU_OK(driver, LaunchAttentionDecode(driver, params, tiles_max, splits));
  const std::vector<float> first = out.Download();
  (void)GPU_OK(driver, LaunchAttentionDecode(driver, params, tiles_max, splits));
  EXPECT(Bits(out.Download()) == Bits(first));
  for (const int32_t count : counters.Download()) EXPECT_EQ(count, 0);
  return first;
}

/// Both kernels, to the same bits, against the oracles. A weight's rounding to f16 is off by 2^-12 of it at most, some
/// 1.4e-4 in the root mean square: 2e-8 of the power of independent values.
void Check(Driver& driver, const Case& c) {
  KvFixture kv(driver, c.shape, c.spans);
  std::vector<std::vector<float>> exact;
  FillKv(c, kv, &exact);
  int rows = 0;
  for (const Span& span : c.spans) rows += span.rows;
  const std::vector<float> q = QueriesOf(c, rows);
  const std::vector<float> out = Run(driver, c, kv, q, Kernel::kPrefill);
  const auto stored = [&](int s, int p, int h, bool value, int d) {
    return static_cast<double>(kv.At(s, p, h, value, d));
  };
  const auto unrounded = [&](int s, int p, int h, bool value, int d) {
    const size_t at = static_cast<size_t>(((p * c.shape.kv_heads + h) * 2 + (value ? 1 : 0)) * c.shape.head_dim + d);
    return static_cast<double>(exact[static_cast<size_t>(s)][at]);
  };
  EXPECT_LE(Nmse(out, Oracle(c, q, true, stored)), 1e-7);
  EXPECT_LE(Nmse(out, Oracle(c, q, false, unrounded)), 5e-4);
  EXPECT(Bits(Run(driver, c, kv, q, Kernel::kDecode)) == Bits(out));
}

TEST(every_head_size_in_f16) {
  for (const int dim : {16, 32, 64, 80, 96, 128, 256}) {
    ForSeeds([&](Driver& driver) { Check(driver, {{2, 1, dim}, {{70, 3}}}); });
  }
}

TEST(every_head_size_in_int8) {
  for (const int dim : {16, 32, 64, 80, 96, 128, 256}) {
    ForSeeds([&](Driver& driver) { Check(driver, {{2, 1, dim, true}, {{70, 3}}}); });
  }
}

TEST(shared_heads_and_mixed_sequences) {
  for (const int group : {1, 3, 4, 8, 16, 20}) {
    ForSeeds([&](Driver& driver) { Check(driver, {{2 * group, 2, 64}, {{0, 1}, {33, 1}, {10, 7}, {0, 18}}}); });
  }
}

TEST(several_segments) {
  for (const bool int8 : {false, true}) {
    ForSeeds([&](Driver& driver) {
      Check(driver, {{4, 2, 64, int8}, {{250, 13}, {600, 1}, {255, 1}, {256, 1}}});
      Check(driver, {{2, 1, 256, int8}, {{300, 2}}});
    });
  }
}

TEST(windows) {
  for (const int window : {1, 5, 16, 40, 300}) {
    ForSeeds([&](Driver& driver) { Check(driver, {{4, 1, 32, window == 40, window}, {{700, 9}, {0, 3}, {250, 20}}}); });
  }
}

TEST(soft_cap) {
  ForSeeds([](Driver& driver) { Check(driver, {{2, 1, 64}, {{290, 2}, {3, 2}}, 5.0f, 4.0f}); });
}

TEST(queries_of_any_magnitude) {
  for (const float sigma : {1e-20f, 1e-3f}) {
    ForSeeds([&](Driver& driver) { Check(driver, {{2, 1, 32}, {{40, 2}}, 0, sigma}); });
  }
}

TEST(deep_in_a_sequence) {
  ForSeeds([](Driver& driver) { Check(driver, {{1, 1, 16, false, 100}, {{100000, 2}}}); });
}

TEST(tiles_splits_and_company_leave_the_bits) {
  ForSeeds([](Driver& driver) {
    const Case c = {{4, 2, 32, false, 0}, {{500, 20}, {90, 1}, {0, 5}}};
    KvFixture kv(driver, c.shape, c.spans);
    std::vector<std::vector<float>> exact;
    FillKv(c, kv, &exact);
    const std::vector<float> q = QueriesOf(c, 26);
    const std::vector<uint32_t> whole = Bits(Run(driver, c, kv, q, Kernel::kPrefill));
    for (const int tile_rows : {1, 3}) EXPECT(Bits(Run(driver, c, kv, q, Kernel::kPrefill, tile_rows)) == whole);
    for (const int splits : {1, 3, 5}) EXPECT(Bits(Run(driver, c, kv, q, Kernel::kDecode, 4, splits)) == whole);
    EXPECT(Bits(Run(driver, c, kv, q, Kernel::kDecode, 1)) == whole);
    // The first sequence's last rows alone.
    Case alone = c;
    alone.spans = {{517, 3}};
    const size_t width = 4 * 32;
    const std::vector<float> some(q.begin() + 17 * width, q.begin() + 20 * width);
    const std::vector<uint32_t> expected(whole.begin() + 17 * width, whole.begin() + 20 * width);
    EXPECT(Bits(Run(driver, alone, kv, some, Kernel::kDecode)) == expected);
    EXPECT(Bits(Run(driver, alone, kv, some, Kernel::kPrefill)) == expected);
  });
}

TEST(nan_stays_in_its_rows) {
  for (const bool int8 : {false, true}) {
    ForSeeds([&](Driver& driver) {
      const Case c = {{2, 1, 32, int8}, {{60, 6}, {20, 2}}};
      KvFixture kv(driver, c.shape, c.spans);
      std::vector<std::vector<float>> exact;
      FillKv(c, kv, &exact);
      std::vector<float> q = QueriesOf(c, 8);
      const std::vector<uint32_t> clean = Bits(Run(driver, c, kv, q, Kernel::kPrefill));
      // As rotary embedding stores a NaN: position 63 of the first sequence.
      std::vector<float> key(32, 1.0f);
      key[0] = NAN;
      if (int8) kv.SetScale(0, 63, 0, true, NAN);
      if (!int8) kv.Set(0, 63, 0, false, key.data());
      kv.Upload();
      q[7 * 64] = NAN;  // the last row's first head
      for (const Kernel kernel : {Kernel::kPrefill, Kernel::kDecode}) {
        const std::vector<float> out = Run(driver, c, kv, q, kernel);
        for (size_t i = 0; i < out.size(); ++i) {
          const size_t row = i / 64;
          const bool touched = (row >= 3 && row < 6) || (row == 7 && i % 64 < 32);
          EXPECT(touched ? std::isnan(out[i]) : Bits(out)[i] == clean[i]);
        }
      }
    });
  }
}

TEST(empty_grids) {
  ForSeeds([](Driver& driver) {
    const Case c = {{2, 1, 64}, {}};
    KvFixture kv(driver, c.shape, {{0, 1}});
    const std::vector<float> q(128, 1.0f);
    StepFixture step(driver, {});
    const DeviceBuffer<float> queries(driver, q), out(driver, q);
    AttentionParams params = {};
    params.step = step.View(), params.kv = kv.View(), params.tiles = step.tiles();
    params.tile_count = &params.step.counts->attention_tiles;
    params.q = queries.data(), params.out = out.data(), params.scale = 1;
    (void)GPU_OK(driver, LaunchAttentionPrefill(driver, params, 0));
    (void)GPU_OK(driver, LaunchAttentionPrefill(driver, params, 3));
    (void)GPU_OK(driver, LaunchAttentionDecode(driver, params, 3, 2));
    EXPECT(out.Download() == q);
  });
}

// Rows are padded so that ldmatrix and fragments meet no bank twice; asynchronous copies of short rows do.
TEST(shared_memory_has_few_bank_conflicts) {
  if (!Emulated()) return;
  for (const bool int8 : {false, true}) {
    for (const int dim : {64, 80, 128, 256}) {
      Driver& driver = TestDriver();
      const Case c = {{4, 1, dim, int8}, {{120, 16}}};
      KvFixture kv(driver, c.shape, c.spans);
      std::vector<std::vector<float>> exact;
      FillKv(c, kv, &exact);
      ResetEmuStats(driver);
      const std::vector<float> q = QueriesOf(c, 16);
      (void)Run(driver, c, kv, q, Kernel::kPrefill);
      (void)Run(driver, c, kv, q, Kernel::kDecode);
      for (const char* kind : {"prefill", "decode"}) {
        const EmuStats stats =
            EmuStatsOf(driver, tokenmill::Format("attention_%s_%s_%d", kind, int8 ? "int8" : "f16", dim));
        EXPECT(stats.shared_groups > 0);
        EXPECT_LE(stats.bank_conflicts * 5, stats.shared_groups);
        if (stats.bank_conflicts * 5 > stats.shared_groups) {
          std::printf("%s %d %d: %llu of %llu\n%s\n", kind, int8, dim,
                      static_cast<unsigned long long>(stats.bank_conflicts),
                      static_cast<unsigned long long>(stats.shared_groups), stats.worst.c_str());
        }
      }
    }
  }
}

TEST(unsupported_heads_are_refused) {
  AttentionParams params = {};
  params.kv.head_dim = 48, params.kv.kv_heads = 1, params.kv.query_heads = 1;
  const Status status = LaunchAttentionPrefill(TestDriver(), params, 1);
  EXPECT(status.code() == tokenmill::Code::kUnsupportedModel);
}

}  // namespace

HARNESS_MAIN()
