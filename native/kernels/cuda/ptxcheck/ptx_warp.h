#pragma once

#include <algorithm>
#include <array>

#include "kernels/cuda/ptxcheck/ptx_integer.h"
#include "kernels/cuda/ptxcheck/ptx_round.h"

// What the lanes of a warp compute together, once all of them have brought their operands: shuffles, reductions and the
// layouts of matrices over lanes, read from the PTX ISA on their own.

namespace tokenmill::cuda::ptx {

enum class ShuffleMode { kUp, kDown, kBfly, kIdx };

/// `valid`: the source lane lay within the segment's bounds; else a lane gets its own value.
struct Shuffled {
  uint32_t value;
  bool valid;
};
Shuffled ShuffleLane(ShuffleMode mode, const std::array<uint32_t, 32>& values, uint32_t lane, uint32_t b, uint32_t c);

enum class Reduction { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T, Reduction how>
uint32_t ReduceWords(const std::array<uint32_t, 32>& values) {
  uint32_t result = values[0];
  for (int lane = 1; lane < 32; ++lane) {
    const uint32_t x = values[lane];
    switch (how) {
      case Reduction::kAdd: result += x; break;
      case Reduction::kMin: result = Min<T>(result, x); break;
      case Reduction::kMax: result = Max<T>(result, x); break;
      case Reduction::kAnd: result &= x; break;
      case Reduction::kOr: result |= x; break;
      case Reduction::kXor: result ^= x; break;
    }
  }
  return result;
}

/// Eight rows of eight 16-bit elements a matrix; row r of matrix m comes from lane 8 m + r.
using MatrixRow = std::array<uint16_t, 8>;
/// The registers that a lane gets of `count` matrices.
std::array<uint32_t, 4> DealMatrices(const std::array<MatrixRow, 32>& rows, int count, bool transposed, uint32_t lane);

enum class Element { kF16, kBf16, kS8, kU8 };
template <class T>
constexpr Element ElementOf() {
  if constexpr (std::is_same_v<T, f16>) return Element::kF16;
  if constexpr (std::is_same_v<T, bf16>) return Element::kBf16;
  if constexpr (std::is_same_v<T, s8>) return Element::kS8;
  return Element::kU8;
}

/// d[16, 8] = a[16, k] b[k, 8] + c[16, 8]
struct Shape {
  Element a, b;
  int k;
};
template <class A, class B>
constexpr Shape MatrixShape(int k) {
  return {ElementOf<A>(), ElementOf<B>(), k};
}

/// What a lane holds of the four matrices.
struct Fragments {
  uint32_t a[4], b[2], c[4];
};
/// The registers d of every lane.
std::array<std::array<uint32_t, 4>, 32> MultiplyFragments(const std::array<const Fragments*, 32>& lanes,
                                                          const Shape& shape);

}  // namespace tokenmill::cuda::ptx
