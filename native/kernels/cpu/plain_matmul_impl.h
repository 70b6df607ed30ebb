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

// kStrips strips from `strip` on, of rows row … row + kRows - 1. Every output is one chain of FMA.
template <class Element, int kRows, int kStrips>
void PlainTile(const MatmulArgs& args, int row, int strip) {
  const auto* weights = reinterpret_cast<const typename Element::Type*>(args.weights) + 16 * strip;
  const float* inputs = args.inputs + row * args.stride;
  Vec sums[kRows][kStrips];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) sums[r][s] = Zero();
  }
  for (int64_t k = 0; k < args.k; ++k) {
    Vec columns[kStrips];
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) columns[s] = Element::LoadColumns(weights + kPairColumns * k + 16 * s);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec input = Set(inputs[r * args.stride + k]);
#pragma GCC unroll 8
      for (int s = 0; s < kStrips; ++s) sums[r][s] = Fma(columns[s], input, sums[r][s]);
    }
  }
  float* out = args.out + row * kPairColumns + 16 * strip;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) Store(out + r * kPairColumns + 16 * s, sums[r][s]);
  }
}

template <class Element, int kRows>
void PlainRows(const MatmulArgs& args, int row) {
  constexpr int kStrips = kRows == 1 ? 2 : kPlainStrips;
  for (int strip = 0; strip < 2; strip += kStrips) PlainTile<Element, kRows, kStrips>(args, row, strip);
}

template <class Element>
void PlainMatmul(const MatmulArgs& args) {
  int row = 0;
  for (; row + 4 <= args.rows; row += 4) PlainRows<Element, 4>(args, row);
  switch (args.rows - row) {
    case 3:
      return PlainRows<Element, 3>(args, row);
    case 2:
      return PlainRows<Element, 2>(args, row);
    case 1:
      return PlainRows<Element, 1>(args, row);
  }
}

}  // namespace
}  // namespace tokenmill::cpu
