#pragma once

// The forms of ActivationView as plain loops over an f32 row, and buffers for them on the device.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "core/float16.h"
#include "gpu_test.h"
#include "kernels/cuda/views.h"

namespace gpu_test {

using tokenmill::cuda::ActivationView;
using tokenmill::cuda::StepCounts;

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline DeviceBuffer<StepCounts> Counts(Driver& driver, int rows, int head_rows = 0) {
  return DeviceBuffer<StepCounts>(driver, std::vector<StepCounts>{{rows, head_rows, 0, 0}});
}

/// Equal, where every NaN is the same.
inline bool SameFloats(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (tokenmill::BitsOfF32(a[i]) != tokenmill::BitsOfF32(b[i])) return false;
  }
  return true;
}

struct Forms {
  bool f32 = false, f16 = false, sums = false, s8 = false, bf16 = false, rest = false;
};
inline constexpr Forms kAllForms = {true, true, true, true, true, true};
/// Those that rows of any width have.
inline constexpr Forms kPlainForms = {true, true, false, false, true, true};

/// What rows [rows, k] look like in every form.
struct FormValues {
  std::vector<float> f32, row_scale, sums, s8_scale;
  std::vector<uint16_t> f16, bf16, bf16_rest;
  std::vector<int8_t> s8;
  std::vector<int32_t> s8_sums;
};

inline FormValues FormsOf(const std::vector<float>& rows, int k) {
  FormValues forms;
  forms.f32 = rows;
  for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(k)) {
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < k; ++i) {
      finite = finite && std::isfinite(rows[begin + i]);
      largest = std::max(largest, std::fabs(rows[begin + i]));
    }
    const float scale =
        finite && largest > 0 ? std::ldexp(1.0f, std::max(std::ilogb(largest) - 11, -126)) : 1;
    forms.row_scale.push_back(scale);
    for (int i = 0; i < k; ++i) {
      const float x = rows[begin + i];
      forms.f16.push_back(tokenmill::F32ToF16(x / scale));
      forms.bf16.push_back(tokenmill::F32ToBf16(x));
      forms.bf16_rest.push_back(tokenmill::F32ToBf16(x - tokenmill::Bf16ToF32(forms.bf16.back())));
    }
    for (int block = 0; k % 32 == 0 && block < k; block += 32) {
      float sum = 0, block_largest = 0;
      bool block_finite = true, nan = false;
      for (int i = 0; i < 32; ++i) {
        const float x = rows[begin + block + i];
        sum += tokenmill::F16ToF32(forms.f16[begin + block + i]);
        block_finite = block_finite && std::isfinite(x);
        nan = nan || std::isnan(x);
        block_largest = std::max(block_largest, std::fabs(x));
      }
      float s8_scale = block_largest / 127;
      if (!block_finite) s8_scale = nan ? NAN : INFINITY;
      int s8_sum = 0;
      for (int i = 0; i < 32; ++i) {
        float level = 0;
        if (block_finite && s8_scale > 0) level = std::nearbyint(rows[begin + block + i] / s8_scale);
        forms.s8.push_back(static_cast<int8_t>(std::clamp(level, -127.0f, 127.0f)));
        s8_sum += forms.s8.back();
      }
      forms.sums.push_back(sum);
      forms.s8_scale.push_back(s8_scale);
      forms.s8_sums.push_back(s8_sum);
    }
  }
  return forms;
}

class FormBuffers {
 public:
  FormBuffers(Driver& driver, int rows, int k, Forms forms) : k_(k) {
    const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(k), blocks = n / 32;
    if (forms.f32) f32_.emplace(driver, n);
    if (forms.f16) f16_.emplace(driver, n), row_scale_.emplace(driver, rows);
    if (forms.sums) sums_.emplace(driver, blocks);
    if (forms.s8) s8_.emplace(driver, n), s8_scale_.emplace(driver, blocks), s8_sums_.emplace(driver, blocks);
    if (forms.bf16) bf16_.emplace(driver, n);
    if (forms.rest) rest_.emplace(driver, n);
  }

  ActivationView view() const {
    return {At(f32_),      At(f16_),     At(row_scale_), At(sums_), At(s8_),
            At(s8_scale_), At(s8_sums_), At(bf16_),      At(rest_), k_};
  }

  std::vector<float> f32() const { return f32_->Download(); }

  /// The forms that there are hold `rows`, bit for bit.
  void Expect(const std::vector<float>& rows) const {
    const FormValues forms = FormsOf(rows, k_);
    if (f32_) EXPECT(SameFloats(f32_->Download(), forms.f32));
    if (f16_) EXPECT(SameHalves(f16_->Download(), forms.f16, tokenmill::F16ToF32));
    if (f16_) EXPECT(row_scale_->Download() == forms.row_scale);
    if (sums_) EXPECT(SameFloats(sums_->Download(), forms.sums));
    if (s8_) EXPECT(s8_->Download() == forms.s8);
    if (s8_) EXPECT(SameFloats(s8_scale_->Download(), forms.s8_scale));
    if (s8_) EXPECT(s8_sums_->Download() == forms.s8_sums);
    if (bf16_) EXPECT(SameHalves(bf16_->Download(), forms.bf16, tokenmill::Bf16ToF32));
    if (rest_) EXPECT(SameHalves(rest_->Download(), forms.bf16_rest, tokenmill::Bf16ToF32));
  }

 private:
  template <class T>
  static T* At(const std::optional<DeviceBuffer<T>>& buffer) {
    return buffer ? buffer->data() : nullptr;
  }
  static bool SameHalves(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b,
                         float (*to_float)(uint16_t)) {
    std::vector<float> x, y;
    for (const uint16_t half : a) x.push_back(to_float(half));
    for (const uint16_t half : b) y.push_back(to_float(half));
    return SameFloats(x, y);
  }

  int k_;
  std::optional<DeviceBuffer<float>> f32_, row_scale_, sums_, s8_scale_;
  std::optional<DeviceBuffer<uint16_t>> f16_, bf16_, rest_;
  std::optional<DeviceBuffer<int8_t>> s8_;
  std::optional<DeviceBuffer<int32_t>> s8_sums_;
};

/// Rows that exercise the forms' edges: zeros, not finite, tiny, huge, one large element among small ones.
inline std::vector<float> EdgeRows(int k) {
  std::vector<float> rows;
  const auto add = [&](auto value) {
    for (int i = 0; i < k; ++i) rows.push_back(value(i));
  };
  add([](int) { return 0.0f; });
  add([](int i) { return i == 5 ? NAN : static_cast<float>(i); });
  add([](int i) { return i == 7 ? -INFINITY : static_cast<float>(-i); });
  add([](int i) { return std::ldexp(static_cast<float>(i % 7 - 3), -149); });
  add([](int i) { return std::ldexp(static_cast<float>(i % 191), -149); });
  add([](int i) { return std::ldexp(static_cast<float>(i % 5 - 2), 125); });
  add([k](int i) { return i == k - 1 ? 3e4f : 1e-3f * static_cast<float>(i); });
  add([](int i) { return static_cast<float>(i % 255 - 127) + 0.5f; });
  add([](int i) { return i % 32 < 16 ? 4095.9f : -1.0f; });
  return rows;
}
inline constexpr int kEdgeRows = 9;

}  // namespace gpu_test
