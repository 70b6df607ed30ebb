// Products with F32, F16 and BF16 weights over Vec. Included by the matmul_*.cc only, after their simd
// header.

namespace tokenmill::cpu {
namespace {

struct ElementF32 {
  using Type = float;
  TM_INLINE Vec LoadColumns(const float* p) { return Load(p); }
};
struct ElementF16 {
  using Type = uint16_t;
  TM_INLINE Vec LoadColumns(const uint16_t* p) { return LoadF16(p); }
};
struct ElementBf16 {
  using Type = uint16_t;
  TM_INLINE Vec LoadColumns(const uint16_t* p) { return LoadBf16(p); }
};

// Of the weights that stay in the caches while all rows pass.
constexpr int64_t kPlainChunkBytes = 64 * 1024;

// kStrips strips from `strip` on, of rows row … row + kRows - 1 and k = begin … end - 1. Every output is one chain
// of FMA, which rests in `out` between chunks.
template <class Element, int kRows, int kStrips, bool kPrefetch>
void PlainTile(const MatmulArgs& args, int row, int strip, int64_t begin, int64_t end) {
  const auto* weights = reinterpret_cast<const typename Element::Type*>(args.weights) + 16 * strip;
  const float* inputs = args.inputs + row * args.stride;
  float* out = args.out + row * kPairColumns + 16 * strip;
  Vec sums[kRows][kStrips];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s)
      sums[r][s] = begin == 0 ? Zero() : Load(out + r * kPairColumns + 16 * s);
  }
  for (int64_t k = begin; k < end; ++k) {
    const auto* here = weights + kPairColumns * k;
    Vec columns[kStrips];
    if constexpr (kPrefetch) {
      const char* ahead = reinterpret_cast<const char*>(here) + kPlainPrefetchBytes;
#pragma GCC unroll 8
      for (size_t line = 0; line < kPairColumns * sizeof(*here); line += 64) Prefetch(ahead + line);
    }
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) columns[s] = Element::LoadColumns(here + 16 * s);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec input = Set(inputs[r * args.stride + k]);
#pragma GCC unroll 8
      for (int s = 0; s < kStrips; ++s) sums[r][s] = Fma(columns[s], input, sums[r][s]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) Store(out + r * kPairColumns + 16 * s, sums[r][s]);
  }
}

template <class Element, int kRows>
void PlainRows(const MatmulArgs& args, int row, int64_t begin, int64_t end) {
  constexpr int kStrips = kRows == 1 ? 2 : kPlainStrips;
  int strip = 0;
  if (args.prefetch && row == 0) {
    PlainTile<Element, kRows, kStrips, true>(args, row, 0, begin, end);
    strip = kStrips;
  }
  for (; strip < 2; strip += kStrips) {
    PlainTile<Element, kRows, kStrips, false>(args, row, strip, begin, end);
  }
}

// The rows that are too few for a whole tile.
template <class Element, int kRows>
void PlainRest(const MatmulArgs& args, int row, int64_t begin, int64_t end) {
  if constexpr (kRows > 0) {
    if (args.rows - row == kRows) return PlainRows<Element, kRows>(args, row, begin, end);
    PlainRest<Element, kRows - 1>(args, row, begin, end);
  }
}

template <class Element>
void PlainMatmul(const MatmulArgs& args) {
  constexpr int64_t kChunk = kPlainChunkBytes / (kPairColumns * sizeof(typename Element::Type));
  const int64_t chunk = args.rows <= kPlainRows ? args.k : kChunk;
  for (int64_t begin = 0; begin < args.k; begin += chunk) {
    const int64_t end = begin + chunk < args.k ? begin + chunk : args.k;
    int row = 0;
    for (; row + kPlainRows <= args.rows; row += kPlainRows) {
      PlainRows<Element, kPlainRows>(args, row, begin, end);
    }
    PlainRest<Element, kPlainRows - 1>(args, row, begin, end);
  }
}

}  // namespace
}  // namespace tokenmill::cpu
