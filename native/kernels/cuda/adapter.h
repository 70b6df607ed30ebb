#pragma once

#include "kernels/cuda/views.h"

#ifndef __CUDACC__
#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

/// Rows of one AdapterGroup at most: the host cuts what has more.
constexpr int kAdapterGroupRows = 8;
/// Matrices that share their input and are worked off in one launch.
constexpr int kAdapterTargetsMax = 3;
constexpr int kAdapterRankMax = 256;  // kMaxAdapterRank of ops/adapter.h

enum class FactorType : int32_t { kF32, kF16, kBF16 };

/// What an adapter adds to one matrix; `a` is null where it adds nothing. 16-byte aligned.
struct AdapterMatrix {
  const void* a;  // [rank, cols of the matrix]
  const void* b;  // [rows of the matrix, rank]
  int32_t rank;
  FactorType type;  // of both
  float scale;
  int32_t unused;
};

struct AdapterTarget {
  const AdapterMatrix* table;  // by AdapterGroup::adapter
  float* out;                  // [rows, features], to which is added
  int32_t features;
  int32_t unused;
};

/// out[r] += group.scale * scale * B (A in[r]) for the rows of each group. Groups are in levels of stacking:
/// level l has groups level_groups[l] … level_groups[l + 1] - 1, a row is at most once in a level, and levels
/// are added one after the other. Trailing levels may be empty.
struct AdapterParams {
  const int32_t* level_groups;  // [levels + 1]
  const AdapterGroup* groups;
  const int32_t* row_list;  // rows of `in` and of `out`
  const float* in;  // [rows, width]
  float* inner;  // scratch [targets][list_max][kAdapterRankMax]
  AdapterTarget targets[kAdapterTargetsMax];
  int32_t target_count;
  int32_t width;
  int32_t list_max;  // entries that row_list can have
  int32_t levels;
  int32_t level;  // set by the launcher
};

#ifndef __CUDACC__
inline size_t AdapterScratchBytes(int list_max) {
  return sizeof(float) * kAdapterTargetsMax * kAdapterRankMax * static_cast<size_t>(list_max);
}

/// For up to `groups_max` groups in all levels together and `level_groups_max` in one, of ranks up to
/// `rank_max`.
Status LaunchAdapter(Driver& driver, const AdapterParams& params, int groups_max, int level_groups_max,
                     int rank_max);
#endif

}  // namespace tokenmill::cuda
