#pragma once

#include <algorithm>
#include <cstdint>

#include "core/float16.h"
#include "quant/levels.h"

namespace tokenmill {

/// The scales and mins of the eight groups of 32 values in a block of Q4_K or Q5_K, 6 bits each:
/// value = (d * scale) * level - dmin * min.
struct KScales {
  uint8_t scale[8];
  uint8_t min[8];
};

/// Twelve bytes: scales 0 to 3 and mins 0 to 3 in the lower 6 bits of bytes 0 to 3 and 4 to 7; the lower
/// nibbles of scales and mins 4 to 7 in bytes 8 to 11; their upper 2 bits above scales and mins 0 to 3.
static inline KScales UnpackKScales(const uint8_t packed[12]) {
  KScales scales;
  for (int i = 0; i < 4; ++i) {
    scales.scale[i] = packed[i] & 0x3f;
    scales.min[i] = packed[i + 4] & 0x3f;
    scales.scale[i + 4] = static_cast<uint8_t>((packed[i + 8] & 0x0f) | packed[i] >> 6 << 4);
    scales.min[i + 4] = static_cast<uint8_t>(packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4);
  }
  return scales;
}

static inline void PackKScales(const KScales& scales, uint8_t packed[12]) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>(scales.scale[i] | scales.scale[i + 4] >> 4 << 6);
    packed[i + 4] = static_cast<uint8_t>(scales.min[i] | scales.min[i + 4] >> 4 << 6);
    packed[i + 8] = static_cast<uint8_t>((scales.scale[i + 4] & 0x0f) | (scales.min[i + 4] & 0x0f) << 4);
  }
}

/// Rounds 256 values to levels 0 … level_max between each group's least and greatest value, as near as the
/// scales' own 6 bits allow.
static inline void QuantizeK(const float* values, int level_max, uint16_t* d, uint16_t* dmin,
                             uint8_t packed[12], uint8_t levels[256]) {
  float group_scales[8], group_mins[8];
  for (int group = 0; group < 8; ++group) {
    const float* begin = values + 32 * group;
    group_mins[group] = -std::min(0.0f, *std::min_element(begin, begin + 32));
    const float high = std::max(0.0f, *std::max_element(begin, begin + 32));
    group_scales[group] = (high + group_mins[group]) / static_cast<float>(level_max);
  }
  *d = F32ToF16(*std::max_element(group_scales, group_scales + 8) / 63);
  *dmin = F32ToF16(*std::max_element(group_mins, group_mins + 8) / 63);
  const float d_stored = F16ToF32(*d), dmin_stored = F16ToF32(*dmin);
  KScales scales;
  for (int group = 0; group < 8; ++group) {
    scales.scale[group] =
        static_cast<uint8_t>(RoundToLevel(group_scales[group] * InverseOrZero(d_stored), 0, 63));
    scales.min[group] =
        static_cast<uint8_t>(RoundToLevel(group_mins[group] * InverseOrZero(dmin_stored), 0, 63));
    const float inverse = InverseOrZero(d_stored * static_cast<float>(scales.scale[group]));
    const float min = dmin_stored * static_cast<float>(scales.min[group]);
    for (int i = 32 * group; i < 32 * group + 32; ++i) {
      levels[i] = static_cast<uint8_t>(RoundToLevel((values[i] + min) * inverse, 0, level_max));
    }
  }
  PackKScales(scales, packed);
}

}  // namespace tokenmill
