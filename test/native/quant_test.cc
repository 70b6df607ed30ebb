#include "quant/quant.h"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

#include "core/float16.h"
#include "harness.h"

namespace tokenmill {
namespace {

constexpr DType kRunning[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                              DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                              DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

/// A record of test/fixtures/quant/quant.bin; make_quant_fixture.py beside it has the layout.
struct Record {
  enum Kind : uint32_t { kDequantize, kQuantize, kBits };
  Kind kind;
  DType dtype;
  uint32_t count;
  std::vector<uint8_t> blocks;
  std::vector<float> values;
  std::vector<uint32_t> checksums;
};

template <class T>
void Take(std::istream& stream, std::vector<T>* out, size_t count) {
  out->resize(count);
  stream.read(reinterpret_cast<char*>(out->data()), static_cast<std::streamsize>(count * sizeof(T)));
}

std::vector<Record> ReadFixture() {
  const char* directory = std::getenv("TOKENMILL_TEST_DIR");
  const std::string path =
      std::string(directory != nullptr ? directory : "test") + "/fixtures/quant/quant.bin";
  std::ifstream stream(path, std::ios::binary);
  std::vector<Record> records;
  uint32_t head[3];
  while (stream.read(reinterpret_cast<char*>(head), sizeof(head))) {
    const DTypeInfo& info = *FindDType(head[1]);
    Record record = {static_cast<Record::Kind>(head[0]), info.dtype, head[2], {}, {}, {}};
    if (record.kind == Record::kDequantize) {
      Take(stream, &record.blocks, record.count * info.block_bytes);
      Take(stream, &record.values, record.count * info.block_elements);
    } else if (record.kind == Record::kQuantize) {
      Take(stream, &record.values, record.count);
      Take(stream, &record.blocks, RowBytes(record.dtype, record.count));
    } else {
      Take(stream, &record.blocks, info.block_bytes);
      Take(stream, &record.checksums, record.count);
    }
    EXPECT(stream.good());
    records.push_back(std::move(record));
  }
  return records;
}

/// CRC-32 (IEEE 802.3).
uint32_t Checksum(const void* bytes, size_t count) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < count; ++i) {
    crc ^= static_cast<const uint8_t*>(bytes)[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

/// The same bits, or both not a number.
bool Same(float a, float b) { return BitsOfF32(a) == BitsOfF32(b) || (std::isnan(a) && std::isnan(b)); }

std::vector<float> Dequantized(DType dtype, const std::vector<uint8_t>& blocks) {
  const DTypeInfo& info = InfoOf(dtype);
  std::vector<float> values(blocks.size() / info.block_bytes * info.block_elements);
  DequantizeRow(dtype, blocks.data(), values.data(), static_cast<int64_t>(values.size()));
  return values;
}

std::vector<uint8_t> Quantized(DType dtype, const std::vector<float>& values) {
  std::vector<uint8_t> blocks(RowBytes(dtype, static_cast<int64_t>(values.size())));
  QuantizeRow(dtype, values.data(), blocks.data(), static_cast<int64_t>(values.size()));
  return blocks;
}

/// Σ(value - round trip)² / Σ value².
double RoundTripError(DType dtype, const std::vector<float>& values) {
  const std::vector<float> back = Dequantized(dtype, Quantized(dtype, values));
  double error = 0, power = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += (back[i] - values[i]) * static_cast<double>(back[i] - values[i]);
    power += values[i] * static_cast<double>(values[i]);
  }
  return error / power;
}

std::vector<float> NormalValues(size_t count, float scale, float mean = 0) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(DequantizeGivesTheOraclesBits) {
  int records = 0;
  for (const Record& record : ReadFixture()) {
    if (record.kind != Record::kDequantize) continue;
    ++records;
    const std::vector<float> values = Dequantized(record.dtype, record.blocks);
    size_t different = 0;
    for (size_t i = 0; i < values.size(); ++i) different += !Same(values[i], record.values[i]);
    EXPECT_EQ(std::string(InfoOf(record.dtype).name) + " " + harness::Show(different),
              std::string(InfoOf(record.dtype).name) + " 0");
  }
  EXPECT_EQ(records, 10);
}

TEST(EveryBitOfABlockIsReadAsTheOracleReadsIt) {
  int records = 0;
  for (const Record& record : ReadFixture()) {
    if (record.kind != Record::kBits) continue;
    ++records;
    EXPECT_EQ(record.checksums.size(), record.blocks.size() * 8);
    std::string wrong;
    for (size_t bit = 0; bit < record.checksums.size(); ++bit) {
      std::vector<uint8_t> block = record.blocks;
      block[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      const std::vector<float> values = Dequantized(record.dtype, block);
      const uint32_t checksum = Checksum(values.data(), values.size() * sizeof(float));
      if (checksum != record.checksums[bit]) wrong += " " + harness::Show(bit);
    }
    EXPECT_EQ(InfoOf(record.dtype).name + wrong, InfoOf(record.dtype).name + std::string());
  }
  EXPECT_EQ(records, 10);
}

TEST(QuantizeGivesTheOraclesBlocks) {
  int records = 0;
  for (const Record& record : ReadFixture()) {
    if (record.kind != Record::kQuantize) continue;
    ++records;
    const std::vector<uint8_t> blocks = Quantized(record.dtype, record.values);
    size_t different = 0;
    for (size_t i = 0; i < blocks.size(); ++i) different += blocks[i] != record.blocks[i];
    EXPECT_EQ(std::string(InfoOf(record.dtype).name) + " " + harness::Show(different),
              std::string(InfoOf(record.dtype).name) + " 0");
  }
  EXPECT_EQ(records, 7);
}

TEST(F32RowsAreCopied) {
  const std::vector<float> values = {0, -0.0f, 1, -1e-40f, 3e38f, HUGE_VALF};
  const std::vector<float> back = Dequantized(DType::kF32, Quantized(DType::kF32, values));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(BitsOfF32(back[i]), BitsOfF32(values[i]));
}

// The mean square error of uniform rounding over a group's range bounds what each format may lose of normal
// values: for b bits and a range of some 4 to 5 standard deviations, about (range / 2^b)² / 12.
TEST(RoundTripsStayNearTheFormatsPrecision) {
  static constexpr struct {
    DType dtype;
    double error_max;
  } kLimits[] = {
      {DType::kF32, 0},       {DType::kF16, 1e-7},    {DType::kBF16, 1e-5},   {DType::kQ4_0, 8e-3},
      {DType::kQ4_1, 7e-3},   {DType::kQ5_0, 2e-3},   {DType::kQ5_1, 1.7e-3}, {DType::kQ8_0, 3e-5},
      {DType::kQ4_K, 6.2e-3}, {DType::kQ5_K, 1.5e-3}, {DType::kQ6_K, 3.7e-4},
  };
  for (const auto& limit : kLimits) {
    for (const float scale : {1e-3f, 1.0f, 100.0f}) {
      EXPECT_LE(RoundTripError(limit.dtype, NormalValues(8192, scale)), limit.error_max);
    }
  }
}

TEST(MinsBeatPlainScales) {
  const std::vector<float> values = NormalValues(65536, 0.02f);
  EXPECT_LE(RoundTripError(DType::kQ4_K, values), RoundTripError(DType::kQ4_0, values));
  EXPECT_LE(RoundTripError(DType::kQ5_K, values), RoundTripError(DType::kQ5_0, values));
  const std::vector<float> positive = NormalValues(65536, 0.02f, 0.1f);
  EXPECT_LE(RoundTripError(DType::kQ4_K, positive), RoundTripError(DType::kQ4_0, positive));
}

TEST(MoreBitsLoseLess) {
  const std::vector<float> values = NormalValues(65536, 1);
  const auto error = [&](DType dtype) { return RoundTripError(dtype, values); };
  EXPECT_LE(error(DType::kQ5_0) * 3, error(DType::kQ4_0));
  EXPECT_LE(error(DType::kQ5_1) * 3, error(DType::kQ4_1));
  EXPECT_LE(error(DType::kQ5_K) * 3, error(DType::kQ4_K));
  EXPECT_LE(error(DType::kQ6_K) * 3, error(DType::kQ5_K));
  EXPECT_LE(error(DType::kQ8_0) * 3, error(DType::kQ6_K));
}

// What a block holds can be held again: the values of a block quantize to the same values, as they are on its
// grid.
TEST(QuantizingTwiceChangesLittle) {
  const std::vector<float> values = NormalValues(8192, 1);
  for (const DType dtype : kRunning) {
    const std::vector<float> once = Dequantized(dtype, Quantized(dtype, values));
    EXPECT_LE(RoundTripError(dtype, once), RoundTripError(dtype, values) * 0.2 + 1e-12);
  }
}

TEST(ConstantAndZeroBlocksSurvive) {
  for (const DType dtype : kRunning) {
    for (const float constant : {0.0f, 0.5f, -0.5f, 96.0f}) {
      const std::vector<float> values(256, constant);
      for (const float back : Dequantized(dtype, Quantized(dtype, values))) {
        EXPECT_LE(std::fabs(back - constant), std::fabs(constant) * 0.02f);
      }
    }
  }
}

TEST(QuantizingAnyBitsIsDefined) {
  std::mt19937 random(3);
  std::vector<float> values(256 * 64);
  for (float& value : values) value = F32FromBits(static_cast<uint32_t>(random()));
  for (const DType dtype : kRunning) EXPECT_EQ(Quantized(dtype, values).size(), RowBytes(dtype, 256 * 64));
}

TEST(BlocksNeedNotBeAligned) {
  for (const DType dtype : kRunning) {
    const std::vector<uint8_t> blocks = Quantized(dtype, NormalValues(512, 1));
    std::vector<uint8_t> shifted(blocks.size() + 1);
    std::memcpy(shifted.data() + 1, blocks.data(), blocks.size());
    std::vector<float> values(512);
    DequantizeRow(dtype, shifted.data() + 1, values.data(), 512);
    EXPECT(values == Dequantized(dtype, blocks));
  }
}

/// A half by the definition of binary16.
double HalfByDefinition(uint32_t half) {
  const int exponent = static_cast<int>(half >> 10 & 0x1f), mantissa = static_cast<int>(half & 0x3ff);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST(HalvesWidenExactly) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = F16ToF32(static_cast<uint16_t>(half));
    if ((half & 0x7c00) != 0x7c00) {
      EXPECT_EQ(static_cast<double>(value), HalfByDefinition(half));
      EXPECT_EQ(std::signbit(value), half >= 0x8000);
    } else if ((half & 0x3ff) == 0) {
      EXPECT_EQ(value, half & 0x8000 ? -HUGE_VALF : HUGE_VALF);
    } else {
      EXPECT(std::isnan(value));
    }
  }
}

TEST(NarrowingToHalfRoundsToNearestEven) {
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    const double low = HalfByDefinition(half);
    const double high = half == 0x7bff ? 65536.0 : HalfByDefinition(half + 1);
    const float middle = static_cast<float>((low + high) / 2);  // exact
    const uint32_t even = half + (half & 1);
    for (const uint32_t sign : {0u, 0x8000u}) {
      const auto narrow = [&](float x) { return uint32_t{F32ToF16(sign ? -x : x)}; };
      EXPECT_EQ(narrow(static_cast<float>(low)), sign | half);
      EXPECT_EQ(narrow(std::nextafter(middle, 0.0f)), sign | half);
      EXPECT_EQ(narrow(middle), sign | even);
      EXPECT_EQ(narrow(std::nextafter(middle, HUGE_VALF)), sign | (half + 1));
    }
  }
  EXPECT_EQ(F32ToF16(1e30f), 0x7c00);
  EXPECT_EQ(F32ToF16(-HUGE_VALF), 0xfc00);
  EXPECT_EQ(F32ToF16(F32FromBits(1)), 0);
  EXPECT_EQ(F32ToF16(F32FromBits(0x80000001)), 0x8000);
  EXPECT(std::isnan(F16ToF32(F32ToF16(F32FromBits(0x7f800001)))));
}

TEST(NarrowingToBf16RoundsToNearestEven) {
  for (uint32_t upper = 0; upper < 0x7f80; ++upper) {
    for (const uint32_t sign : {0u, 0x8000u}) {
      const auto narrow = [&](uint32_t lower) {
        return uint32_t{F32ToBf16(F32FromBits((sign | upper) << 16 | lower))};
      };
      EXPECT_EQ(narrow(0), sign | upper);
      EXPECT_EQ(narrow(0x7fff), sign | upper);
      EXPECT_EQ(narrow(0x8000), sign | (upper + (upper & 1)));
      EXPECT_EQ(narrow(0x8001), sign | (upper + 1));
    }
  }
  EXPECT_EQ(F32ToBf16(HUGE_VALF), 0x7f80);
  EXPECT(std::isnan(Bf16ToF32(F32ToBf16(F32FromBits(0x7f800001)))));
}

}  // namespace
}  // namespace tokenmill

HARNESS_MAIN()
