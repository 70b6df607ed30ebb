// Levels of strips (packed_format.h) a register at a time, unpacked to bytes. Included by the matmul_*.cc only,
// after their simd header, whose Bits is a register, and Field<n>(x, mask) its bytes >> n & mask.

namespace tokenmill::cpu {
namespace {

template <int kBits>
struct LevelsOf {
  static constexpr int kTiles = kBits, kStripBytes = 64 * kTiles;
  static constexpr int kRegisters = 64 / sizeof(Bits);  // of a tile

  // Register i of a pair's columns, in its first tile.
  TM_INLINE int Place(int i) {
    return i / kRegisters * kStripBytes + i % kRegisters * static_cast<int>(sizeof(Bits));
  }
};

// Load: the levels of k = 4 * tile … + 3, for the columns of a register whose place `p` is.
struct ByteLevels : LevelsOf<8> {
  TM_INLINE Bits Load(const uint8_t* p, int tile) { return LoadBits(p + 64 * tile); }
};

struct FiveLevels : LevelsOf<5> {
  TM_INLINE Bits Load(const uint8_t* p, int tile) {
    switch (tile) {
      case 5:
        return Either(Field<5>(LoadBits(p), 0x07), Field<2>(LoadBits(p + 64), 0x18));
      case 6:
        return Either(Field<5>(LoadBits(p + 128), 0x07), Field<2>(LoadBits(p + 192), 0x18));
      case 7:
        return Either(Field<5>(LoadBits(p + 256), 0x07),
                      Either(Field<4>(LoadBits(p + 64), 0x08), Field<3>(LoadBits(p + 192), 0x10)));
      default:
        return Field<0>(LoadBits(p + 64 * tile), 0x1f);
    }
  }
};

struct SixLevels : LevelsOf<6> {
  TM_INLINE Bits Load(const uint8_t* p, int tile) {
    const uint8_t* three = p + tile / 4 * 192;
    if (tile % 4 < 3) return Field<0>(LoadBits(three + 64 * (tile % 4)), 0x3f);
    return Either(Field<2>(LoadBits(three), 0x30),
                  Either(Field<4>(LoadBits(three + 64), 0x0c), Field<6>(LoadBits(three + 128), 0x03)));
  }
};

// A block's levels of both strips, to bytes.
template <class Levels>
TM_INLINE void WidenBlock(const uint8_t* levels, uint8_t* bytes) {
  for (int i = 0; i < 2 * Levels::kRegisters; ++i) {
#pragma GCC unroll 8
    for (int tile = 0; tile < 8; ++tile) {
      StoreBits(bytes + ByteLevels::Place(i) + 64 * tile, Levels::Load(levels + Levels::Place(i), tile));
    }
  }
}

}  // namespace
}  // namespace tokenmill::cpu
