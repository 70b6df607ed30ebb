// Each primitive of gpu.h against tables of the PTX ISA's layouts and exact arithmetic, written apart from
// the emulator's: tables here go from an element of the matrix to the lane and register that hold it, as the
// ISA's figures do.

#include "gpu_primitives.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <random>

#include "gpu_test.h"

using namespace gpu_test;
using namespace tokenmill::cuda;

namespace {

using Words = std::vector<uint32_t>;

std::mt19937& Random() {
  static std::mt19937 random(7);
  return random;
}

int Between(int low, int high) {
  return low + static_cast<int>(Random()() % static_cast<uint32_t>(high - low + 1));
}

/// Exact value of an f16; NaN and infinities too.
double F16Value(uint32_t h) {
  const double sign = h & 0x8000 ? -1 : 1;
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

double Bf16Value(uint32_t h) { return static_cast<double>(std::bit_cast<float>(h << 16)); }

/// The nearest f16 or bf16, ties to even: found among all magnitudes, which ascend with their bits.
uint32_t Nearest(double x, bool bf16) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const uint32_t infinity = bf16 ? 0x7f80 : 0x7c00;
  const auto value = [&](uint32_t h) {
    if (h == infinity) return bf16 ? 0x1p128 : 65536.0;  // where the next step would be
    return bf16 ? Bf16Value(h) : F16Value(h);
  };
  const double magnitude = std::fabs(x);
  uint32_t low = 0, high = infinity;
  if (magnitude >= value(infinity)) return sign | infinity;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value(low), above = value(high) - magnitude;
  const bool up = above < below || (above == below && (low & 1));
  return sign | (up ? high : low);
}

/// Where the m16n8k16 and m16n8k32 instructions keep elements: lane, and index in the lane's fragment.
struct At {
  int lane, element;
};
At AHalf(int row, int k) { return {row % 8 * 4 + k % 8 / 2, k % 2 + (row >= 8 ? 2 : 0) + (k >= 8 ? 4 : 0)}; }
At BHalf(int k, int column) { return {column * 4 + k % 8 / 2, k % 2 + (k >= 8 ? 2 : 0)}; }
At AS8(int row, int k) { return {row % 8 * 4 + k % 16 / 4, k % 4 + (row >= 8 ? 4 : 0) + (k >= 16 ? 8 : 0)}; }
At BS8(int k, int column) { return {column * 4 + k % 16 / 4, k % 4 + (k >= 16 ? 4 : 0)}; }
At Sum(int row, int column) { return {row % 8 * 4 + column / 2, column % 2 + (row >= 8 ? 2 : 0)}; }

struct Mma {
  int k;            // 16 or 32
  int bits;         // of an input
  At (*a)(int, int);
  At (*b)(int, int);
};

/// Runs an mma kernel on matrices of raw elements, and gives the raw sums [16][8].
Words RunMma(Driver& driver, const char* kernel, const Mma& form, const Words& a, const Words& b,
             const Words& c) {
  Words a_registers(128), b_registers(64), c_registers(128), sums(128);
  const int per_register = 32 / form.bits;
  for (int k = 0; k < form.k; ++k) {
    for (int row = 0; row < 16; ++row) {
      const At at = form.a(row, k);
      a_registers[at.lane * 4 + at.element / per_register] |= a[row * form.k + k]
                                                              << (at.element % per_register * form.bits);
    }
    for (int column = 0; column < 8; ++column) {
      const At at = form.b(k, column);
      b_registers[at.lane * 2 + at.element / per_register] |= b[k * 8 + column]
                                                              << (at.element % per_register * form.bits);
    }
  }
  for (int i = 0; i < 128; ++i) {
    const At at = Sum(i / 8, i % 8);
    c_registers[at.lane * 4 + at.element] = c[i];
  }
  DeviceBuffer<uint32_t> da(driver, a_registers), db(driver, b_registers), dc(driver, c_registers),
      dd(driver, 128);
  if (!GPU_OK(driver, driver.Launch(kernel, {.threads = 32},
                                    MmaRegisters{da.data(), db.data(), dc.data(), dd.data()})))
    return sums;
  const Words registers = dd.Download();
  for (int i = 0; i < 128; ++i) {
    const At at = Sum(i / 8, i % 8);
    sums[i] = registers[at.lane * 4 + at.element];
  }
  return sums;
}

/// Small integers, whose sums are exact in any order.
void TestHalfMma(Driver& driver, const char* kernel, bool bf16) {
  const Mma form = {16, 16, AHalf, BHalf};
  for (int round = 0; round < 4; ++round) {
    Words a(256), b(128), c(128);
    std::vector<double> expected(128), got(128);
    for (uint32_t& x : a) x = Nearest(Between(-100, 100), bf16);
    for (uint32_t& x : b) x = Nearest(Between(-100, 100) * 0.25, bf16);
    if (round == 1 && !bf16) {
      for (uint32_t& x : a) x = static_cast<uint32_t>(Between(0, 1023));  // subnormals
    }
    const auto value = [&](uint32_t h) { return bf16 ? Bf16Value(h) : F16Value(h); };
    const double unit = round == 1 && !bf16 ? 0x1p-24 : 1.0;
    for (int i = 0; i < 128; ++i) {
      expected[i] = Between(-1000, 1000) * unit;
      c[i] = std::bit_cast<uint32_t>(static_cast<float>(expected[i]));
      for (int k = 0; k < 16; ++k) expected[i] += value(a[i / 8 * 16 + k]) * value(b[k * 8 + i % 8]);
    }
    const Words sums = RunMma(driver, kernel, form, a, b, c);
    for (int i = 0; i < 128; ++i) got[i] = static_cast<double>(std::bit_cast<float>(sums[i]));
    EXPECT(got == expected);
  }
}

Words RunWords(Driver& driver, const std::string& kernel, const Words& a, const Words& b, const Words& c) {
  const size_t n = a.size();
  const Words zeros(n);
  DeviceBuffer<uint32_t> da(driver, a), db(driver, b.empty() ? zeros : b), dc(driver, c.empty() ? zeros : c);
  DeviceBuffer<uint32_t> dy(driver, n);
  const WordsParams params = {da.data(), db.data(), dc.data(), dy.data(), static_cast<int32_t>(n)};
  if (!GPU_OK(driver, driver.Launch(("primitives_" + kernel).c_str(), {.threads = 64}, params)))
    return Words(n);
  return dy.Download();
}

uint32_t Bits(double x) { return std::bit_cast<uint32_t>(static_cast<float>(x)); }
float Float(uint32_t bits) { return std::bit_cast<float>(bits); }
bool IsNan(uint32_t bits) { return std::isnan(Float(bits)); }

/// f32 of all kinds: special ones, every f16 and what lies half way between two, random bits.
Words ManyFloats() {
  Words words = {0,
                 0x80000000u,
                 0x7f800000u,
                 0xff800000u,
                 0x7fc00000u,
                 0xffffffffu,
                 0x7f800001u,
                 1,
                 0x807fffffu,
                 0x7f7fffffu,
                 Bits(65504),
                 Bits(65519.996),
                 Bits(65520),
                 Bits(-65536),
                 Bits(0x1p-24),
                 Bits(0x1p-25),
                 Bits(0x1.000002p-25),
                 Bits(0x1p-126),
                 Bits(0x1.fffffep-127)};
  for (uint32_t h = 0; h < 0x7c00; h += 37) {
    for (double offset : {0.0, 0.5, 0.4999, 0.5001}) {
      const double step = F16Value(h + 1) - F16Value(h);
      words.push_back(Bits(F16Value(h) + (std::isfinite(step) ? step * offset : 0)));
      words.push_back(words.back() | 0x80000000u);
    }
  }
  for (int i = 0; i < 4000; ++i) words.push_back(Random()());
  for (int i = 0; i < 1000; ++i) words.push_back((Random()() & 0xffff0000u) | 0x8000u);  // ties of bf16
  return words;
}

bool SameFloat(uint32_t a, uint32_t b) { return a == b || (IsNan(a) && IsNan(b)); }

template <class Expected>
void ExpectWords(const char* kernel, const Words& a, const Words& b, const Words& c, const Expected& expected,
                 bool floats = false) {
  ForSeeds([&](Driver& driver) {
    const Words y = RunWords(driver, kernel, a, b, c);
    int wrong = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const uint32_t want = expected(i);
      if ((floats ? SameFloat(y[i], want) : y[i] == want) || ++wrong > 3) continue;
      std::printf("    %s(%08x, %08x, %08x) = %08x, expected %08x\n", kernel, a[i], b.empty() ? 0 : b[i],
                  c.empty() ? 0 : c[i], y[i], want);
    }
    EXPECT_EQ(wrong, 0);
  });
}

Words RandomWords(size_t n) {
  Words words(n);
  for (uint32_t& x : words) x = Random()();
  return words;
}

}  // namespace

TEST(mma_f16) {
  ForSeeds([](Driver& driver) { TestHalfMma(driver, "primitives_mma_f16", false); });
}

TEST(mma_bf16) {
  ForSeeds([](Driver& driver) { TestHalfMma(driver, "primitives_mma_bf16", true); });
}

TEST(mma_s8) {
  ForSeeds([](Driver& driver) {
    Words a(512), b(256), c(128), expected(128);
    for (uint32_t& x : a) x = Random()() & 0xff;
    for (uint32_t& x : b) x = Random()() & 0xff;
    for (int i = 0; i < 128; ++i) {
      int sum = Between(-100000, 100000);
      c[i] = static_cast<uint32_t>(sum);
      for (int k = 0; k < 32; ++k) {
        sum += static_cast<int8_t>(a[i / 8 * 32 + k]) * static_cast<int8_t>(b[k * 8 + i % 8]);
      }
      expected[i] = static_cast<uint32_t>(sum);
    }
    EXPECT(RunMma(driver, "primitives_mma_s8", {32, 8, AS8, BS8}, a, b, c) == expected);
  });
}

TEST(fragments_spot_checks) {
  // Read off the ISA's figures: lane 0 begins row 0 and row 8, lane 31 ends row 7 and row 15.
  EXPECT_EQ(AHalf(0, 9).lane, 0);
  EXPECT_EQ(AHalf(0, 9).element, 5);
  EXPECT_EQ(AHalf(15, 7).lane, 31);
  EXPECT_EQ(AHalf(15, 7).element, 3);
  EXPECT_EQ(BHalf(15, 7).lane, 31);
  EXPECT_EQ(BHalf(15, 7).element, 3);
  EXPECT_EQ(AS8(8, 16).lane, 0);
  EXPECT_EQ(AS8(8, 16).element, 12);
  EXPECT_EQ(BS8(31, 1).lane, 7);
  EXPECT_EQ(BS8(31, 1).element, 7);
  EXPECT_EQ(Sum(9, 3).lane, 5);
  EXPECT_EQ(Sum(9, 3).element, 3);
}

TEST(ldmatrix) {
  ForSeeds([](Driver& driver) {
    std::vector<uint16_t> rows(320);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint16_t>(i);
    std::vector<int32_t> row(32);
    for (int lane = 0; lane < 32; ++lane) row[lane] = (lane * 7 + 3) % 40;
    DeviceBuffer<uint16_t> d_rows(driver, rows);
    DeviceBuffer<int32_t> d_row(driver, row);
    for (int form = 0; form < 4; ++form) {
      DeviceBuffer<uint32_t> registers(driver, 128);
      if (!GPU_OK(driver, driver.Launch("primitives_ldmatrix", {.threads = 32, .shared_bytes = 640},
                                        LdmatrixParams{d_rows.data(), d_row.data(), registers.data(), form})))
        return;
      const Words got = registers.Download();
      const int matrices = form < 2 ? 4 : 2;
      // Element (i, j) of matrix m goes to lane 4i + j/2, half j%2 of register m; transposed, element (j, i)
      // does.
      for (int m = 0; m < matrices; ++m) {
        for (int i = 0; i < 8; ++i) {
          for (int j = 0; j < 8; ++j) {
            const uint32_t word = got[(i * 4 + j / 2) * 4 + m] >> (16 * (j % 2)) & 0xffff;
            const int from = form % 2 == 0 ? row[m * 8 + i] * 8 + j : row[m * 8 + j] * 8 + i;
            EXPECT_EQ(word, static_cast<uint32_t>(from));
          }
        }
      }
    }
  });
}

TEST(cp_async) {
  ForSeeds([](Driver& driver) {
    const Words from = RandomWords(128);
    std::vector<int32_t> valid(32);
    for (int32_t& v : valid) v = Between(0, 1);
    DeviceBuffer<uint32_t> d_from(driver, from);
    DeviceBuffer<int32_t> d_valid(driver, valid);
    for (int bytes : {4, 16}) {
      const int words = bytes / 4;
      DeviceBuffer<uint32_t> to(driver, 32 * words);
      if (!GPU_OK(driver, driver.Launch("primitives_cp_async", {.threads = 32, .shared_bytes = 512},
                                        CpAsyncParams{d_from.data(), d_valid.data(), to.data(), bytes})))
        return;
      const Words got = to.Download();
      for (int i = 0; i < 32 * words; ++i) EXPECT_EQ(got[i], valid[i / words] ? from[i] : 0u);
    }
  });
}

TEST(shuffles) {
  const Words a = RandomWords(128), b = RandomWords(128);
  ExpectWords("shuffle_xor", a, b, {}, [&](size_t i) { return a[i ^ 5] + 3 * b[i ^ 16]; });
  Words lanes(128), some(128);
  for (size_t i = 0; i < 128; ++i) lanes[i] = Random()() % 32, some[i] = Random()() % 3 == 0;
  ExpectWords("shuffle", a, lanes, {}, [&](size_t i) { return a[i / 32 * 32 + lanes[i]]; });
  ExpectWords("ballot", some, {}, {}, [&](size_t i) {
    uint32_t bits = 0;
    for (size_t lane = 0; lane < 32; ++lane) bits |= some[i / 32 * 32 + lane] << lane;
    return bits;
  });
}

TEST(conversions_to_16_bits) {
  const Words x = ManyFloats();
  Words y = x;
  std::shuffle(y.begin(), y.end(), Random());
  const auto half = [](uint32_t bits, bool bf16) { return Nearest(static_cast<double>(Float(bits)), bf16); };
  ExpectWords("to_f16", x, {}, {}, [&](size_t i) { return half(x[i], false); });
  ExpectWords("to_bf16", x, {}, {}, [&](size_t i) { return half(x[i], true); });
  ExpectWords("pack_f16", x, y, {}, [&](size_t i) { return half(x[i], false) | half(y[i], false) << 16; });
  ExpectWords("pack_bf16", x, y, {}, [&](size_t i) { return half(x[i], true) | half(y[i], true) << 16; });
}

TEST(conversions_from_16_bits) {
  Words all(65536);
  for (uint32_t i = 0; i < 65536; ++i) all[i] = i;
  ExpectWords("from_f16", all, {}, {}, [&](size_t i) { return Bits(F16Value(all[i])); }, true);
  ExpectWords("from_bf16", all, {}, {}, [&](size_t i) { return all[i] << 16; });
}

TEST(round_to_int) {
  Words x = ManyFloats();
  for (int i = -20; i <= 20; ++i) x.push_back(Bits(i * 0.5)), x.push_back(Bits(8388607.5 + i));
  for (double big : {2147483520.0, 2147483648.0, -2147483648.0, -2147483904.0, 4e9, -4e9})
    x.push_back(Bits(big));
  ExpectWords("round_to_int", x, {}, {}, [&](size_t i) -> uint32_t {
    const double value = static_cast<double>(Float(x[i]));
    if (std::isnan(value)) return 0;
    double whole = std::floor(value);
    const double rest = value - whole;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0)) whole += 1;
    whole = std::min(std::max(whole, -2147483648.0), 2147483647.0);
    return static_cast<uint32_t>(static_cast<int32_t>(whole));
  });
}

namespace {

/// a * b + c rounded once, in units of 2^-48, which hold every such sum.
uint32_t ExactFma(uint32_t a, uint32_t b, uint32_t c) {
  const double x = F16Value(a), y = F16Value(b), z = F16Value(c), rough = x * y + z;
  if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(z)) return Nearest(rough, false);
  const auto units = [](double value, int bits) { return static_cast<__int128>(std::ldexp(value, bits)); };
  const __int128 sum = units(x, 24) * units(y, 24) + (units(z, 24) << 24);
  if (sum == 0) return std::signbit(rough) ? 0x8000 : 0;  // the sign of zero needs no more than one rounding
  const __int128 magnitude = sum < 0 ? -sum : sum;
  uint32_t low = 0, high = 0x7c00;
  const auto at = [&](uint32_t h) { return units(h == 0x7c00 ? 65536.0 : F16Value(h), 24) << 24; };
  if (magnitude >= at(high)) return (sum < 0 ? 0x8000 : 0) | high;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (at(middle) <= magnitude ? low : high) = middle;
  }
  const __int128 below = magnitude - at(low), above = at(high) - magnitude;
  const bool up = above < below || (above == below && (low & 1));
  return (sum < 0 ? 0x8000 : 0) | (up ? high : low);
}

template <class Exact>
void ExpectPairs(const char* kernel, const Exact& exact) {
  Words a = RandomWords(20000), b = RandomWords(20000), c = RandomWords(20000);
  for (size_t i = 0; i < a.size();
       i += 2) {  // exponents near each other, where rounding and cancellation happen
    a[i] = (a[i] & 0x83ff83ffu) | 0x3c003800u, b[i] = (b[i] & 0x83ff83ffu) | 0x3c003c00u;
    c[i] = (c[i] & 0x8fff8fffu) | 0x30003000u;
  }
  ExpectWords(kernel, a, b, c, [&](size_t i) {
    return exact(a[i] & 0xffff, b[i] & 0xffff, c[i] & 0xffff) | exact(a[i] >> 16, b[i] >> 16, c[i] >> 16)
                                                                    << 16;
  });
}

}  // namespace

TEST(pairs_of_f16) {
  ExpectPairs("hfma2", ExactFma);
  ExpectPairs("hsub2",
              [](uint32_t a, uint32_t b, uint32_t) { return Nearest(F16Value(a) - F16Value(b), false); });
  ExpectPairs("hmul2",
              [](uint32_t a, uint32_t b, uint32_t) { return Nearest(F16Value(a) * F16Value(b), false); });
}

TEST(bits) {
  const Words a = RandomWords(2000), b = RandomWords(2000), c = RandomWords(2000);
  Words selectors = c;
  for (uint32_t& s : selectors) s &= 0x7777;
  ExpectWords("byte_permute", a, b, selectors, [&](size_t i) {
    uint32_t result = 0;
    for (int n = 0; n < 4; ++n) {
      const uint32_t s = selectors[i] >> (4 * n) & 7;
      const uint32_t byte = s < 4 ? a[i] >> (8 * s) : b[i] >> (8 * (s - 4));
      result |= (byte & 0xff) << (8 * n);
    }
    return result;
  });
  ExpectWords("and_or", a, b, c, [&](size_t i) { return (a[i] & b[i]) | c[i]; });
  ExpectWords("popcount", a, {}, {}, [&](size_t i) {
    uint32_t ones = 0;
    for (uint32_t x = a[i]; x != 0; x &= x - 1) ++ones;
    return ones;
  });
}

TEST(arithmetic) {
  Words a = ManyFloats(), b = a, c = a;
  std::shuffle(b.begin(), b.end(), Random());
  std::shuffle(c.begin(), c.end(), Random());
  const auto at = [](const Words& words, size_t i) { return Float(words[i]); };
  ExpectWords("fma", a, b, c, [&](size_t i) { return Bits(std::fmaf(at(a, i), at(b, i), at(c, i))); }, true);
  ExpectWords(
      "divide", a, b, {}, [&](size_t i) { return std::bit_cast<uint32_t>(at(a, i) / at(b, i)); }, true);
  ExpectWords("square_root", a, {}, {}, [&](size_t i) { return Bits(std::sqrt(at(a, i))); }, true);
  // A number beats NaN; +0 is above -0.
  const auto pick = [](float x, float y, bool larger) {
    if (std::isnan(x)) return std::bit_cast<uint32_t>(y);
    if (std::isnan(y)) return std::bit_cast<uint32_t>(x);
    if (x == 0 && y == 0) return std::bit_cast<uint32_t>(std::signbit(x) == larger ? y : x);
    return std::bit_cast<uint32_t>((x > y) == larger ? x : y);
  };
  a.insert(a.end(), {0, 0x80000000u, 0, 0x80000000u}), b.insert(b.end(), {0, 0, 0x80000000u, 0x80000000u});
  ExpectWords("max", a, b, {}, [&](size_t i) { return pick(at(a, i), at(b, i), true); }, true);
  ExpectWords("min", a, b, {}, [&](size_t i) { return pick(at(a, i), at(b, i), false); }, true);
}

TEST(exp2_approximately) {
  Words x = {Bits(-HUGE_VAL), Bits(HUGE_VAL), 0x7fc00000u,     0,         0x80000000u, 1,         Bits(-126),
             Bits(-126.5),    Bits(-149),     Bits(127.99999), Bits(128), Bits(-1e30), Bits(1e30)};
  for (int i = 0; i < 5000; ++i) x.push_back(Bits(Between(-1300000, 1280000) * 1e-4));
  ForSeeds([&](Driver& driver) {
    const Words y = RunWords(driver, "exp2", x, {}, {});
    EXPECT_EQ(y[0], 0u);
    EXPECT_EQ(y[1], 0x7f800000u);
    EXPECT(IsNan(y[2]));
    for (size_t i = 3; i < x.size(); ++i) {
      const double exact = std::exp2(static_cast<double>(Float(x[i])));
      const double got = static_cast<double>(Float(y[i]));
      if (exact < 0x1p-126) {
        EXPECT_EQ(got, 0.0);
      } else if (exact >= 0x1p128) {
        EXPECT_EQ(got, HUGE_VAL);
      } else {
        EXPECT_LE(std::fabs(got - exact), exact * 0x1p-22);
      }
    }
  });
}

HARNESS_MAIN()
