#include "kernels/cuda/ptxcheck/ptx_warp.h"

#include <vector>

namespace tokenmill::cuda::ptx {
namespace {

constexpr int kRows = 16, kColumns = 8, kDepthMax = 32;

const std::vector<float>& HalfTable() {
  static const std::vector<float> table = [] {
    std::vector<float> values(65536);
    for (uint32_t bits = 0; bits < 65536; ++bits) values[bits] = static_cast<float>(DecodeHalf<f16>(bits));
    return values;
  }();
  return table;
}

/// Element `at` of a register, as a number; integers are exact in double, and so are their sums here.
double ElementAt(uint32_t word, int at, Element element) {
  switch (element) {
    case Element::kF16: return HalfTable()[word >> (16 * at) & 0xffff];
    case Element::kBf16: return std::bit_cast<float>((word >> (16 * at) & 0xffff) << 16);
    case Element::kS8: return static_cast<int8_t>(word >> (8 * at));
    default: return static_cast<uint8_t>(word >> (8 * at));
  }
}

struct Matrices {
  double a[kRows][kDepthMax];
  double b[kDepthMax][kColumns];
};

/// Lanes stand in groups of four: a group has rows of A and a column of B, its members have neighbouring elements along
/// k, `each` in a register. Registers of A alternate between the upper and the lower eight rows, then go on along k.
void Gather(const std::array<const Fragments*, 32>& lanes, const Shape& shape, Matrices* matrices) {
  const int each = shape.a == Element::kF16 || shape.a == Element::kBf16 ? 2 : 4;
  const int steps = shape.k / (4 * each);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, member = lane % 4;
    for (int step = 0; step < steps; ++step) {
      for (int at = 0; at < each; ++at) {
        const int k = step * 4 * each + member * each + at;
        matrices->a[group][k] = ElementAt(lanes[lane]->a[2 * step], at, shape.a);
        matrices->a[group + 8][k] = ElementAt(lanes[lane]->a[2 * step + 1], at, shape.a);
        matrices->b[k][group] = ElementAt(lanes[lane]->b[step], at, shape.b);
      }
    }
  }
}

/// Sums of f32 are rounded once, from double; how devices round in between is not documented. Sums of s32 wrap.
uint32_t Finish(double sum, uint32_t c, bool integers) {
  if (integers) return static_cast<uint32_t>(static_cast<int64_t>(sum)) + c;
  return Encode<f32, 0>(static_cast<float>(sum + static_cast<double>(std::bit_cast<float>(c))));
}

}  // namespace

Shuffled ShuffleLane(ShuffleMode mode, const std::array<uint32_t, 32>& values, uint32_t lane, uint32_t b, uint32_t c) {
  const int distance = b & 31;
  const int segment = c >> 8 & 31;
  const int self = static_cast<int>(lane);
  const int last = (self & segment) | (c & 31 & ~segment);
  int from;
  bool valid;
  switch (mode) {
    case ShuffleMode::kUp:
      from = self - distance;
      valid = from >= last;
      break;
    case ShuffleMode::kDown:
      from = self + distance;
      valid = from <= last;
      break;
    case ShuffleMode::kBfly:
      from = self ^ distance;
      valid = from <= last;
      break;
    default:
      from = (self & segment) | (distance & ~segment);
      valid = from <= last;
      break;
  }
  return {values[valid ? from : self], valid};
}

std::array<uint32_t, 4> DealMatrices(const std::array<MatrixRow, 32>& rows, int count, bool transposed, uint32_t lane) {
  std::array<uint32_t, 4> registers = {};
  for (int matrix = 0; matrix < count; ++matrix) {
    const auto element = [&](uint32_t row, uint32_t column) {
      return transposed ? rows[8 * matrix + column][row] : rows[8 * matrix + row][column];
    };
    const uint32_t row = lane / 4, column = 2 * (lane % 4);
    registers[matrix] = Pack16(element(row, column), element(row, column + 1));
  }
  return registers;
}

std::array<std::array<uint32_t, 4>, 32> MultiplyFragments(const std::array<const Fragments*, 32>& lanes,
                                                          const Shape& shape) {
  Matrices matrices;
  Gather(lanes, shape, &matrices);
  const bool integers = shape.a == Element::kS8 || shape.a == Element::kU8;
  std::array<std::array<uint32_t, 4>, 32> results;
  for (int row = 0; row < kRows; ++row) {
    double sums[kColumns] = {};
    for (int k = 0; k < shape.k; ++k) {
      for (int column = 0; column < kColumns; ++column) sums[column] += matrices.a[row][k] * matrices.b[k][column];
    }
    for (int column = 0; column < kColumns; ++column) {
      const int lane = row % 8 * 4 + column / 2, at = row / 8 * 2 + column % 2;
      results[lane][at] = Finish(sums[column], lanes[lane]->c[at], integers);
    }
  }
  return results;
}

}  // namespace tokenmill::cuda::ptx
