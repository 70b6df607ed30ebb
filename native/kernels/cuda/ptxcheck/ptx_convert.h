#pragma once

#include "kernels/cuda/ptxcheck/ptx_float.h"

// cvt, between all pairs of types.

namespace tokenmill::cuda::ptx {

float NarrowDirected(double x, unsigned mode);

/// .ftz of cvt is for its f32 operands: 16-bit floats keep their subnormals.
template <class T, unsigned flags>
inline constexpr unsigned kFlagsFor = T::kWidth == 16 ? flags & ~kFtz : flags;

/// x rounded to an integer.
template <class V>
V Integral(V x, unsigned mode) {
  switch (mode) {
    case kRzi: return std::trunc(x);
    case kRmi: return std::floor(x);
    case kRpi: return std::ceil(x);
    default: break;
  }
  const V down = std::floor(x), rest = x - down;
  if (rest > V(0.5) || (rest == V(0.5) && std::fmod(down, 2) != 0)) return std::copysign(down + 1, x);
  return std::copysign(down, x);
}

/// Beyond the type's range the nearest value in it. NaN is 0, or the top bit alone where f64 or 64 bits take part.
template <class To, class From, unsigned flags>
Bits<To> FloatToInteger(Bits<From> a) {
  const Value<From> x = Decode<From, kFlagsFor<From, flags>>(a);
  constexpr bool wide = From::kWidth == 64 || To::kWidth == 64;
  if (std::isnan(x)) return wide ? static_cast<Bits<To>>(Bits<To>{1} << (To::kWidth - 1)) : 0;
  const double whole = Integral(static_cast<double>(x), flags & kRounding);
  using Limits = std::numeric_limits<Value<To>>;
  if (whole <= static_cast<double>(Limits::min())) return static_cast<Bits<To>>(Limits::min());
  if (whole >= static_cast<double>(Limits::max())) return static_cast<Bits<To>>(Limits::max());
  return static_cast<Bits<To>>(static_cast<Value<To>>(whole));
}

/// The nearest value in the range of `To` with .sat, else the low bits.
template <class To, class From, unsigned flags>
Bits<To> IntegerToInteger(Bits<From> a) {
  if constexpr ((flags & kSat) != 0) return Clamp<To>(Exact<From>(a));
  return static_cast<Bits<To>>(Exact<From>(a));
}

/// An integer's magnitude as a float of `mantissa` + 1 bits, in double (exact: at most 53 bits).
inline double RoundInteger(__int128 value, int mantissa, unsigned mode) {
  const bool negative = value < 0;
  const auto magnitude = static_cast<uint64_t>(negative ? -value : value);
  const int drop = 64 - std::countl_zero(magnitude) - (mantissa + 1);
  const uint64_t kept = RoundBits(magnitude, drop > 0 ? drop : 0, negative, mode);
  const double rounded = std::ldexp(static_cast<double>(kept), drop > 0 ? drop : 0);
  return negative ? -rounded : rounded;
}

template <class To, class From, unsigned flags>
Bits<To> IntegerToFloat(Bits<From> a) {
  constexpr int mantissa = To::kWidth == 64 ? 52 : To::kWidth == 32 ? 23 : 10;
  if constexpr (To::kWidth == 16) {
    static_assert(std::is_same_v<To, f16>);
    // 64 bits exceed a double's; but beyond 17 bits all values round alike.
    const __int128 value = Exact<From>(a);
    const __int128 bounded = value > (1 << 18) ? 1 << 18 : value < -(1 << 18) ? -(1 << 18) : value;
    return Encode<To, flags>(static_cast<double>(bounded));
  } else {
    return Encode<To, flags>(static_cast<Value<To>>(RoundInteger(Exact<From>(a), mantissa, flags & kRounding)));
  }
}

template <class To, class From, unsigned flags>
Bits<To> FloatToFloat(Bits<From> a) {
  Value<From> x = Decode<From, kFlagsFor<From, flags>>(a);
  if constexpr (flags & kIntegral) x = Integral(x, flags & kRounding);
  if constexpr (std::is_same_v<To, From>) {
    return Encode<To, flags & ~kRounding>(x);
  } else if constexpr (To::kWidth == 32 && From::kWidth == 64) {
    const unsigned mode = flags & kRounding;
    return Encode<To, flags>(mode == kRn ? static_cast<float>(x) : NarrowDirected(x, mode));
  } else {
    return Encode<To, kFlagsFor<To, flags>>(static_cast<Value<To>>(x));
  }
}

template <class To, class From, unsigned flags>
Bits<To> Convert(Bits<From> a) {
  if constexpr (kIsInteger<To> && kIsInteger<From>) {
    return IntegerToInteger<To, From, flags>(a);
  } else if constexpr (kIsInteger<To>) {
    return FloatToInteger<To, From, flags>(a);
  } else if constexpr (kIsInteger<From>) {
    return IntegerToFloat<To, From, flags>(a);
  } else {
    return FloatToFloat<To, From, flags>(a);
  }
}

}  // namespace tokenmill::cuda::ptx
