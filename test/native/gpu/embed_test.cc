// sources: quant/quant.cc core/dtype.cc kernels/cuda/pack.cu
#include "kernels/cuda/embed.h"

#include "gpu_test.h"
#include "kernels/cuda/pack.h"
#include "quant/quant.h"
#include "row_forms.h"

using namespace gpu_test;
using tokenmill::DequantizeRow;
using tokenmill::DType;
using tokenmill::InfoOf;
using tokenmill::RowBytes;
using tokenmill::cuda::EmbedParams;
using tokenmill::cuda::LaunchEmbed;

namespace {

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                            DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// Quantized normal values in even rows. In odd ones every byte is random, so that all levels and scales
// occur: f16 scales may be subnormal, and what they give may not be finite.
std::vector<uint8_t> RandomTable(DType dtype, int rows, int width) {
  const size_t row_bytes = RowBytes(dtype, width);
  std::vector<uint8_t> table(static_cast<size_t>(rows) * row_bytes);
  std::mt19937 random(static_cast<uint32_t>(dtype) + 1);
  for (uint8_t& byte : table) byte = static_cast<uint8_t>(random());
  for (int r = 0; r < rows; r += 2) {
    const std::vector<float> values = RandomFloats(static_cast<size_t>(width), static_cast<uint32_t>(r) + 7);
    tokenmill::QuantizeRow(dtype, values.data(), table.data() + static_cast<size_t>(r) * row_bytes, width);
  }
  return table;
}

// The same rows from the table as products read it.
void CheckPacked(Driver& driver, DType dtype, const std::vector<uint8_t>& table, int vocabulary, int width,
                 const std::vector<int32_t>& tokens, float scale, const std::vector<float>& expected) {
  const auto form = tokenmill::cuda::WeightFormOf(dtype);
  EXPECT(form.ok());
  const auto layout = tokenmill::cuda::LayoutOf(form.value());
  DeviceBuffer<uint8_t> rows(driver, table);
  DeviceBuffer<uint8_t> weights(driver, static_cast<size_t>(WeightBytes(layout, vocabulary, width)));
  const tokenmill::cuda::PackParams pack = {rows.data(), weights.data(), 0, vocabulary, width};
  if (!GPU_OK(driver, LaunchPack(driver, Stream::kStep, form.value(), pack))) return;
  DeviceBuffer<int32_t> device_tokens(driver, tokens);
  DeviceBuffer<float> out(driver, expected.size());
  const int count = static_cast<int>(tokens.size());
  const DeviceBuffer<StepCounts> counts = Counts(driver, count);
  const tokenmill::cuda::EmbedPackedParams params = {
      counts.data(), device_tokens.data(), weights.data(), out.data(), width, scale};
  if (!GPU_OK(driver, LaunchEmbedPacked(driver, form.value(), params, count + 1))) return;
  EXPECT(SameFloats(out.Download(), expected));
}

void CheckEmbed(Driver& driver, DType dtype, int width, const std::vector<int32_t>& tokens, float scale) {
  const int vocabulary = 36;
  const size_t row_bytes = RowBytes(dtype, width);
  const std::vector<uint8_t> table = RandomTable(dtype, vocabulary, width);
  DeviceBuffer<uint8_t> device_table(driver, table);
  DeviceBuffer<int32_t> device_tokens(driver, tokens);
  const int rows = static_cast<int>(tokens.size());
  DeviceBuffer<float> out(driver, tokens.size() * static_cast<size_t>(width));
  const DeviceBuffer<StepCounts> counts = Counts(driver, rows);
  const EmbedParams params = {counts.data(),
                              device_tokens.data(),
                              device_table.data(),
                              static_cast<int64_t>(row_bytes),
                              out.data(),
                              width,
                              scale};
  if (!GPU_OK(driver, LaunchEmbed(driver, dtype, params, rows + 1))) return;
  std::vector<float> expected(out.size());
  for (size_t r = 0; r < tokens.size(); ++r) {
    float* row = expected.data() + r * static_cast<size_t>(width);
    DequantizeRow(dtype, table.data() + static_cast<size_t>(tokens[r]) * row_bytes, row, width);
    for (int k = 0; k < width; ++k) row[k] *= scale;
  }
  EXPECT(SameFloats(out.Download(), expected));
  CheckPacked(driver, dtype, table, vocabulary, width, tokens, scale, expected);
}

}  // namespace

TEST(gathers_rows_of_every_type) {
  ForSeeds([](Driver& driver) {
    for (const DType dtype : kTypes) {
      const int block = static_cast<int>(InfoOf(dtype).block_elements);
      for (const int blocks : {1, 3}) {
        CheckEmbed(driver, dtype, block * blocks, {35, 0, 5, 5, 13}, 1);
        CheckEmbed(driver, dtype, block * blocks, {17}, 25.5f);
      }
    }
  });
}

TEST(gathers_rows_of_any_width) {
  ForSeeds([](Driver& driver) {
    for (const int width : {1, 31, 100, 1000}) {
      CheckEmbed(driver, DType::kF32, width, {1, 2}, 3);
      CheckEmbed(driver, DType::kF16, width, {4, 2}, 3);
      CheckEmbed(driver, DType::kBF16, width, {4, 2}, 3);
    }
    CheckEmbed(driver, DType::kQ8_0, 576, std::vector<int32_t>(33, 9), 2);
  });
}

TEST(does_nothing_without_rows) {
  ForSeeds([](Driver& driver) {
    DeviceBuffer<float> out(driver, 64);
    const DeviceBuffer<StepCounts> counts = Counts(driver, 0);
    const EmbedParams params = {counts.data(), nullptr, nullptr, 0, out.data(), 64, 1};
    (void)GPU_OK(driver, LaunchEmbed(driver, DType::kQ4_0, params, 4));
  });
}

TEST(refuses_types_that_do_not_run) { EXPECT(!LaunchEmbed(TestDriver(), DType::kQ2_K, {}, 1).ok()); }

HARNESS_MAIN()
