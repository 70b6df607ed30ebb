#pragma once

#include <cmath>

#include "kernels/cuda/ptxcheck/ptx_types.h"

// Bits to values and back: what a rounding is, for each of the float types.

namespace tokenmill::cuda::ptx {

inline constexpr uint32_t kNanF32 = 0x7fffffff;  // what arithmetic on f32 gives for every NaN
inline constexpr uint16_t kNanHalf = 0x7fff;     // and on f16 and bf16

/// Exact.
template <class Half>
double DecodeHalf(uint16_t bits) {
  constexpr int bias = (1 << (Half::kExponent - 1)) - 1;
  constexpr int top = (1 << Half::kExponent) - 1;
  const int exponent = bits >> Half::kMantissa & top;
  const int mantissa = bits & ((1 << Half::kMantissa) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == top) return mantissa ? std::nan("") : sign * INFINITY;
  const int whole = exponent ? mantissa | 1 << Half::kMantissa : mantissa;
  return sign * std::ldexp(whole, (exponent ? exponent : 1) - bias - Half::kMantissa);
}

/// `significand` / 2^drop as an integer, rounded; `negative` tells the directed modes which way is up.
inline uint64_t RoundBits(uint64_t significand, int drop, bool negative, unsigned mode) {
  if (drop <= 0) return significand << -drop;
  if (drop > 60) {  // less than a half of the last place: only its being there counts
    return significand != 0 && ((mode == kRp && !negative) || (mode == kRm && negative)) ? 1 : 0;
  }
  const uint64_t kept = significand >> drop;
  const uint64_t rest = significand & ((1ull << drop) - 1), half = 1ull << (drop - 1);
  const bool up = mode == kRn   ? rest > half || (rest == half && (kept & 1))
                  : mode == kRp ? rest != 0 && !negative
                  : mode == kRm ? rest != 0 && negative
                                : false;
  return kept + up;
}

/// x, which must be exact in double, as a 16-bit float.
template <class Half>
uint16_t EncodeHalf(double x, unsigned mode = kRn) {
  constexpr int bias = (1 << (Half::kExponent - 1)) - 1;
  constexpr uint64_t infinity = ((1ull << Half::kExponent) - 1) << Half::kMantissa;
  if (std::isnan(x)) return kNanHalf;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const bool negative = bits >> 63;
  const uint16_t sign = negative ? 0x8000 : 0;
  if (std::isinf(x)) return static_cast<uint16_t>(sign | infinity);
  const int stored = bits >> 52 & 2047;
  const int exponent = (stored ? stored : 1) - 1023;
  const uint64_t significand = (bits & ((1ull << 52) - 1)) | (stored ? 1ull << 52 : 0);
  const int lowest = 1 - bias;  // below it, steps no longer shrink
  const int place = exponent < lowest ? lowest : exponent;
  const uint64_t rounded = RoundBits(significand, 52 - Half::kMantissa + (place - exponent), negative, mode);
  // A normal number's leading bit adds one to the exponent; a carry out of the mantissa does so too.
  const uint64_t result = (static_cast<uint64_t>(place - lowest) << Half::kMantissa) + rounded;
  if (result < infinity) return static_cast<uint16_t>(sign | result);
  const bool to_infinity = mode == kRn || (mode == kRp && !negative) || (mode == kRm && negative);
  return static_cast<uint16_t>(sign | (to_infinity ? infinity : infinity - 1));
}

inline bool IsSubnormal(float x) { return std::fpclassify(x) == FP_SUBNORMAL; }
inline float Flushed(float x) { return IsSubnormal(x) ? std::copysign(0.0f, x) : x; }

/// 0 to 1; NaN gives 0.
template <class V>
V Saturated(V x) {
  if (!(x > 0)) return 0;
  return x > 1 ? V{1} : x;
}

/// The value of an operand, flushed where the flags say so.
template <class T, unsigned flags>
Value<T> Decode(Bits<T> bits) {
  if constexpr (T::kWidth == 16) {
    const double x = DecodeHalf<T>(bits);
    if ((flags & kFtz) && (bits & 0x7fff) < 1 << T::kMantissa) return std::copysign(0.0, x);
    return x;
  } else {
    const Value<T> x = std::bit_cast<Value<T>>(bits);
    if constexpr (T::kWidth == 32) return flags & kFtz ? Flushed(x) : x;
    return x;
  }
}

/// A result: clamped and flushed where the flags say so, rounded where the type is narrower than its values.
template <class T, unsigned flags>
Bits<T> Encode(Value<T> x) {
  if (flags & kSat) x = Saturated(x);
  if constexpr (T::kWidth == 16) {
    const uint16_t bits = EncodeHalf<T>(x, flags & kRounding);
    return (flags & kFtz) && (bits & 0x7fff) < 1 << T::kMantissa ? bits & 0x8000 : bits;
  } else {
    if constexpr (T::kWidth == 32) {
      if (std::isnan(x)) return kNanF32;
      if (flags & kFtz) x = Flushed(x);
    }
    return std::bit_cast<Bits<T>>(x);
  }
}

}  // namespace tokenmill::cuda::ptx
