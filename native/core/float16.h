#pragma once

// Exact scalar conversions between f32 and the 16-bit floats of model files. The functions have internal
// linkage: a file compiled for one ISA must not give its copy to the rest of the program.

#include <cstdint>
#include <cstring>

namespace tokenmill {

static inline float F32FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline uint32_t BitsOfF32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// IEEE binary16 to f32. Exact; NaNs keep their payload and become quiet, as vcvtph2ps has it.
static inline float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) {
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0;
    return F32FromBits(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  if (exponent != 0) return F32FromBits(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero or subnormal
  return F32FromBits(sign | BitsOfF32(magnitude));
}

/// f32 to IEEE binary16, to nearest, ties to even; what exceeds 65504 by half a step or more is infinite.
static inline uint16_t F32ToF16(float value) {
  const uint32_t bits = BitsOfF32(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);  // NaN
  } else if (magnitude >= 0x477ff000u) {          // 65520
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Below 2^-14 a half has steps of 2^-24, as f32 has from 0.5 to 1: the addition rounds.
    half = BitsOfF32(F32FromBits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    const uint32_t odd = magnitude >> 13 & 1u;
    half = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

/// bfloat16 to f32. Exact, bit for bit.
static inline float Bf16ToF32(uint16_t value) { return F32FromBits(static_cast<uint32_t>(value) << 16); }

/// f32 to bfloat16, to nearest, ties to even; NaNs become quiet.
static inline uint16_t F32ToBf16(float value) {
  const uint32_t bits = BitsOfF32(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace tokenmill
