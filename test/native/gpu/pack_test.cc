// sources: quant/quant.cc core/dtype.cc
// Packing on the device against DequantizeRow, through the layout that weight_format.h describes.

#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "core/float16.h"
#include "gpu_test.h"
#include "random_weights.h"

using namespace tokenmill;
using namespace tokenmill::cuda;
using namespace gpu_test;

namespace {

// A matrix packed in two uploads, of 32 features and the rest.
std::vector<uint8_t> Pack(Driver& driver, const RandomWeights& w, WeightForm form) {
  const WeightLayout layout = LayoutOf(form);
  DeviceBuffer<uint8_t> weights(driver, static_cast<size_t>(WeightBytes(layout, w.features, w.k)));
  for (int begin = 0; begin < w.features; begin = begin == 0 ? 32 : w.features) {
    const int count = begin == 0 ? std::min(32, w.features) : w.features - begin;
    const auto first = w.rows.begin() + static_cast<int64_t>(w.row_bytes()) * begin;
    DeviceBuffer<uint8_t> rows(
        driver, std::vector<uint8_t>(first, first + static_cast<int64_t>(w.row_bytes()) * count));
    const PackParams params = {rows.data(), weights.data(), begin, count, w.k};
    if (!GPU_OK(driver, LaunchPack(driver, Stream::kStep, form, params))) return {};
  }
  return weights.Download();
}

// The value by the format's own arithmetic (DequantizeBlock).
float ValueOf(WeightForm form, const WeightParts& parts) {
  switch (form) {
    case WeightForm::kF32:
      return F32FromBits(parts.bits);
    case WeightForm::kF16:
      return F16ToF32(static_cast<uint16_t>(parts.bits));
    case WeightForm::kBF16:
      return Bf16ToF32(static_cast<uint16_t>(parts.bits));
    default:
      break;
  }
  const float value = F16ToF32(parts.d) * static_cast<float>(parts.scale) * static_cast<float>(parts.level);
  return parts.min == 0 ? value : value - F16ToF32(parts.m) * static_cast<float>(parts.min);
}

void CheckPacked(const RandomWeights& w, WeightForm form, const std::vector<uint8_t>& packed) {
  const WeightLayout layout = LayoutOf(form);
  int wrong = 0;
  for (int f = 0; f < w.features; ++f) {
    for (int k = 0; k < w.k; ++k) {
      const float value = ValueOf(form, ReadWeight(layout, packed.data(), w.k, f, k));
      wrong += value != w.values[static_cast<size_t>(f) * w.k + k];
    }
  }
  EXPECT_EQ(wrong, 0);
}

// Features and k that a strip has and the matrix has not are zeros.
void CheckPadding(const RandomWeights& w, WeightForm form, const std::vector<uint8_t>& packed) {
  const WeightLayout layout = LayoutOf(form);
  const int strip = layout.bits == 32 ? kF32StripFeatures : kStripFeatures;
  const int features = (w.features + strip - 1) / strip * strip;
  const int ks = layout.bits == 32 ? w.k : (w.k + kChunkK - 1) / kChunkK * kChunkK;
  int wrong = 0;
  for (int f = 0; f < features; ++f) {
    for (int k = f < w.features ? w.k : 0; k < ks; ++k) {
      const WeightParts parts = ReadWeight(layout, packed.data(), w.k, f, k);
      wrong +=
          layout.bits < 16 ? parts.level != -layout.offset || parts.d != 0 || parts.m != 0 : parts.bits != 0;
    }
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace

TEST(packs_every_type_as_described) {
  for (DType dtype : kRunningTypes) {
    const WeightForm form = WeightFormOf(dtype).value();
    const int multiple = KMultipleOf(form);
    for (int features : {1, 15, 40, 129}) {
      for (int k : {multiple, 3 * multiple, multiple == 1 ? 129 : 9 * multiple}) {
        const RandomWeights w = MakeWeights(dtype, features, k, static_cast<uint32_t>(features + k), true);
        ForSeeds([&](Driver& driver) {
          const std::vector<uint8_t> packed = Pack(driver, w, form);
          if (packed.empty()) return;
          CheckPacked(w, form, packed);
          CheckPadding(w, form, packed);
        });
      }
    }
  }
}

TEST(packed_weights_are_hardly_larger_than_the_file) {
  for (DType dtype : kRunningTypes) {
    const WeightForm form = WeightFormOf(dtype).value();
    const auto file = static_cast<double>(RowBytes(dtype, 2048) * 2048);
    EXPECT_LE(static_cast<double>(WeightBytes(LayoutOf(form), 2048, 2048)), file * 1.03);
  }
}

TEST(refuses_a_k_that_the_form_has_not) {
  Driver& driver = TestDriver();
  const PackParams params = {nullptr, nullptr, 0, 16, 48};
  EXPECT(LaunchPack(driver, Stream::kStep, WeightForm::kQ4_0, params).code() == Code::kInvalidArgument);
  EXPECT(WeightFormOf(DType::kQ2_K).status().code() == Code::kUnsupportedQuantization);
}

HARNESS_MAIN()
