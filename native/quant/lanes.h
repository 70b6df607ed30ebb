#pragma once

// Candidates side by side: the encoders try eight settings of a group at once, one a lane. Vectors of the
// compiler's, of the size that every ISA has, so that the code is the same for all, and so are its results: no
// lane is ever added to another. All of it has internal linkage (see quant/levels.h).

#include <cstdint>

namespace tokenmill {

using Vector = float __attribute__((vector_size(16)));
using IntegerVector = int32_t __attribute__((vector_size(16)));

inline constexpr int kLanes = 8;

struct Lanes {
  Vector part[2] = {};

  Lanes() = default;
  Lanes(float x) : part{Vector{} + x, Vector{} + x} {}  // NOLINT(google-explicit-constructor)
  Lanes(Vector low, Vector high) : part{low, high} {}
  float operator[](int lane) const { return part[lane / 4][lane % 4]; }
  void Set(int lane, float x) { part[lane / 4][lane % 4] = x; }
};

static inline Lanes operator+(const Lanes& a, const Lanes& b) {
  return {a.part[0] + b.part[0], a.part[1] + b.part[1]};
}
static inline Lanes operator-(const Lanes& a, const Lanes& b) {
  return {a.part[0] - b.part[0], a.part[1] - b.part[1]};
}
static inline Lanes operator*(const Lanes& a, const Lanes& b) {
  return {a.part[0] * b.part[0], a.part[1] * b.part[1]};
}
static inline Lanes operator/(const Lanes& a, const Lanes& b) {
  return {a.part[0] / b.part[0], a.part[1] / b.part[1]};
}

/// In each lane a where x > 0, else b.
static inline Lanes WherePositive(const Lanes& x, const Lanes& a, const Lanes& b) {
  return {x.part[0] > 0 ? a.part[0] : b.part[0], x.part[1] > 0 ? a.part[1] : b.part[1]};
}

static inline Vector ClampVector(Vector x, Vector low, Vector high) {
  x = x > low ? x : low;  // also what is not a number
  return x < high ? x : high;
}

static inline Lanes Clamp(const Lanes& x, float low, float high) {
  const Lanes l = low, h = high;
  return {ClampVector(x.part[0], l.part[0], h.part[0]), ClampVector(x.part[1], l.part[1], h.part[1])};
}

/// Added and taken away again, it rounds to whole numbers, ties to even: 1.5 * 2^23, whose last bit counts ones.
inline constexpr float kRoundingShift = 12582912;

/// Magnitudes are below 2^22.
static inline Lanes RoundToInteger(const Lanes& x) { return (x + kRoundingShift) - kRoundingShift; }

static inline Vector HalfVector(Vector x) {
  constexpr int32_t kExponent = 0x7f800000;
  constexpr int32_t kSmallest = (127 - 14) << 23;  // 2^-14: below, halves are as far apart as from there on
  IntegerVector exponent = reinterpret_cast<IntegerVector>(x) & kExponent;
  exponent = exponent > kSmallest ? exponent : IntegerVector{} + kSmallest;
  exponent += 13 << 23;  // the power of two whose f32 neighbours are as far apart as the halves at x
  const Vector shift = 1.5f * reinterpret_cast<Vector>(exponent);
  return (x + shift) - shift;
}

/// Rounds to the nearest values of f16, those beyond its range to its largest.
static inline Lanes RoundToHalf(const Lanes& x) {
  const Lanes held = Clamp(x, -65504, 65504);
  return {HalfVector(held.part[0]), HalfVector(held.part[1])};
}

/// 1 / x, and 0 for 0.
static inline Lanes Inverse(const Lanes& x) {
  const Lanes inverse = 1.0f / x;
  return {x.part[0] != 0 ? inverse.part[0] : Vector{}, x.part[1] != 0 ? inverse.part[1] : Vector{}};
}

/// The lane of the smallest value, the first of equal ones.
static inline int SmallestLane(const Lanes& x) {
  int best = 0;
  for (int lane = 1; lane < kLanes; ++lane) {
    if (x[lane] < x[best]) best = lane;
  }
  return best;
}

}  // namespace tokenmill
