#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/packed_format.h"

// Levels as bytes to and from the tiles of packed_format.h, a column and block at a time.

namespace tokenmill::cpu {

// What four bytes, of consecutive k, have in the bits of `mask`, moved up by `up` (or down).
inline uint32_t MoveBits(uint32_t word, uint32_t mask, int up = 0) {
  word &= mask * 0x01010101u;
  return up >= 0 ? word << up : word >> -up;
}

// Levels of a column and block, four a word, to the words that its tiles of `kBits` have, and back.
template <int kBits>
void Tighten(const uint32_t (&t)[8], uint32_t (&words)[kBits]) {
  if constexpr (kBits == 4) {
    for (int i = 0; i < 4; ++i) words[i] = t[2 * i] | t[2 * i + 1] << 4;
  } else if constexpr (kBits == 5) {
    words[0] = t[0] | MoveBits(t[5], 7, 5);
    words[1] = t[1] | MoveBits(t[5], 0x18, 2) | MoveBits(t[7], 8, 4);
    words[2] = t[2] | MoveBits(t[6], 7, 5);
    words[3] = t[3] | MoveBits(t[6], 0x18, 2) | MoveBits(t[7], 0x10, 3);
    words[4] = t[4] | MoveBits(t[7], 7, 5);
  } else if constexpr (kBits == 6) {
    for (int i = 0; i < 3; ++i) {
      words[i] = t[i] | MoveBits(t[3], 0x30 >> 2 * i, 2 + 2 * i);
      words[3 + i] = t[4 + i] | MoveBits(t[7], 0x30 >> 2 * i, 2 + 2 * i);
    }
  } else {
    std::copy_n(t, 8, words);
  }
}

template <int kBits>
void Widen(const uint32_t (&words)[kBits], uint32_t (&t)[8]) {
  if constexpr (kBits == 4) {
    for (int i = 0; i < 8; ++i) t[i] = MoveBits(words[i / 2], i % 2 == 0 ? 0x0f : 0xf0, i % 2 * -4);
  } else if constexpr (kBits == 5) {
    for (int i = 0; i < 5; ++i) t[i] = MoveBits(words[i], 0x1f);
    t[5] = MoveBits(words[0], 0xe0, -5) | MoveBits(words[1], 0x60, -2);
    t[6] = MoveBits(words[2], 0xe0, -5) | MoveBits(words[3], 0x60, -2);
    t[7] = MoveBits(words[4], 0xe0, -5) | MoveBits(words[1], 0x80, -4) | MoveBits(words[3], 0x80, -3);
  } else if constexpr (kBits == 6) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 3; ++i) t[4 * half + i] = MoveBits(words[3 * half + i], 0x3f);
      const uint32_t* three = words + 3 * half;
      t[4 * half + 3] =
          MoveBits(three[0], 0xc0, -2) | MoveBits(three[1], 0xc0, -4) | MoveBits(three[2], 0xc0, -6);
    }
  } else {
    std::copy_n(words, 8, t);
  }
}

// Where a column's first level is in a block's levels.
template <int kBits>
int LevelPlace(int column) {
  return column / kStripColumns * 64 * kBits + column % kStripColumns * 4;
}

template <int kBits>
void PutTiles(const uint8_t* levels, int column, uint8_t* block) {
  uint32_t tiles[8], words[kBits];
  std::memcpy(tiles, levels, sizeof(tiles));
  Tighten<kBits>(tiles, words);
  uint8_t* place = block + LevelPlace<kBits>(column);
  for (int i = 0; i < kBits; ++i) std::memcpy(place + 64 * i, words + i, sizeof(uint32_t));
}

template <int kBits>
void TakeTiles(const uint8_t* block, int column, uint8_t* levels) {
  uint32_t tiles[8], words[kBits];
  const uint8_t* place = block + LevelPlace<kBits>(column);
  for (int i = 0; i < kBits; ++i) std::memcpy(words + i, place + 64 * i, sizeof(uint32_t));
  Widen<kBits>(words, tiles);
  std::memcpy(levels, tiles, sizeof(tiles));
}

inline int LevelBits(const PackedLayout& layout) { return layout.level_bytes / (kPairColumns * kBlock / 8); }

/// Puts the 32 levels of a column into a block, or takes them from it.
inline void PutLevels(const PackedLayout& layout, const uint8_t* levels, int column, uint8_t* block) {
  switch (LevelBits(layout)) {
    case 4:
      return PutTiles<4>(levels, column, block);
    case 5:
      return PutTiles<5>(levels, column, block);
    case 6:
      return PutTiles<6>(levels, column, block);
    default:
      return PutTiles<8>(levels, column, block);
  }
}

inline void TakeLevels(const PackedLayout& layout, const uint8_t* block, int column, uint8_t* levels) {
  switch (LevelBits(layout)) {
    case 4:
      return TakeTiles<4>(block, column, levels);
    case 5:
      return TakeTiles<5>(block, column, levels);
    case 6:
      return TakeTiles<6>(block, column, levels);
    default:
      return TakeTiles<8>(block, column, levels);
  }
}

}  // namespace tokenmill::cpu
