// Conversions and the special function unit's results, as the PTX ISA defines them.

#include <bit>
#include <cmath>

#include "core/float16.h"
#include "kernels/cuda/emu/gpu_emu.h"

namespace tokenmill::cuda::emu {

uint16_t ToF16(float x) { return std::isnan(x) ? 0x7fff : F32ToF16(x); }

float FromF16(uint16_t h) {
  const float x = F16ToF32(h);
  return std::isnan(x) ? F32FromBits(0x7fffffffu) : x;
}

uint16_t ToBf16(float x) { return std::isnan(x) ? 0x7fff : F32ToBf16(x); }

int RoundToInt(float x) {
  if (std::isnan(x)) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  if (x <= -0x1p31f) return INT32_MIN;
  return static_cast<int>(std::nearbyint(x));
}

namespace {

/// Rounds a sum that double holds exactly, or whose last bit says that something was lost, to f16.
uint16_t RoundToF16(double x) {
  // f32 has 13 bits more than f16: rounding to odd there keeps ties and their sides apart.
  float narrow = static_cast<float>(x);
  if (std::isfinite(narrow) && static_cast<double>(narrow) != x) {
    uint32_t bits = BitsOfF32(narrow);
    if ((bits & 1) == 0) {
      const bool up = std::fabs(x) > std::fabs(static_cast<double>(narrow));
      bits += up ? 1 : -1;
    }
    narrow = F32FromBits(bits);
  }
  return F32ToF16(narrow);
}

}  // namespace

uint16_t HalfFma(uint16_t a, uint16_t b, uint16_t c) {
  // The product of two f16 has 22 bits, the sum's exponents span 2^-48 to 2^32: at most 81 bits, so a double
  // may round; made odd where it did, it still rounds rightly to f16.
  const double product = static_cast<double>(F16ToF32(a)) * static_cast<double>(F16ToF32(b));
  const double addend = static_cast<double>(F16ToF32(c));
  double sum = product + addend;
  if (std::isnan(sum)) return 0x7fff;
  if (std::isfinite(sum)) {
    const double big = std::fabs(product) > std::fabs(addend) ? product : addend;
    const double small = std::fabs(product) > std::fabs(addend) ? addend : product;
    const double lost = small - (sum - big);  // exact: the two-sum of ordered terms
    if (lost != 0) {
      uint64_t bits = std::bit_cast<uint64_t>(sum);
      if ((bits & 1) == 0) bits += (lost > 0) == (sum > 0) ? 1 : -1;
      sum = std::bit_cast<double>(bits);
    }
  }
  return RoundToF16(sum);
}

uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t nibble = selector >> (4 * i) & 0xf;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (nibble & 7))) & 0xff;
    if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

float Exp2Approx(float x) {
  if (std::isnan(x)) return F32FromBits(0x7fffffffu);
  if (std::fabs(x) < 0x1p-126f) return 1.0f;
  const float y = static_cast<float>(std::exp2(static_cast<double>(x)));
  return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace tokenmill::cuda::emu
