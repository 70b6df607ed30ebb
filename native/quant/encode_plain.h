#pragma once

// Encoders of the formats with one grid per 32 values: Q4_0, Q5_0 and Q8_0 (a scale), Q4_1 and Q5_1 (scale
// and offset).

#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q8_0.h"
#include "quant/search.h"

namespace tokenmill {

// A negative start puts the value of largest magnitude at the lower end, which has one level more.
inline constexpr float kStarts4[16] = {-8,   -8.6f, -7.5f, -7, -6.5f, -6,   -9.2f, -5.5f,
                                       7.3f, 7,     6.5f,  6,  5.5f,  7.8f, 5,     8.4f};
inline constexpr float kStarts5[16] = {-16,   -16.5f, -15.5f, -15, -14.5f, -14, -13.5f, -13,
                                       15.4f, 15,     14.5f,  14,  13.5f,  13,  12.5f,  16};
inline constexpr float kStarts8[8] = {127, 127.4f, 126.5f, 126, 125.5f, 125, 124.5f, 124};

inline constexpr Ends kEnds4[16] = {{0, 15},     {0, 14},  {0, 13},    {-0.5f, 15.5f}, {0, 16},     {-1, 15},
                                    {-1, 16},    {0, 17},  {-2, 15},   {0, 15.5f},     {-0.5f, 15}, {0, 12},
                                    {-1.5f, 16}, {-1, 17}, {0, 14.5f}, {-1.5f, 16.5f}};
inline constexpr Ends kEnds5[8] = {{0, 31}, {0, 30},  {0, 29},        {0, 28},
                                   {0, 32}, {-1, 31}, {-0.5f, 31.5f}, {-1, 32}};

static inline void PutLevels(const uint8_t levels[32], BlockQ8_0* block) {
  for (int i = 0; i < 32; ++i) block->qs[i] = static_cast<int8_t>(levels[i] - 127);
}

template <class Block, int kStarts>
static inline void EncodeScale(const float* values, const SearchPlan& plan, const float (&starts)[kStarts],
                               Block* block) {
  const Grid grid = SearchScale<32>(values, plan, starts);
  uint8_t levels[32];
  TakeLevels(values, 32, grid.scale, 0, plan.low, plan.high, levels);
  block->d = F32ToF16(grid.scale);
  PutLevels(levels, block);
}

template <class Block, int kStarts>
static inline void EncodeGrid(const float* values, const SearchPlan& plan, const Ends (&starts)[kStarts],
                              Block* block) {
  const Grid grid = SearchGrid<32>(values, plan, starts);
  block->d = F32ToF16(grid.scale);
  block->m = F32ToF16(grid.offset);
  uint8_t levels[32];
  TakeLevels(values, 32, F16ToF32(block->d), F16ToF32(block->m), 0, plan.high, levels);
  PutLevels(levels, block);
}

static inline void EncodeBlock(const float* values, BlockQ4_0* block) {
  EncodeScale(values, {-8, 7, 1, true}, kStarts4, block);
}

static inline void EncodeBlock(const float* values, BlockQ5_0* block) {
  EncodeScale(values, {-16, 15, 1, true}, kStarts5, block);
}

static inline void EncodeBlock(const float* values, BlockQ8_0* block) {
  EncodeScale(values, {-127, 127, 1, true}, kStarts8, block);
}

static inline void EncodeBlock(const float* values, BlockQ4_1* block) {
  EncodeGrid(values, {0, 15, 1, true}, kEnds4, block);
}

static inline void EncodeBlock(const float* values, BlockQ5_1* block) {
  EncodeGrid(values, {0, 31, 1, true}, kEnds5, block);
}

}  // namespace tokenmill
