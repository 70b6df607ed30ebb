// Products of bf16 by bf16, bit for bit against a scalar model of the instructions, and what programs make of them.

#include <bit>
#include <cstdlib>
#include <filesystem>

#include "core/float16.h"
#include "cpu_test_runner.h"
#include "harness.h"
#include "kernels/cpu/pack.h"

using namespace tokenmill;
using namespace tokenmill::cpu;
using namespace cpu_test;

namespace {

std::vector<const CpuKernels*> Bf16Kernels() {
  std::vector<const CpuKernels*> found;
  for (const CpuKernels* kernels : AllKernels()) {
    if (kernels->to_bf16 != nullptr) found.push_back(kernels);
  }
  if (found.empty()) std::printf("    no table of this machine and build multiplies bf16\n");
  return found;
}

float Flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// As vcvtneps2bf16 has it: by the two neighbours and which of them is nearer, not by adding to the bits.
uint16_t RoundedBf16(float x) {
  x = Flushed(x);
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t below = static_cast<uint16_t>(bits >> 16);
  if (std::isnan(x)) return below | 0x40;
  if (std::isinf(x) || (bits & 0xffff) == 0) return below;
  const double step = std::ldexp(1.0, std::ilogb(x) - 7);
  const double over = std::fabs(static_cast<double>(x) - Bf16ToF32(below)) / step;
  const bool up = over > 0.5 || (over == 0.5 && below % 2 == 1);
  return static_cast<uint16_t>(below + (up ? 1 : 0));
}

// One column of vdpbf16ps: the odd elements first, each product and sum rounded once.
float AddPair(float sum, const uint16_t* a, const uint16_t* b) {
  for (int i : {1, 0}) {
    sum = Flushed(std::fma(Flushed(Bf16ToF32(a[i])), Flushed(Bf16ToF32(b[i])), Flushed(sum)));
  }
  return sum;
}

// Magnitudes from 2^low to 2^high, and every fourth number about as small as numbers get.
std::vector<uint16_t> RandomBf16(size_t count, uint32_t seed, int low, int high) {
  std::mt19937 engine(seed);
  std::vector<uint16_t> values(count);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(engine()), above = bits >> 16;
    const uint32_t range = static_cast<uint32_t>(high - low), lowest = static_cast<uint32_t>(low + 127);
    const uint32_t exponent = i % 4 == 0 ? above % 3 : lowest + above % range;
    values[i] = static_cast<uint16_t>((bits & 0x8000) | exponent << 7 | (bits & 0x7f));
  }
  return values;
}

struct Product {
  int rows;
  int64_t k;
  std::vector<uint16_t> weights;  // [32][k]
  std::vector<uint16_t> inputs;  // [rows][k]
};

std::vector<float> Multiply(const CpuKernels& kernels, const Product& product) {
  std::vector<uint8_t> pair(PairBytes(PackedFormat::kBf16K2, product.k));
  PackPair(PackedFormat::kBf16K2, DType::kBF16, product.weights.data(), kPairColumns, product.k, pair.data());
  std::vector<float> out(static_cast<size_t>(product.rows * kPairColumns));
  MatmulArgs args = {};
  args.weights = pair.data();
  args.k = product.k;
  args.bf16 = product.inputs.data();
  args.stride = product.k;
  args.rows = product.rows;
  args.out = out.data();
  kernels.matmul[static_cast<int>(PackedFormat::kBf16K2)](args);
  return out;
}

std::vector<float> Modelled(const Product& product) {
  std::vector<float> out(static_cast<size_t>(product.rows * kPairColumns));
  for (int64_t row = 0; row < product.rows; ++row) {
    for (int64_t column = 0; column < kPairColumns; ++column) {
      float sum = 0;
      for (int64_t k = 0; k < product.k; k += 2) {
        sum = AddPair(sum, &product.weights[static_cast<size_t>(column * product.k + k)],
                      &product.inputs[static_cast<size_t>(row * product.k + k)]);
      }
      out[static_cast<size_t>(row * kPairColumns + column)] = sum;
    }
  }
  return out;
}

}  // namespace

TEST(ActivationsAreRoundedAsTheInstructionDoes) {
  std::vector<float> x = RandomFloats(1000, 1, 100);
  for (uint32_t bits : {0x3f808000u, 0x3f818000u, 0x3f808001u, 0x3f807fffu, 0x7f7fffffu, 0x7f7f7fffu,
                        0x007fffffu, 0x807fffffu, 0x00800000u, 0x00000001u, 0x80000000u, 0x7f800000u,
                        0xff800000u, 0x7fc12345u, 0x7f800001u, 0xffffffffu}) {
    x.push_back(std::bit_cast<float>(bits));
  }
  for (const CpuKernels* kernels : Bf16Kernels()) {
    for (size_t count = 0; count <= x.size(); count += count < 40 ? 1 : 61) {
      const float* from = x.data() + x.size() - count;
      std::vector<uint16_t> got(count + 1, 0xabcd);
      kernels->to_bf16(from, got.data(), static_cast<int>(count));
      int wrong = 0;
      for (size_t i = 0; i < count; ++i) wrong += got[i] == RoundedBf16(from[i]) ? 0 : 1;
      EXPECT_EQ(wrong, 0);
      EXPECT_EQ(static_cast<int>(got[count]), 0xabcd);
    }
  }
}

void ExpectTheInstructionsBits(int low, int high) {
  for (const CpuKernels* kernels : Bf16Kernels()) {
    for (int64_t k : {2, 34, 1022, 2600}) {
      for (int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 21}) {
        const uint32_t seed = static_cast<uint32_t>(k * 32 + rows);
        const Product product = {rows, k, RandomBf16(static_cast<size_t>(kPairColumns * k), seed, low, high),
                                 RandomBf16(static_cast<size_t>(rows * k), seed + 1, low, high)};
        const std::vector<float> got = Multiply(*kernels, product), want = Modelled(product);
        EXPECT(SameBits(got.data(), want.data(), got.size()));
      }
    }
  }
}

TEST(ProductsAreTheInstructionsBits) { ExpectTheInstructionsBits(-25, 25); }

// Products and sums about 2^-126.
TEST(SubnormalSumsAreFlushed) { ExpectTheInstructionsBits(-66, -58); }

// What tells this order of the two products, and flushing, from others.
TEST(TheModelTellsOrdersAndSubnormalsApart) {
  const uint16_t one = 0x3f80, tiny = 0x0001, small = 0x3300;  // 1, a subnormal, 2^-25
  const uint16_t a[2] = {small, one}, ones[2] = {one, one}, huge[2] = {tiny, tiny},
                 large[2] = {0x7f00, 0x7f00};
  EXPECT_EQ(AddPair(-1, a, ones), std::ldexp(1.0f, -25));
  EXPECT_EQ(AddPair(0, huge, large), 0.0f);
  for (const CpuKernels* kernels : Bf16Kernels()) {
    Product product = {1, 4, std::vector<uint16_t>(32 * 4), {one, one, one, one}};
    for (int column = 0; column < 32; ++column) {
      const uint16_t weights[4] = {static_cast<uint16_t>(one | 0x8000), 0, small, one};
      std::copy_n(weights, 4, product.weights.data() + 4 * column);
    }
    std::vector<float> got = Multiply(*kernels, product);
    EXPECT_EQ(got[31], std::ldexp(1.0f, -25));
    product = {1, 2, std::vector<uint16_t>(32 * 2, tiny), {0x7f00, 0x7f00}};
    got = Multiply(*kernels, product);
    EXPECT_EQ(got[0], 0.0f);
  }
}

namespace {

// kPlain's widths are no multiples of 32: rows are rounded by themselves, and the last pair of strips in part. An odd
// width stays with f32 activations.
ModelShape Shape(DType type, int ffn) {
  ModelShape shape = kPlain;
  shape.matrix_type = shape.table_type = type;
  shape.ffn = ffn;
  return shape;
}

// Which has no products of bf16.
constexpr CpuIsa kOther = CpuIsa::kAvx2;

std::vector<CpuIsa> Bf16Isas() {
  std::vector<CpuIsa> found;
  for (CpuIsa isa : Isas()) {
    if (SelectKernels(isa)->to_bf16 != nullptr) found.push_back(isa);
  }
  return found;
}

bool Same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!SameBits(a[i].data(), b[i].data(), a[i].size())) return false;
  }
  return true;
}

double LogitNmse(const std::vector<std::vector<float>>& got, const std::vector<std::vector<float>>& want) {
  std::vector<float> a, b;
  for (const auto& row : got) a.insert(a.end(), row.begin(), row.end());
  for (const auto& row : want) b.insert(b.end(), row.begin(), row.end());
  return Nmse(a.data(), b.data(), std::min(a.size(), b.size()));
}

}  // namespace

TEST(ProgramsRoundToBf16AndStayInvariant) {
  if (Bf16Isas().empty()) return;
  for (const ModelShape& shape : {kBf16, Shape(DType::kBF16, 50), Shape(DType::kBF16, 51)}) {
    const auto model = MakeModel(shape);
    const std::vector<int32_t> tokens = RandomTokens(70, shape.vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 70), exact(*model, kOther, 2, 70);
    const auto want = Feed(reference, 0, tokens, 70), unrounded = Feed(exact, 0, tokens, 70);
    for (CpuIsa isa : Bf16Isas()) {
      Runner runner(*model, isa, 2, 70);
      const auto got = Feed(runner, 0, tokens, 70);
      const double nmse = LogitNmse(got, want);
      std::printf("    %s, ffn %d: NMSE %.2e\n", shape.name, shape.ffn, nmse);
      EXPECT_LE(nmse, 1e-4);
      EXPECT(!Same(got, unrounded));
      for (int threads : {1, 3}) {
        for (size_t chunk : {size_t{1}, size_t{7}, size_t{25}}) {
          Runner chunked(*model, isa, threads, 70, 3);
          EXPECT(Same(Feed(chunked, 1, tokens, chunk), got));
        }
      }
    }
  }
}

// At high precision nothing is rounded to bf16, and F16 weights never are.
TEST(OtherProgramsHaveTheBitsOfAllTables) {
  const ModelShape bf16 = Shape(DType::kBF16, 50), f16 = Shape(DType::kF16, 50);
  for (const auto& [shape, terms] : {std::pair{kBf16, 2}, {bf16, 2}, {f16, 1}}) {
    const auto model = MakeModel(shape);
    const std::vector<int32_t> tokens = RandomTokens(40, shape.vocabulary, 2);
    for (CpuIsa isa : Bf16Isas()) {
      Runner exact(*model, kOther, 2, 40, 5, terms), runner(*model, isa, 2, 40, 5, terms);
      EXPECT(Same(Feed(runner, 0, tokens, 9), Feed(exact, 0, tokens, 40)));
    }
  }
}

// Packed weights that are kept serve only those who read them in that form.
TEST(KeptWeightsAreToldApart) {
  const auto model = MakeModel(kBf16);
  char folder[] = "/tmp/tokenmill-bf16-XXXXXX";
  EXPECT(mkdtemp(folder) != nullptr);
  const auto state = [&](CpuIsa isa, int terms) {
    CompileOptions options;
    options.pool = &ThreadPool::Process();
    options.activation_terms = terms;
    options.packed_folder = folder;
    options.packed_limit_bytes = uint64_t{1} << 30;
    auto executor = CompileCpu(model->program, model->weights, isa, options);
    EXPECT(executor.ok());
    std::string problem;
    return executor.value()->packed_cache(&problem);
  };
  for (CpuIsa isa : Bf16Isas()) {
    EXPECT(state(isa, 1) == PackedCache::kWritten);
    EXPECT(state(isa, 1) == PackedCache::kRead);
    EXPECT(state(isa, 2) == PackedCache::kWritten);
    EXPECT(state(kOther, 1) == PackedCache::kRead);
    EXPECT(state(kOther, 2) == PackedCache::kRead);
  }
  std::filesystem::remove_all(folder);
}

HARNESS_MAIN()
