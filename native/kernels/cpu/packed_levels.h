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

// Word `tile` (of kBits) of a column and block, of its levels, four a word.
template <int kBits>
uint32_t Tightened(const uint8_t* levels, int tile) {
  const auto t = [levels](int i) {
    uint32_t word;
    std::memcpy(&word, levels + 4 * i, sizeof(word));
    return word;
  };
  if constexpr (kBits == 4) {
    return t(2 * tile) | t(2 * tile + 1) << 4;
  } else if constexpr (kBits == 5) {
    if (tile == 0) return t(0) | MoveBits(t(5), 7, 5);
    if (tile == 1) return t(1) | MoveBits(t(5), 0x18, 2) | MoveBits(t(7), 8, 4);
    if (tile == 2) return t(2) | MoveBits(t(6), 7, 5);
    if (tile == 3) return t(3) | MoveBits(t(6), 0x18, 2) | MoveBits(t(7), 0x10, 3);
    return t(4) | MoveBits(t(7), 7, 5);
  } else if constexpr (kBits == 6) {
    const int first = tile / 3 * 4, i = tile % 3;
    return t(first + i) | MoveBits(t(first + 3), 0x30 >> 2 * i, 2 + 2 * i);
  } else {
    return t(tile);
  }
}

// The levels that the words of a column and block have.
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

/// Puts the 32 levels of a column into a block.
template <int kBits>
void PutLevels(const uint8_t* levels, int column, uint8_t* block) {
  uint8_t* place = block + LevelPlace<kBits>(column);
  for (int tile = 0; tile < kBits; ++tile) {
    const uint32_t word = Tightened<kBits>(levels, tile);
    std::memcpy(place + 64 * tile, &word, sizeof(word));
  }
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

/// Takes the 32 levels of a column from a block.
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
