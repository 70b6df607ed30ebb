// The products of adapters over Vec. Included by the vector_*.cc only, after their simd header and kShrinkRanks,
// kShrinkRows, kExpandRows and kExpandStrips, the sizes of tiles whose sums fit the registers.

#include "kernels/cpu/kernels.h"

namespace tokenmill::cpu {
namespace {

struct FactorF32 {
  using Type = float;
  TM_INLINE Vec LoadVec(const float* p) { return Load(p); }
};
struct FactorF16 {
  using Type = uint16_t;
  TM_INLINE Vec LoadVec(const uint16_t* p) { return LoadF16(p); }
};
struct FactorBf16 {
  using Type = uint16_t;
  TM_INLINE Vec LoadVec(const uint16_t* p) { return LoadBf16(p); }
};

// How far ahead of its use a factor is asked for where it is read through once.
constexpr int kFactorPrefetchBytes = 2048;

// Adds `n` columns from `k` on, of kRanks ranks beside each other, for rows row … row + kRows - 1.
template <class Factor, int kRanks, int kRows>
TM_INLINE void ShrinkStep(const ShrinkArgs& args, const typename Factor::Type* factor, int row, int64_t k,
                          int n, Vec (&sums)[kRows][kRanks]) {
  Vec columns[kRanks];
#pragma GCC unroll 8
  for (int j = 0; j < kRanks; ++j) columns[j] = Factor::LoadVec(factor + j * 16);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const float* x = args.rows[row + r] + k;
    const Vec input = n == 16 ? Load(x) : LoadFirst(x, n);
#pragma GCC unroll 8
    for (int j = 0; j < kRanks; ++j) sums[r][j] = Fma(columns[j], input, sums[r][j]);
  }
}

// kRanks ranks of a group of `group`; `factor` is the first one's, `out` its place in the rows' outputs.
template <class Factor, int kRanks, int kRows>
void ShrinkTile(const ShrinkArgs& args, const typename Factor::Type* factor, int group, int out, int row) {
  Vec sums[kRows][kRanks];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kRanks; ++j) sums[r][j] = Zero();
  }
  int64_t k = 0;
  for (; k + 16 <= args.cols; k += 16, factor += group * 16) {
    if constexpr (kRows == 1) {
      const char* ahead = reinterpret_cast<const char*>(factor) + kFactorPrefetchBytes;
#pragma GCC unroll 8
      for (size_t line = 0; line < kRanks * 16 * sizeof(*factor); line += 64) Prefetch(ahead + line);
    }
    ShrinkStep<Factor, kRanks, kRows>(args, factor, row, k, 16, sums);
  }
  if (k < args.cols) {
    ShrinkStep<Factor, kRanks, kRows>(args, factor, row, k, static_cast<int>(args.cols - k), sums);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* to = args.out[row + r] + out;
#pragma GCC unroll 8
    for (int j = 0; j < kRanks; ++j) to[j] = AddLanes(sums[r][j]) * args.scales[row + r];
  }
}

// A group of ranks, kRanks of them at a time.
template <class Factor, int kRanks, int kRows>
void ShrinkGroup(const ShrinkArgs& args, const typename Factor::Type* factor, int group, int first, int row) {
  int rank = 0;
  for (; rank + kRanks <= group; rank += kRanks) {
    ShrinkTile<Factor, kRanks, kRows>(args, factor + rank * 16, group, first + rank, row);
  }
  for (; rank < group; ++rank) {
    ShrinkTile<Factor, 1, kRows>(args, factor + rank * 16, group, first + rank, row);
  }
}

template <class Factor, int kRows>
void ShrinkRows(const ShrinkArgs& args, int row) {
  constexpr int kRanks = kRows == 1 ? kRankGroup : kShrinkRanks;
  const auto* factor = static_cast<const typename Factor::Type*>(args.factor);
  const int64_t vectors = (args.cols + 15) / 16;
  for (int first = 0; first < args.ranks; first += kRankGroup) {
    const int group = args.ranks - first < kRankGroup ? args.ranks - first : kRankGroup;
    ShrinkGroup<Factor, kRanks, kRows>(args, factor, group, first, row);
    factor += vectors * group * 16;
  }
}

template <class Factor, int kRows>
void ShrinkRest(const ShrinkArgs& args, int row) {
  if constexpr (kRows > 0) {
    if (args.count - row == kRows) return ShrinkRows<Factor, kRows>(args, row);
    ShrinkRest<Factor, kRows - 1>(args, row);
  }
}

template <class Factor>
void Shrink(const ShrinkArgs& args) {
  int row = 0;
  for (; row + kShrinkRows <= args.count; row += kShrinkRows) ShrinkRows<Factor, kShrinkRows>(args, row);
  ShrinkRest<Factor, kShrinkRows - 1>(args, row);
}

// kStrips strips from `strip` on, for rows row … row + kRows - 1.
template <class Factor, int kRows, int kStrips>
void ExpandTile(const ExpandArgs& args, int row, int strip) {
  const auto* factor = static_cast<const typename Factor::Type*>(args.factor) + 16 * strip;
  const float* inner[kRows];
  Vec sums[kRows][kStrips];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    inner[r] = args.rows[row + r];
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) sums[r][s] = Load(args.out[row + r] + 16 * (strip + s));
  }
  for (int j = 0; j < args.rank; ++j, factor += kPairColumns) {
    Vec columns[kStrips];
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) columns[s] = Factor::LoadVec(factor + 16 * s);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec input = Set(inner[r][j]);
#pragma GCC unroll 8
      for (int s = 0; s < kStrips; ++s) sums[r][s] = Fma(columns[s], input, sums[r][s]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) Store(args.out[row + r] + 16 * (strip + s), sums[r][s]);
  }
}

template <class Factor, int kRows>
void ExpandRows(const ExpandArgs& args, int row) {
  constexpr int kStrips = kRows <= 2 ? 2 : kExpandStrips;
  for (int strip = 0; strip < 2; strip += kStrips) ExpandTile<Factor, kRows, kStrips>(args, row, strip);
}

template <class Factor, int kRows>
void ExpandRest(const ExpandArgs& args, int row) {
  if constexpr (kRows > 0) {
    if (args.count - row == kRows) return ExpandRows<Factor, kRows>(args, row);
    ExpandRest<Factor, kRows - 1>(args, row);
  }
}

template <class Factor>
void Expand(const ExpandArgs& args) {
  int row = 0;
  for (; row + kExpandRows <= args.count; row += kExpandRows) ExpandRows<Factor, kExpandRows>(args, row);
  ExpandRest<Factor, kExpandRows - 1>(args, row);
}

template <class Factor>
void SetAdapterKernel(FactorType type, CpuKernels* kernels) {
  kernels->shrink[static_cast<int>(type)] = Shrink<Factor>;
  kernels->expand[static_cast<int>(type)] = Expand<Factor>;
}

void SetAdapterKernels(CpuKernels* kernels) {
  SetAdapterKernel<FactorF32>(FactorType::kF32, kernels);
  SetAdapterKernel<FactorF16>(FactorType::kF16, kernels);
  SetAdapterKernel<FactorBf16>(FactorType::kBf16, kernels);
}

}  // namespace
}  // namespace tokenmill::cpu
