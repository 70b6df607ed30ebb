// Grouped low-rank adapters: shrink (inner = scales * A in), then expand (out += B inner), for rows that use
// different adapters in one step. Rows without an adapter are in no group and stay untouched.
//
// adapter_shrink, 256 threads, grid (ranks / 4, groups, targets): a block gives 4 ranks of up to 8 rows, 32
//   sums of products. Thread t adds columns 4t + 1024i … + 3 in ascending order by FMA; then a tree over
//   lanes, then the warps in order, so that a sum depends on the width alone. Shared memory: 1 KB.
// adapter_expand, 128 threads, grid (features / 128, groups of the level, targets): a thread gives one output
//   feature of up to 8 rows, going on from the product by FMA in ascending rank. Shared memory: 8 KB, the
//   rows' inner values, which all threads read at the same place.
//
//   registers       sm_80  sm_86  sm_89  sm_90  sm_120  (no spills)
//   adapter_shrink     80     75     75     80      80
//   adapter_expand     32     40     40     32      40

#include "kernels/cuda/adapter.h"

#include "kernels/cuda/row_block.h"

namespace tokenmill::cuda {
namespace {

constexpr int kShrinkThreads = 256;
constexpr int kShrinkRanks = 4;
constexpr int kShrinkSums = kShrinkRanks * kAdapterGroupRows;  // one a lane in the end
constexpr int kExpandThreads = 128;

struct ShrinkShared {
  float sums[kShrinkThreads / 32][kShrinkSums];  // of the warps
};
struct ExpandShared {
  float inner[kAdapterGroupRows][kAdapterRankMax];
};

/// Factors of one kind in memory.
struct FactorRow {
  const uint8_t* base;
  FactorType type;
  int length;
};

GPU_FN FactorRow RowOf(const void* factors, FactorType type, int64_t row, int length) {
  const int64_t bytes = type == FactorType::kF32 ? 4 : 2;
  return {static_cast<const uint8_t*>(factors) + row * length * bytes, type, length};
}

GPU_FN float ReadHalf(uint32_t bits, FactorType type) {
  const uint16_t half = static_cast<uint16_t>(bits);
  return type == FactorType::kF16 ? gpu::from_f16(half) : gpu::from_bf16(half);
}

/// Elements at … at + 3, zeros behind the row's end; `at` is a multiple of 4 within the row.
GPU_FN void ReadFour(const FactorRow& row, int at, float (&x)[4]) {
  if (row.type == FactorType::kF32)
    return LoadFour(reinterpret_cast<const float*>(row.base), at, row.length, x);
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(row.base) + at;
  if (row.length % 4 == 0) {
    const TwoWords* from = reinterpret_cast<const TwoWords*>(halves);
    const uint32_t a = from->a, b = from->b;
    x[0] = ReadHalf(a, row.type), x[1] = ReadHalf(a >> 16, row.type);
    x[2] = ReadHalf(b, row.type), x[3] = ReadHalf(b >> 16, row.type);
    return;
  }
  GPU_UNROLL
  for (int i = 0; i < 4; ++i) x[i] = at + i < row.length ? ReadHalf(halves[i], row.type) : 0.0f;
}

/// One step of a tree over lanes that leaves each half of the lanes half of the sums: lanes with the bit
/// `kHalf` keep the upper ones.
template <int kHalf>
GPU_FN void HalveSums(float (&sums)[kShrinkSums]) {
  const bool upper = (gpu::lane() & kHalf) != 0;
  GPU_UNROLL
  for (int i = 0; i < kHalf; ++i) {
    const float given = upper ? sums[i] : sums[i + kHalf];
    const float kept = upper ? sums[i + kHalf] : sums[i];
    sums[i] = kept + gpu::shuffle_xor(given, kHalf);
  }
}

/// The warp's total of sums[lane].
GPU_FN float SumsOverWarp(float (&sums)[kShrinkSums]) {
  HalveSums<16>(sums);
  HalveSums<8>(sums);
  HalveSums<4>(sums);
  HalveSums<2>(sums);
  HalveSums<1>(sums);
  return sums[0];
}

GPU_FN void AddColumns(const AdapterParams& p, const AdapterGroup& group, const AdapterMatrix& matrix,
                       int rank, int column, float (&sums)[kShrinkSums]) {
  float factors[kShrinkRanks][4];
  GPU_UNROLL
  for (int j = 0; j < kShrinkRanks; ++j) {
    const int line = gpu::min(rank + j, matrix.rank - 1);  // sums beyond the rank are not used
    ReadFour(RowOf(matrix.a, matrix.type, line, p.width), column, factors[j]);
  }
  GPU_UNROLL
  for (int r = 0; r < kAdapterGroupRows; ++r) {
    if (r >= group.rows) break;
    float x[4];
    const int64_t row = p.row_list[group.row_begin + r];
    LoadFour(p.in + row * p.width, column, p.width, x);
    GPU_UNROLL
    for (int j = 0; j < kShrinkRanks; ++j) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i)
        sums[r * kShrinkRanks + j] = gpu::fma(factors[j][i], x[i], sums[r * kShrinkRanks + j]);
    }
  }
}

GPU_FN void Shrink(const AdapterParams& p, const AdapterGroup& group, const AdapterMatrix& matrix, int target,
                   ShrinkShared& shared) {
  const int rank = gpu::block_x() * kShrinkRanks;
  float sums[kShrinkSums] = {};
  for (int column = 4 * gpu::thread(); column < p.width; column += 4 * kShrinkThreads) {
    AddColumns(p, group, matrix, rank, column, sums);
  }
  shared.sums[gpu::warp()][gpu::lane()] = SumsOverWarp(sums);
  gpu::sync_block();
  const int r = gpu::thread() / kShrinkRanks, j = rank + gpu::thread() % kShrinkRanks;
  if (gpu::thread() >= kShrinkSums || r >= group.rows || j >= matrix.rank) return;
  float sum = 0;
  for (int w = 0; w < kShrinkThreads / 32; ++w) sum += shared.sums[w][gpu::thread()];
  const int64_t entry = static_cast<int64_t>(target) * p.list_max + group.row_begin + r;
  p.inner[entry * kAdapterRankMax + j] = sum * (group.scale * matrix.scale);
}

GPU_FN void Expand(const AdapterParams& p, const AdapterGroup& group, const AdapterMatrix& matrix,
                   const AdapterTarget& target, ExpandShared& shared) {
  const int feature = gpu::block_x() * kExpandThreads + gpu::thread();
  if (feature >= target.features) return;
  const FactorRow b = RowOf(matrix.b, matrix.type, feature, matrix.rank);
  float sums[kAdapterGroupRows];
  GPU_UNROLL
  for (int r = 0; r < kAdapterGroupRows; ++r) {
    const int64_t row = r < group.rows ? p.row_list[group.row_begin + r] : 0;
    sums[r] = r < group.rows ? target.out[row * target.features + feature] : 0.0f;
  }
  for (int j = 0; j < matrix.rank; j += 4) {
    float factors[4];
    ReadFour(b, j, factors);
    GPU_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (j + i >= matrix.rank) break;
      GPU_UNROLL
      for (int r = 0; r < kAdapterGroupRows; ++r) {
        if (r < group.rows) sums[r] = gpu::fma(factors[i], shared.inner[r][j + i], sums[r]);
      }
    }
  }
  GPU_UNROLL
  for (int r = 0; r < kAdapterGroupRows; ++r) {
    if (r >= group.rows) break;
    const int64_t row = p.row_list[group.row_begin + r];
    target.out[row * target.features + feature] = sums[r];
  }
}

GPU_FN void ShrinkBlock(const AdapterParams& p) {
  DYN_SMEM(ShrinkShared, shared);
  if (gpu::block_y() >= p.level_groups[p.levels]) return;
  const AdapterGroup group = p.groups[gpu::block_y()];
  const int target = gpu::block_z();
  const AdapterMatrix matrix = p.targets[target].table[group.adapter];
  if (matrix.a == nullptr || gpu::block_x() * kShrinkRanks >= matrix.rank) return;
  Shrink(p, group, matrix, target, shared);
}

GPU_FN void ExpandBlock(const AdapterParams& p) {
  DYN_SMEM(ExpandShared, shared);
  const int index = p.level_groups[p.level] + gpu::block_y();
  if (index >= p.level_groups[p.level + 1]) return;
  const AdapterGroup group = p.groups[index];
  const AdapterTarget target = p.targets[gpu::block_z()];
  const AdapterMatrix matrix = target.table[group.adapter];
  if (matrix.a == nullptr || gpu::block_x() * kExpandThreads >= target.features) return;
  const int64_t entry = static_cast<int64_t>(gpu::block_z()) * p.list_max + group.row_begin;
  for (int i = gpu::thread(); i < group.rows * matrix.rank; i += kExpandThreads) {
    const int r = i / matrix.rank, j = i % matrix.rank;
    shared.inner[r][j] = p.inner[(entry + r) * kAdapterRankMax + j];
  }
  gpu::sync_block();
  Expand(p, group, matrix, target, shared);
}

}  // namespace

GPU_KERNEL(adapter_shrink, AdapterParams, 256) { ShrinkBlock(p); }
GPU_KERNEL(adapter_expand, AdapterParams, 128) { ExpandBlock(p); }

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

#include <algorithm>

namespace tokenmill::cuda {

Status LaunchAdapter(Driver& driver, const AdapterParams& params, int groups_max, int level_groups_max,
                     int rank_max) {
  if (params.target_count < 1 || params.target_count > kAdapterTargetsMax)
    return Error(Code::kInternal, "adapters for %d matrices at once", params.target_count);
  if (rank_max < 1 || rank_max > kAdapterRankMax)
    return Error(Code::kInternal, "adapters of rank %d", rank_max);
  int features = 0;
  for (int t = 0; t < params.target_count; ++t) features = std::max(features, params.targets[t].features);
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>((rank_max + kShrinkRanks - 1) / kShrinkRanks);
  shape.grid_y = static_cast<unsigned>(groups_max);
  shape.grid_z = static_cast<unsigned>(params.target_count);
  shape.threads = kShrinkThreads;
  shape.shared_bytes = sizeof(ShrinkShared);
  TM_RETURN_IF_ERROR(driver.Launch("adapter_shrink", shape, params));
  shape.grid_x = static_cast<unsigned>((features + kExpandThreads - 1) / kExpandThreads);
  shape.grid_y = static_cast<unsigned>(level_groups_max);
  shape.threads = kExpandThreads;
  shape.shared_bytes = sizeof(ExpandShared);
  for (int level = 0; level < params.levels; ++level) {
    AdapterParams expand = params;
    expand.level = level;
    TM_RETURN_IF_ERROR(driver.Launch("adapter_expand", shape, expand));
  }
  return {};
}

}  // namespace tokenmill::cuda

#endif
