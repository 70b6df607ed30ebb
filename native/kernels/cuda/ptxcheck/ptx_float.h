#pragma once

#include "kernels/cuda/ptxcheck/ptx_integer.h"
#include "kernels/cuda/ptxcheck/ptx_round.h"

// Floating-point arithmetic. Files that include this are compiled with -ffp-contract=off.

namespace tokenmill::cuda::ptx {

/// The functions that are carried out in another rounding mode than to nearest, out of line.
enum class Operation { kAdd, kSubtract, kMultiply, kDivide, kFma, kSquareRoot };
float Directed(Operation operation, unsigned mode, float a, float b, float c);
double Directed(Operation operation, unsigned mode, double a, double b, double c);

template <class V>
V Nearest(Operation operation, V a, V b, V c) {
  switch (operation) {
    case Operation::kAdd: return a + b;
    case Operation::kSubtract: return a - b;
    case Operation::kMultiply: return a * b;
    case Operation::kDivide: return a / b;
    case Operation::kFma: return std::fma(a, b, c);
    default: return std::sqrt(a);
  }
}

/// a * b + c for values of 16-bit floats, rounded to odd in double: rounding that to 16 bits rounds the exact result.
inline double FmaToOdd(double a, double b, double c) {
  const double product = a * b;  // exact: 22 bits
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - product;
  const double rest = (product - (sum - part)) + (c - part);
  const uint64_t bits = std::bit_cast<uint64_t>(sum);
  if (rest == 0 || (bits & 1)) return sum;
  // Inexact with an even last bit: the odd neighbour on the side of the exact sum.
  const bool away = (rest > 0) == (sum > 0);
  return std::bit_cast<double>(away ? bits + 1 : bits - 1);
}

template <class T, unsigned flags>
Bits<T> ComputeFloat(Operation operation, Bits<T> a, Bits<T> b, Bits<T> c) {
  const Value<T> x = Decode<T, flags>(a), y = Decode<T, flags>(b), z = Decode<T, flags>(c);
  Value<T> result;
  if constexpr (T::kWidth == 16) {
    // Sums and products of two are an fma with one factor 1, or with an addend of the zero that keeps signs.
    const bool sum = operation == Operation::kAdd || operation == Operation::kSubtract;
    result = operation == Operation::kMultiply ? x * y
             : sum ? FmaToOdd(x, 1, operation == Operation::kAdd ? y : -y)
                   : FmaToOdd(x, y, z);
  } else if constexpr ((flags & kRounding) == kRn) {
    result = Nearest(operation, x, y, z);
  } else {
    result = Directed(operation, flags & kRounding, x, y, z);
  }
  return Encode<T, flags>(result);
}

/// The same on both halves of a register for the packed types.
template <class T, unsigned flags>
Bits<T> ComputeAny(Operation operation, Bits<T> a, Bits<T> b, Bits<T> c) {
  if constexpr (requires { typename T::Half; }) {
    using Half = typename T::Half;
    const auto low = ComputeFloat<Half, flags>(operation, a & 0xffff, b & 0xffff, c & 0xffff);
    const auto high = ComputeFloat<Half, flags>(operation, a >> 16, b >> 16, c >> 16);
    return Pack16(low, high);
  } else {
    return ComputeFloat<T, flags>(operation, a, b, c);
  }
}

template <class T, unsigned flags>
Bits<T> AddFloat(Bits<T> a, Bits<T> b) {
  return ComputeAny<T, flags>(Operation::kAdd, a, b, 0);
}
template <class T, unsigned flags>
Bits<T> SubtractFloat(Bits<T> a, Bits<T> b) {
  return ComputeAny<T, flags>(Operation::kSubtract, a, b, 0);
}
template <class T, unsigned flags>
Bits<T> MultiplyFloat(Bits<T> a, Bits<T> b) {
  return ComputeAny<T, flags>(Operation::kMultiply, a, b, 0);
}
template <class T, unsigned flags>
Bits<T> FusedMultiplyAdd(Bits<T> a, Bits<T> b, Bits<T> c) {
  return ComputeAny<T, flags>(Operation::kFma, a, b, c);
}
template <class T, unsigned flags>
Bits<T> DivideFloat(Bits<T> a, Bits<T> b) {
  return ComputeAny<T, flags>(Operation::kDivide, a, b, 0);
}
template <class T, unsigned flags>
Bits<T> Reciprocal(Bits<T> a) {
  return ComputeAny<T, flags>(Operation::kDivide, std::bit_cast<Bits<T>>(Value<T>{1}), a, 0);
}
template <class T, unsigned flags>
Bits<T> SquareRoot(Bits<T> a) {
  return ComputeAny<T, flags>(Operation::kSquareRoot, a, 0, 0);
}

/// A NaN yields to a number, except with `nan`; -0 is less than +0.
template <class T, unsigned flags, bool nan, bool largest>
Bits<T> Extreme(Bits<T> a, Bits<T> b) {
  const Value<T> x = Decode<T, flags>(a), y = Decode<T, flags>(b);
  if (std::isnan(x) || std::isnan(y)) {
    const bool none = nan || (std::isnan(x) && std::isnan(y));
    return Encode<T, flags>(none ? std::numeric_limits<Value<T>>::quiet_NaN() : std::isnan(x) ? y : x);
  }
  const bool less = x == y ? std::signbit(x) && !std::signbit(y) : x < y;
  return Encode<T, flags>(less == largest ? y : x);
}

template <class T, unsigned flags, bool nan, bool largest>
Bits<T> ExtremeAny(Bits<T> a, Bits<T> b) {
  if constexpr (requires { typename T::Half; }) {
    using Half = typename T::Half;
    return Pack16(Extreme<Half, flags, nan, largest>(a & 0xffff, b & 0xffff),
                  Extreme<Half, flags, nan, largest>(a >> 16, b >> 16));
  } else {
    return Extreme<T, flags, nan, largest>(a, b);
  }
}

template <class T, unsigned flags, bool nan>
Bits<T> MinFloat(Bits<T> a, Bits<T> b) {
  return ExtremeAny<T, flags, nan, false>(a, b);
}
template <class T, unsigned flags, bool nan>
Bits<T> MaxFloat(Bits<T> a, Bits<T> b) {
  return ExtremeAny<T, flags, nan, true>(a, b);
}

/// The bits of the signs of a register.
template <class T>
constexpr Bits<T> SignBits() {
  if constexpr (requires { typename T::Half; }) return 0x80008000u;
  return static_cast<Bits<T>>(Bits<T>{1} << (T::kWidth - 1));
}

template <class T, bool ftz>
Bits<T> AbsFloat(Bits<T> a) {
  if constexpr (ftz) a = std::bit_cast<uint32_t>(Decode<T, kFtz>(a));
  return a & static_cast<Bits<T>>(~SignBits<T>());
}
template <class T, bool ftz>
Bits<T> NegateFloat(Bits<T> a) {
  if constexpr (ftz) a = std::bit_cast<uint32_t>(Decode<T, kFtz>(a));
  return a ^ SignBits<T>();
}

template <class T, Comparison how, bool ftz>
bool CompareFloat(Bits<T> a, Bits<T> b) {
  const Value<T> x = Decode<T, FlushFlag(ftz)>(a), y = Decode<T, FlushFlag(ftz)>(b);
  const bool unordered = std::isnan(x) || std::isnan(y);
  switch (how) {
    case Comparison::kEq: return !unordered && x == y;
    case Comparison::kNe: return !unordered && x != y;
    case Comparison::kLt: return !unordered && x < y;
    case Comparison::kLe: return !unordered && x <= y;
    case Comparison::kGt: return !unordered && x > y;
    case Comparison::kGe: return !unordered && x >= y;
    case Comparison::kEqu: return unordered || x == y;
    case Comparison::kNeu: return unordered || x != y;
    case Comparison::kLtu: return unordered || x < y;
    case Comparison::kLeu: return unordered || x <= y;
    case Comparison::kGtu: return unordered || x > y;
    case Comparison::kGeu: return unordered || x >= y;
    case Comparison::kNum: return !unordered;
    default: return unordered;
  }
}

// --- The special function unit. The ISA bounds its errors; here results are the nearest ones.

/// f(x) in double, as an f32 with the flags.
template <bool ftz, class F>
uint32_t Approximate(uint32_t a, F f) {
  constexpr unsigned flags = FlushFlag(ftz);
  return Encode<f32, flags>(static_cast<float>(f(static_cast<double>(Decode<f32, flags>(a)))));
}

template <bool ftz>
uint32_t Exp2Approx(uint32_t a) {
  return Approximate<ftz>(a, [](double x) { return std::exp2(x); });
}
template <bool ftz>
uint32_t Log2Approx(uint32_t a) {
  return Approximate<ftz>(a, [](double x) { return std::log2(x); });
}
template <bool ftz>
uint32_t SquareRootApprox(uint32_t a) {
  return Approximate<ftz>(a, [](double x) { return std::sqrt(x); });
}
template <bool ftz>
uint32_t ReciprocalSquareRootApprox(uint32_t a) {
  return Approximate<ftz>(a, [](double x) { return 1 / std::sqrt(x); });
}
template <bool ftz>
uint32_t ReciprocalApprox(uint32_t a) {
  return Approximate<ftz>(a, [](double x) { return 1 / x; });
}
/// Beyond 2^126 the divisor's reciprocal is subnormal: the quotient is a zero, and NaN for infinity / infinity.
template <bool ftz>
uint32_t DivideApprox(uint32_t a, uint32_t b) {
  const float y = std::bit_cast<float>(b);
  if (std::fabs(y) > 0x1p126f && std::isfinite(y)) {
    const float x = std::bit_cast<float>(a);
    return Encode<f32, kFtz>(std::isfinite(x) ? std::copysign(0.0f, x) * (y < 0 ? -1 : 1) : NAN);
  }
  return DivideFloat<f32, FlushFlag(ftz)>(a, b);
}
template <bool ftz>
uint32_t DivideFull(uint32_t a, uint32_t b) {
  return DivideFloat<f32, FlushFlag(ftz)>(a, b);
}

/// rcp.approx.ftz.f64 looks at the high 32 bits alone, and its low 32 bits are zeros.
inline uint64_t ReciprocalApproxF64(uint64_t a) {
  const double x = std::bit_cast<double>(a & 0xffffffff00000000ull);
  if (std::isnan(std::bit_cast<double>(a))) return a | 0x0008000000000000ull;
  const bool subnormal = std::fpclassify(x) == FP_SUBNORMAL;
  const double y = 1 / (subnormal ? std::copysign(0.0, x) : x);
  if (std::fpclassify(y) == FP_SUBNORMAL) return std::bit_cast<uint64_t>(std::copysign(0.0, y));
  return std::bit_cast<uint64_t>(y) & 0xffffffff00000000ull;
}

}  // namespace tokenmill::cuda::ptx
