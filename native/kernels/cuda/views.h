#pragma once

// What kernels read and write, as the executor lays it out in device memory. Plain structures, by value in kernels'
// arguments; compiled for host and device. Sizes that change from step to step are read from StepView::counts on
// the device, so that a recorded graph serves every step of its bucket: a grid covers the bucket, and a block with
// nothing to do returns at once.

#include <stdint.h>

namespace tokenmill::cuda {

/// Written by the host before each step.
struct StepCounts {
  int32_t rows;
  int32_t head_rows;
  int32_t attention_tiles;
  int32_t adapter_groups;
};

/// A step's rows. Rows of one sequence are consecutive, at consecutive positions.
struct StepView {
  const StepCounts* counts;
  const int32_t* tokens;     // [rows]
  const int32_t* positions;  // [rows] absolute
  const int32_t* sequences;  // [rows] index into tables
  const int32_t* head_rows;  // [head_rows] which row each is
};

/// Block tables of a KV group: pages[sequence * stride + position / 16] is the device address of the page that holds
/// a position; entries wholly before a window are stale.
struct PagesView {
  const uint64_t* pages;
  int32_t stride;
  int32_t window;  // tokens, 0: all
};

/// Keys and values of one layer within a page, at `offset` bytes: per kv head (kv_head_bytes apart) keys
/// [16 tokens][head_dim], then values likewise; f16, or s8 followed by f32 scales of the 16 keys, then of the 16
/// values.
struct KvLayerView {
  PagesView table;
  int64_t offset;
  int64_t kv_head_bytes;
  int32_t kv_heads;
  int32_t query_heads;
  int32_t head_dim;
  int32_t int8;  // 0 or 1
};

/// Consecutive rows of one sequence whose attention one block works off: at most AttentionDecodeRows or
/// AttentionPrefillRows (attention.h), whichever kernel takes them.
struct AttentionTile {
  int32_t row;   // the first
  int32_t rows;
};

/// One value's rows in the forms that products read; what a step does not need is null. k is a multiple of 32 for the
/// quantized forms; rows are k elements apart.
///   f32      as it is
///   f16      x / row_scale, where row_scale is the power of two that brings the row's largest magnitude into
///            [2^11, 2^12); 1 for rows of zeros and rows that are not finite
///   sums     of 32 of these rounded f16 each, in f32, ascending k: carries mins and offsets
///   s8       round(x / s8_scale), s8_scale = largest magnitude of 32 / 127 (0 for zeros); s8_sums of these 32 levels
///   bf16     x rounded; bf16_rest: what that leaves over, rounded
struct ActivationView {
  float* f32;
  uint16_t* f16;
  float* row_scale;  // [rows]
  float* sums;       // [rows, k / 32]
  int8_t* s8;
  float* s8_scale;   // [rows, k / 32]
  int32_t* s8_sums;  // [rows, k / 32]
  uint16_t* bf16;
  uint16_t* bf16_rest;
  int32_t k;
};

/// Rows that use one adapter, at one level of stacking.
struct AdapterGroup {
  int32_t adapter;    // index into the tables of factors
  int32_t row_begin;  // into row_list
  int32_t rows;
  float scale;        // the caller's
};

}  // namespace tokenmill::cuda
