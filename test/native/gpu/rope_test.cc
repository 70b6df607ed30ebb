// Norm, rotation and what is stored in pages, against the reference's own loops (kernels/reference/math.h).

#include "kernels/cuda/rope.h"

#include "kernels/reference/math.h"
#include "kv_fixture.h"

namespace {

using namespace gpu_test;
using tokenmill::RopeStyle;
using tokenmill::RopeTable;

struct Case {
  KvShape shape;
  int dims;
  RopeStyle style = RopeStyle::kHalves;
  bool norms = false;
  std::vector<Span> spans = {{0, 2}, {37, 3}, {16, 1}};
};

RopeTable TableOf(const Case& c) {
  RopeTable table;
  table.style = c.style;
  table.dims = c.dims;
  table.magnitude = 1.25f;
  for (int i = 0; i < c.dims / 2; ++i) table.frequencies.push_back(std::pow(10000.0, -2.0 * i / c.dims));
  return table;
}

int RowsOf(const Case& c) {
  int rows = 0;
  for (const Span& span : c.spans) rows += span.rows;
  return rows;
}

size_t Width(const Case& c, int heads) { return static_cast<size_t>(RowsOf(c) * heads * c.shape.head_dim); }

/// Rows as they are after the kernel: q, and keys before they are stored.
struct Inputs {
  std::vector<float> q, k, v;
};

void Prepare(const Case& c, const std::vector<float>& norm, int heads, std::vector<float>* x) {
  const RopeTable table = TableOf(c);
  float* head = x->data();
  for (const Span& span : c.spans) {
    for (int r = 0; r < span.rows; ++r) {
      for (int h = 0; h < heads; ++h, head += c.shape.head_dim) {
        if (c.norms) tokenmill::reference::RmsNorm(head, norm.data(), 1e-5f, c.shape.head_dim, head);
        tokenmill::reference::Rotate(table, span.position + r, head);
      }
    }
  }
}

/// Runs the kernel on `in`; q becomes what it left.
bool Run(Driver& driver, const Case& c, KvFixture& kv, const std::vector<float>& norm, Inputs* in) {
  const StepFixture step(driver, c.spans);
  kv.Upload();
  const DeviceBuffer<float> q(driver, in->q), k(driver, in->k), v(driver, in->v), weights(driver, norm);
  const DeviceBuffer<float> angles(driver, RopeAngles(TableOf(c), 0, 64));
  RopeParams params = {};
  params.step = step.View();
  params.kv = kv.View();
  params.q = q.data(), params.k = k.data(), params.v = v.data();
  params.q_norm = params.k_norm = c.norms ? weights.data() : nullptr;
  params.q_epsilon = params.k_epsilon = 1e-5f;
  params.angles = angles.data();
  params.dims = c.dims;
  params.interleaved = c.style == RopeStyle::kInterleaved;
  if (!GPU_OK(driver, LaunchRope(driver, params, step.rows + 3))) return false;
  in->q = q.Download();
  kv.Download();
  return true;
}

/// Calls body(sequence, position, row).
template <class Body>
void ForRows(const Case& c, Body body) {
  int row = 0;
  for (int s = 0; s < static_cast<int>(c.spans.size()); ++s) {
    for (int r = 0; r < c.spans[static_cast<size_t>(s)].rows; ++r)
      body(s, c.spans[static_cast<size_t>(s)].position + r, row++);
  }
}

void Check(Driver& driver, const Case& c) {
  const int dim = c.shape.head_dim;
  KvFixture kv(driver, c.shape, c.spans);
  Inputs in = {RandomFloats(Width(c, c.shape.query_heads), 1), RandomFloats(Width(c, c.shape.kv_heads), 2),
               RandomFloats(Width(c, c.shape.kv_heads), 3, 3.0f)};
  const std::vector<float> norm = RandomFloats(static_cast<size_t>(dim), 4);
  Inputs expected = in;
  Prepare(c, norm, c.shape.query_heads, &expected.q);
  Prepare(c, norm, c.shape.kv_heads, &expected.k);
  if (!Run(driver, c, kv, norm, &in)) return;
  // Without norms the same operations in the same order.
  if (!c.norms) EXPECT(Bits(in.q) == Bits(expected.q));
  EXPECT_LE(Nmse(in.q, expected.q), 1e-12);
  std::vector<float> stored, wanted;
  ForRows(c, [&](int s, int position, int row) {
    for (int h = 0; h < 2 * c.shape.kv_heads; ++h) {
      const float* from = (h % 2 != 0 ? in.v : expected.k).data() + (row * c.shape.kv_heads + h / 2) * dim;
      std::vector<float> x(from, from + dim);
      if (c.shape.int8) tokenmill::reference::RoundToInt8(x.data(), dim);
      for (int d = 0; d < dim; ++d) {
        stored.push_back(kv.At(s, position, h / 2, h % 2 != 0, d));
        // Levels have no negative zero.
        wanted.push_back(c.shape.int8 ? x[static_cast<size_t>(d)] + 0.0f
                                      : tokenmill::F16ToF32(tokenmill::F32ToF16(x[static_cast<size_t>(d)])));
      }
    }
  });
  if (!c.norms) EXPECT(Bits(stored) == Bits(wanted));
  // A norm's last bit may move an element to the next half or level.
  EXPECT_LE(Nmse(stored, wanted), c.shape.int8 ? 1e-6 : 1e-8);
}

TEST(every_head_size_and_style) {
  for (const int dim : {16, 64, 80, 96, 128, 256}) {
    for (const bool int8 : {false, true}) {
      ForSeeds([&](Driver& driver) {
        Check(driver, {{3, 1, dim, int8}, dim});
        Check(driver, {{4, 2, dim, int8}, dim / 2, RopeStyle::kInterleaved});
        Check(driver, {{2, 2, dim, int8}, dim - 10, RopeStyle::kHalves, true});
        Check(driver, {{3, 3, dim, int8}, dim, RopeStyle::kInterleaved, true});
      });
    }
  }
}

TEST(no_rotation) {
  ForSeeds([](Driver& driver) { Check(driver, {{2, 1, 64}, 0}); });
}

TEST(values_out_of_range_and_nan) {
  ForSeeds([](Driver& driver) {
    const Case c = {{1, 1, 16}, 0, RopeStyle::kHalves, false, {{3, 3}}};
    KvFixture kv(driver, c.shape, c.spans);
    Inputs in = {std::vector<float>(48, 1.0f), std::vector<float>(48, 1.0f), std::vector<float>(48, 2.0f)};
    in.k[0] = 65519.9f, in.k[1] = -1e6f, in.v[2] = 70000.0f, in.v[3] = INFINITY;
    in.k[16 + 5] = NAN;
    in.v[32 + 6] = NAN;
    if (!Run(driver, c, kv, {}, &in)) return;
    EXPECT_EQ(kv.At(0, 3, 0, false, 0), 65504.0f);
    EXPECT_EQ(kv.At(0, 3, 0, false, 1), -65504.0f);
    EXPECT_EQ(kv.At(0, 3, 0, true, 2), 65504.0f);
    EXPECT_EQ(kv.At(0, 3, 0, true, 3), 65504.0f);
    EXPECT(std::isnan(kv.At(0, 4, 0, false, 5)));
    EXPECT_EQ(kv.At(0, 4, 0, true, 5), 2.0f);
    EXPECT(std::isnan(kv.At(0, 5, 0, false, 0)));
    for (int d = 0; d < 16; ++d) EXPECT_EQ(kv.At(0, 5, 0, true, d), 0.0f);
  });
}

TEST(int8_of_zeros_and_nan) {
  ForSeeds([](Driver& driver) {
    const Case c = {{1, 1, 16, true}, 0, RopeStyle::kHalves, false, {{3, 1}}};
    KvFixture kv(driver, c.shape, c.spans);
    Inputs in = {std::vector<float>(16, 1.0f), std::vector<float>(16, 0.0f), std::vector<float>(16, 2.0f)};
    in.v[6] = NAN;
    if (!Run(driver, c, kv, {}, &in)) return;
    EXPECT_EQ(kv.Scale(0, 3, 0, false), 0.0f);
    EXPECT(std::isnan(kv.Scale(0, 3, 0, true)));
    for (int d = 0; d < 16; ++d) EXPECT_EQ(kv.At(0, 3, 0, false, d), 0.0f);
  });
}

TEST(no_rows_and_unsupported_heads) {
  RopeParams params = {};
  params.kv.head_dim = 64, params.kv.query_heads = params.kv.kv_heads = 1;
  EXPECT(LaunchRope(TestDriver(), params, 0).ok());
  params.kv.head_dim = 258;
  EXPECT(LaunchRope(TestDriver(), params, 1).code() == tokenmill::Code::kUnsupportedModel);
}

TEST(pages_are_cleared_behind_their_tokens) {
  tokenmill::Program program;
  program.kv_groups = {{0, 2}};
  program.kv_layers = {{0, 0, 4, 2, 16}, {0, 1, 2, 1, 32}};
  for (const bool int8 : {false, true}) {
    const size_t bytes = static_cast<size_t>(KvPageBytes(program, 0, int8));
    EXPECT_EQ(bytes, static_cast<size_t>(2 * KvHeadBytes(16, int8) + KvHeadBytes(32, int8)));
    EXPECT_EQ(KvPageBytes(program, 0, int8, 1), 2 * KvHeadBytes(16, int8));
    std::vector<std::byte> page(bytes, std::byte{1});
    ClearKvPage(program, 0, int8, 5, page.data());
    const auto kept = std::count(page.begin(), page.end(), std::byte{1});
    EXPECT_EQ(static_cast<size_t>(kept), bytes / 16 * 5);
  }
}

}  // namespace

HARNESS_MAIN()
