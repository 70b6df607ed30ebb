#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

// PTX's types as tags. Registers hold bits: every operation takes and gives the bits of its operands, whatever they
// stand for, and is written from the PTX ISA alone, not with the emulator's primitives, so that a misreading in one
// of the two shows as a difference.

namespace tokenmill::cuda::ptx {

template <class BitsT, class ValueT>
struct Type {
  using Bits = BitsT;
  using Value = ValueT;
  static constexpr unsigned kWidth = 8 * sizeof(BitsT);
};

struct u8 : Type<uint8_t, uint8_t> {};
struct u16 : Type<uint16_t, uint16_t> {};
struct u32 : Type<uint32_t, uint32_t> {};
struct u64 : Type<uint64_t, uint64_t> {};
struct s8 : Type<uint8_t, int8_t> {};
struct s16 : Type<uint16_t, int16_t> {};
struct s32 : Type<uint32_t, int32_t> {};
struct s64 : Type<uint64_t, int64_t> {};
struct b8 : Type<uint8_t, uint8_t> {};
struct b16 : Type<uint16_t, uint16_t> {};
struct b32 : Type<uint32_t, uint32_t> {};
struct b64 : Type<uint64_t, uint64_t> {};
struct f32 : Type<uint32_t, float> {};
struct f64 : Type<uint64_t, double> {};
/// 16-bit floats: 1 sign, kExponent and kMantissa bits. Their values are computed with as doubles, which hold all of
/// them.
struct f16 : Type<uint16_t, double> {
  static constexpr int kExponent = 5, kMantissa = 10;
};
struct bf16 : Type<uint16_t, double> {
  static constexpr int kExponent = 8, kMantissa = 7;
};
/// Two in a register, the first in the low half.
struct f16x2 : Type<uint32_t, double> {
  using Half = f16;
};
struct bf16x2 : Type<uint32_t, double> {
  using Half = bf16;
};

template <class T>
using Bits = typename T::Bits;
template <class T>
using Value = typename T::Value;

template <class T>
inline constexpr bool kIsSigned = std::is_signed_v<Value<T>> && std::is_integral_v<Value<T>>;
template <class T>
inline constexpr bool kIsInteger = std::is_integral_v<Value<T>>;

/// Modifiers of instructions: how to round, flush subnormals to zeros, clamp, round to an integer.
enum Flags : unsigned {
  kRn = 0,
  kRz = 1,
  kRm = 2,
  kRp = 3,
  kRni = kRn,
  kRzi = kRz,
  kRmi = kRm,
  kRpi = kRp,
  kRounding = 3,
  kFtz = 4,
  kSat = 8,
  kIntegral = 16,
};

constexpr unsigned FlushFlag(bool ftz) { return ftz ? static_cast<unsigned>(kFtz) : 0; }

/// What registers and local memory hold before they are written: no small number, address or ordinary float.
inline constexpr uint64_t kPoison = 0x7fbadbad7fbadbadull;

/// A loaded or converted value in a register that may be wider: signed types are sign-extended, others zero-extended.
template <class Register, class T>
Register Widen(Bits<T> bits) {
  if constexpr (kIsSigned<T>) {
    return static_cast<Register>(static_cast<std::make_signed_t<Register>>(static_cast<Value<T>>(bits)));
  } else {
    return bits;
  }
}

inline uint32_t Pack16(uint16_t low, uint16_t high) { return low | static_cast<uint32_t>(high) << 16; }

}  // namespace tokenmill::cuda::ptx
