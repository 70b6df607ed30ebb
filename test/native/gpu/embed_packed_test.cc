// Rows gathered from packed tables have the bits that quant/*.h give.
// sources: kernels/cuda/pack.cu quant/*.cc core/dtype.cc

#include "kernels/cuda/embed_packed.h"

#include <cstring>

#include "cpu_test_util.h"
#include "gpu_test.h"
#include "kernels/cuda/pack.h"
#include "quant/quant.h"

using namespace tokenmill;
using namespace tokenmill::cuda;
using namespace gpu_test;

TEST(EveryFormatGivesTheBitsOfItsDefinition) {
  constexpr int kRows = 37, kTokens = 5, kScaleTwice = 2;
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_0, DType::kQ5_1, DType::kQ5_K,
                           DType::kQ6_K, DType::kQ8_0, DType::kF16, DType::kBF16, DType::kF32}) {
    const int width = InfoOf(type).block_elements == 256 ? 512 : InfoOf(type).block_elements == 1 ? 70 : 352;
    const size_t row_bytes = RowBytes(type, width);
    std::vector<uint8_t> file(row_bytes * kRows);
    for (int row = 0; row < kRows; ++row) {
      const std::vector<float> values = cpu_test::RandomFloats(static_cast<size_t>(width), 100 + static_cast<uint32_t>(row));
      QuantizeRow(type, values.data(), file.data() + row_bytes * static_cast<size_t>(row), width);
    }
    const std::vector<int32_t> tokens = {36, 0, 17, 17, 31};
    ForSeeds([&](Driver& driver) {
      const WeightForm form = WeightFormOf(type).value();
      DeviceBuffer<uint8_t> raw(driver, file);
      DeviceBuffer<uint8_t> packed(driver, static_cast<size_t>(WeightBytes(LayoutOf(form), kRows, width)));
      const PackParams pack = {raw.data(), packed.data(), 0, kRows, width};
      if (!GPU_OK(driver, LaunchPack(driver, Stream::kStep, form, pack))) return;
      DeviceBuffer<StepCounts> counts(driver, {StepCounts{kTokens, 0, 0, 0}});
      DeviceBuffer<int32_t> chosen(driver, tokens);
      DeviceBuffer<float> out(driver, static_cast<size_t>(kTokens * width));
      const EmbedPackedParams params = {counts.data(), chosen.data(), packed.data(), out.data(), form, width, kScaleTwice};
      if (!GPU_OK(driver, LaunchEmbedPacked(driver, params, kTokens + 3))) return;
      const std::vector<float> got = out.Download();
      for (int i = 0; i < kTokens; ++i) {
        std::vector<float> want(static_cast<size_t>(width));
        DequantizeRow(type, file.data() + row_bytes * static_cast<size_t>(tokens[static_cast<size_t>(i)]), want.data(), width);
        for (float& value : want) value *= kScaleTwice;
        EXPECT(std::memcmp(got.data() + i * width, want.data(), want.size() * sizeof(float)) == 0);
      }
    });
  }
}

HARNESS_MAIN()
