#pragma once

#include "kernels/cuda/gpu.h"

// Selection of the best of 4096 keys by one block of 512 threads, without sorting them: the threshold is
// found two bits a round, from the top, by counting. A thread holds eight keys.
//
// A key orders logits and, among equal ones, lower tokens first: the logit's order in the upper half, the
// token's complement in the lower. No two of a row are equal, and 0 stands for no token.

namespace tokenmill::cuda {

constexpr int kSelectThreads = 512;
constexpr int kSelectKeys = 8;  // of a thread
constexpr int kSelectWarps = kSelectThreads / 32;

struct SelectShared {
  uint32_t counts[2][kSelectWarps];  // of alternate rounds, so that one barrier a round is enough
  int found;
};

GPU_FN uint64_t KeyOf(float logit, int token) {
  uint32_t bits = gpu::float_bits(logit + 0.0f);  // -0 and 0 are equal
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(bits) << 32 | ~static_cast<uint32_t>(token);
}
GPU_FN int TokenOf(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }
GPU_FN float LogitOf(uint64_t key) {
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  return gpu::bits_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

/// Three counts of at most 256 a warp, ten bits each, added over the block.
GPU_FN void AddCounts(uint32_t packed, uint32_t (&warps)[kSelectWarps], int (&counts)[3]) {
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) packed += gpu::shuffle_xor(packed, mask);
  if (gpu::lane() == 0) warps[gpu::warp()] = packed;
  gpu::sync_block();
  counts[0] = counts[1] = counts[2] = 0;
  GPU_UNROLL
  for (int w = 0; w < kSelectWarps; ++w) {
    const uint32_t part = warps[w];
    counts[0] += static_cast<int>(part & 0x3ff);
    counts[1] += static_cast<int>(part >> 10 & 0x3ff);
    counts[2] += static_cast<int>(part >> 20);
  }
}

/// The threshold that `wanted` keys reach; 1 when there are no more keys than that.
GPU_FN uint64_t FindThreshold(const uint64_t (&keys)[kSelectKeys], int wanted, SelectShared& shared) {
  uint32_t present = 0;
  GPU_UNROLL
  for (int i = 0; i < kSelectKeys; ++i) present += keys[i] != 0 ? 1 : 0;
  int counts[3];
  AddCounts(present, shared.counts[1], counts);
  if (counts[0] <= wanted) return 1;
  uint64_t threshold = 0;
  int round = 0;
  for (int shift = 62; shift >= 0; shift -= 2, ++round) {
    const uint64_t step = static_cast<uint64_t>(1) << shift;
    uint32_t packed = 0;
    GPU_UNROLL
    for (int i = 0; i < kSelectKeys; ++i) {
      packed += keys[i] >= threshold + step ? 1u : 0u;
      packed += keys[i] >= threshold + 2 * step ? 1u << 10 : 0u;
      packed += keys[i] >= threshold + 3 * step ? 1u << 20 : 0u;
    }
    AddCounts(packed, shared.counts[round & 1], counts);
    int reached = 0;  // by the highest of the three thresholds that enough keys reach
    uint64_t next = threshold;
    GPU_UNROLL
    for (int d = 0; d < 3; ++d) {
      if (counts[d] < wanted) continue;
      reached = counts[d];
      next = threshold + static_cast<uint64_t>(d + 1) * step;
    }
    threshold = next;
    if (reached == wanted) break;
  }
  return threshold;
}

/// Puts the `wanted` best keys into `best`, in any order, and gives how many there are: fewer when the block
/// has not so many. By the whole block, between barriers of the caller's that keep shared and best.
GPU_FN int SelectBest(const uint64_t (&keys)[kSelectKeys], int wanted, SelectShared& shared, uint64_t* best) {
  if (gpu::thread() == 0) shared.found = 0;
  const uint64_t threshold = FindThreshold(keys, wanted, shared);  // has a barrier
  GPU_UNROLL
  for (int i = 0; i < kSelectKeys; ++i) {
    if (keys[i] >= threshold) best[gpu::atomic_add(&shared.found, 1)] = keys[i];
  }
  gpu::sync_block();
  return shared.found;
}

/// Sorts a power of two of keys, largest first (bitonic).
GPU_FN void SortKeys(uint64_t* keys, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int i = gpu::thread(); i < size / 2; i += kSelectThreads) {
        const int low = i / distance * 2 * distance + i % distance, high = low + distance;
        const uint64_t a = keys[low], b = keys[high];
        const bool descending = (low & run) == 0;
        if (descending == (a < b)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      gpu::sync_block();
    }
  }
}

}  // namespace tokenmill::cuda
