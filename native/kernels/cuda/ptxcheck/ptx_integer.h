#pragma once

#include "kernels/cuda/ptxcheck/ptx_types.h"

// Integer arithmetic, bits, comparisons of integers.

namespace tokenmill::cuda::ptx {

/// An integer's value, exactly.
template <class T>
__int128 Exact(Bits<T> bits) {
  return static_cast<Value<T>>(bits);
}

template <class T>
Bits<T> Add(Bits<T> a, Bits<T> b) {
  return static_cast<Bits<T>>(a + b);
}

template <class T>
Bits<T> Subtract(Bits<T> a, Bits<T> b) {
  return static_cast<Bits<T>>(a - b);
}

/// The nearest value that the type holds.
template <class T>
Bits<T> Clamp(__int128 value) {
  using Limits = std::numeric_limits<Value<T>>;
  if (value < Limits::min()) return static_cast<Bits<T>>(Limits::min());
  return static_cast<Bits<T>>(value > Limits::max() ? Limits::max() : static_cast<Value<T>>(value));
}

template <class T>
Bits<T> AddSaturated(Bits<T> a, Bits<T> b) {
  return Clamp<T>(Exact<T>(a) + Exact<T>(b));
}

template <class T>
Bits<T> SubtractSaturated(Bits<T> a, Bits<T> b) {
  return Clamp<T>(Exact<T>(a) - Exact<T>(b));
}

/// All bits of a product; 64-bit operands fit too, as signed products of them stay within 127 bits.
template <class T>
unsigned __int128 Product(Bits<T> a, Bits<T> b) {
  if constexpr (kIsSigned<T>) return static_cast<unsigned __int128>(Exact<T>(a) * Exact<T>(b));
  return static_cast<unsigned __int128>(a) * b;
}

template <class T>
Bits<T> MultiplyLo(Bits<T> a, Bits<T> b) {
  return static_cast<Bits<T>>(Product<T>(a, b));
}

template <class T>
Bits<T> MultiplyHi(Bits<T> a, Bits<T> b) {
  return static_cast<Bits<T>>(Product<T>(a, b) >> T::kWidth);
}

template <class T>
using WideBits = std::conditional_t<T::kWidth == 16, uint32_t, uint64_t>;

template <class T>
WideBits<T> MultiplyWide(Bits<T> a, Bits<T> b) {
  return static_cast<WideBits<T>>(Product<T>(a, b));
}

/// The low 24 bits of an operand, as the type's sign says.
template <class T>
int64_t Low24(uint32_t x) {
  if constexpr (kIsSigned<T>) return static_cast<int32_t>(x << 8) >> 8;
  return x & 0xffffff;
}

template <class T>
uint32_t Multiply24Lo(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(Low24<T>(a) * Low24<T>(b));
}

/// Bits 16 to 47 of the 48-bit product.
template <class T>
uint32_t Multiply24Hi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((Low24<T>(a) * Low24<T>(b)) >> 16);
}

/// Truncated; what a division by zero gives is unspecified: all ones, as devices do.
template <class T>
Bits<T> Divide(Bits<T> a, Bits<T> b) {
  return b == 0 ? static_cast<Bits<T>>(~0ull) : static_cast<Bits<T>>(Exact<T>(a) / Exact<T>(b));
}

template <class T>
Bits<T> Remainder(Bits<T> a, Bits<T> b) {
  return b == 0 ? a : static_cast<Bits<T>>(Exact<T>(a) % Exact<T>(b));
}

template <class T>
Bits<T> Min(Bits<T> a, Bits<T> b) {
  return static_cast<Value<T>>(b) < static_cast<Value<T>>(a) ? b : a;
}

template <class T>
Bits<T> Max(Bits<T> a, Bits<T> b) {
  return static_cast<Value<T>>(a) < static_cast<Value<T>>(b) ? b : a;
}

template <class T>
Bits<T> Negate(Bits<T> a) {
  return static_cast<Bits<T>>(0 - a);
}

template <class T>
Bits<T> Abs(Bits<T> a) {
  return static_cast<Value<T>>(a) < 0 ? Negate<T>(a) : a;
}

/// Shift amounts are 32 bits unsigned and clamp to the width.
template <class T>
Bits<T> ShiftLeft(Bits<T> a, uint32_t amount) {
  return amount >= T::kWidth ? 0 : static_cast<Bits<T>>(a << amount);
}

template <class T>
Bits<T> ShiftRight(Bits<T> a, uint32_t amount) {
  if constexpr (kIsSigned<T>) {
    const uint32_t most = T::kWidth - 1;
    return static_cast<Bits<T>>(static_cast<Value<T>>(a) >> (amount > most ? most : amount));
  } else {
    return amount >= T::kWidth ? 0 : static_cast<Bits<T>>(a >> amount);
  }
}

/// The high word of high:low << amount.
template <bool wrap>
uint32_t FunnelShiftLeft(uint32_t low, uint32_t high, uint32_t amount) {
  amount = wrap ? amount & 31 : (amount > 32 ? 32 : amount);
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  return static_cast<uint32_t>((both << amount) >> 32);
}

/// The low word of high:low >> amount.
template <bool wrap>
uint32_t FunnelShiftRight(uint32_t low, uint32_t high, uint32_t amount) {
  amount = wrap ? amount & 31 : (amount > 32 ? 32 : amount);
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  return static_cast<uint32_t>(both >> amount);
}

/// lop3: bit (a b c) of the table, for each position.
template <unsigned table>
uint32_t Lookup3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (unsigned row = 0; row < 8; ++row) {
    if (!(table >> row & 1)) continue;
    result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  }
  return result;
}

enum class PermuteMode {
  kGeneric,
  kForward4,
  kBackward4,
  kReplicate8,
  kEdgeClampLeft,
  kEdgeClampRight,
  kReplicate16,
};

/// Which of the 8 bytes of b:a the special modes of prmt choose for byte `at`, by the low 2 bits of the selector.
constexpr unsigned PermuteIndex(PermuteMode mode, unsigned selector, unsigned at) {
  switch (mode) {
    case PermuteMode::kForward4: return selector + at;
    case PermuteMode::kBackward4: return (selector + 8 - at) & 7;
    case PermuteMode::kReplicate8: return selector;
    case PermuteMode::kEdgeClampLeft: return at < selector ? selector : at;
    case PermuteMode::kEdgeClampRight: return at < selector ? at : selector;
    default: return (selector & 1) * 2 + (at & 1);
  }
}

template <PermuteMode mode>
uint32_t Permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (unsigned at = 0; at < 4; ++at) {
    const unsigned nibble = selector >> (4 * at) & 15;
    const bool generic = mode == PermuteMode::kGeneric;
    const unsigned index = generic ? nibble & 7 : PermuteIndex(mode, selector & 3, at);
    uint32_t byte = bytes >> (8 * index) & 255;
    if (generic && (nibble & 8)) byte = byte & 128 ? 255 : 0;  // the sign, replicated
    result |= byte << (8 * at);
  }
  return result;
}

/// bfe: `length` bits from `position`; beyond the operand's top there are copies of its sign, or zeros.
template <class T>
Bits<T> ExtractField(Bits<T> a, uint32_t position, uint32_t length) {
  position &= 255;
  length &= 255;
  const uint32_t top = T::kWidth - 1;
  const uint32_t sign_at = position + length - 1 > top ? top : position + length - 1;
  const bool sign = kIsSigned<T> && length > 0 && (a >> sign_at & 1);
  Bits<T> result = 0;
  for (uint32_t at = 0; at <= top; ++at) {
    const bool inside = at < length && position + at <= top;
    const bool bit = inside ? a >> (position + at) & 1 : sign;
    result |= static_cast<Bits<T>>(bit) << at;
  }
  return result;
}

/// bfi: b with `length` bits from `position` taken from a's low end.
template <class T>
Bits<T> InsertField(Bits<T> a, Bits<T> b, uint32_t position, uint32_t length) {
  position &= 255;
  length &= 255;
  for (uint32_t at = 0; at < length && position + at < T::kWidth; ++at) {
    const Bits<T> one = static_cast<Bits<T>>(1) << (position + at);
    b = a >> at & 1 ? b | one : b & ~one;
  }
  return b;
}

template <class T>
Bits<T> ReverseBits(Bits<T> a) {
  Bits<T> result = 0;
  for (unsigned at = 0; at < T::kWidth; ++at) result |= (a >> at & 1) << (T::kWidth - 1 - at);
  return result;
}

template <class T>
uint32_t PopulationCount(Bits<T> a) {
  return static_cast<uint32_t>(std::popcount(a));
}

template <class T>
uint32_t LeadingZeros(Bits<T> a) {
  return static_cast<uint32_t>(std::countl_zero(a));
}

/// The highest bit that differs from the sign, or with `shift`, how far left it could move; all ones without any.
template <class T, bool shift>
uint32_t FindLeadingBit(Bits<T> a) {
  const Bits<T> x = kIsSigned<T> && a >> (T::kWidth - 1) ? static_cast<Bits<T>>(~a) : a;
  if (x == 0) return ~0u;
  const uint32_t zeros = LeadingZeros<T>(x);
  return shift ? zeros : T::kWidth - 1 - zeros;
}

/// c + the sum of the products of four bytes.
template <class A, class B>
uint32_t DotProduct4(uint32_t a, uint32_t b, uint32_t c) {
  for (unsigned at = 0; at < 32; at += 8) {
    const int32_t x = kIsSigned<A> ? static_cast<int8_t>(a >> at) : static_cast<uint8_t>(a >> at);
    const int32_t y = kIsSigned<B> ? static_cast<int8_t>(b >> at) : static_cast<uint8_t>(b >> at);
    c += static_cast<uint32_t>(x * y);
  }
  return c;
}

/// The last two ask for both operands to be numbers, and for one that is none.
enum class Comparison {
  kEq, kNe, kLt, kLe, kGt, kGe,
  kLo, kLs, kHi, kHs,
  kEqu, kNeu, kLtu, kLeu, kGtu, kGeu,
  kNum, kNan,
};

template <class T, Comparison how>
bool Compare(Bits<T> a, Bits<T> b) {
  const auto x = static_cast<Value<T>>(a), y = static_cast<Value<T>>(b);
  switch (how) {
    case Comparison::kEq: return x == y;
    case Comparison::kNe: return x != y;
    case Comparison::kLt:
    case Comparison::kLo: return x < y;
    case Comparison::kLe:
    case Comparison::kLs: return x <= y;
    case Comparison::kGt:
    case Comparison::kHi: return x > y;
    default: return x >= y;
  }
}

}  // namespace tokenmill::cuda::ptx
