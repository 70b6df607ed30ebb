// Products with F32, F16 and BF16 weights over Vec. Included by the matmul_*.cc only, after their simd
// header. An Element says what a column and a row have for each step along k, and how they are added to a sum.

namespace tokenmill::cpu {
namespace {

struct ByFloats {
  using Input = float;
  static constexpr int kStep = 1;  // k
  TM_INLINE const float* Inputs(const MatmulArgs& args) { return args.floats; }
  TM_INLINE Vec Broadcast(const float* p) { return Set(*p); }
  TM_INLINE Vec AddTo(Vec sum, Vec columns, Vec input) { return Fma(columns, input, sum); }
};
struct ElementF32 : ByFloats {
  using Type = float;
  TM_INLINE Vec LoadColumns(const float* p) { return Load(p); }
};
struct ElementF16 : ByFloats {
  using Type = uint16_t;
  TM_INLINE Vec LoadColumns(const uint16_t* p) { return LoadF16(p); }
};
struct ElementBf16 : ByFloats {
  using Type = uint16_t;
  TM_INLINE Vec LoadColumns(const uint16_t* p) { return LoadBf16(p); }
};

// Of the weights that stay in the caches while all rows pass.
constexpr int64_t kPlainChunkBytes = 64 * 1024;

// kStrips strips from `strip` on, of rows row … row + kRows - 1 and steps begin … end - 1. Every output is one chain
// of additions, which rests in `out` between chunks.
template <class Element, int kRows, int kStrips, bool kPrefetch>
void PlainTile(const MatmulArgs& args, int row, int strip, int64_t begin, int64_t end) {
  const auto* weights = reinterpret_cast<const typename Element::Type*>(args.weights) + 16 * strip;
  const int64_t stride = args.stride / Element::kStep;
  const typename Element::Input* inputs = Element::Inputs(args) + row * stride;
  float* out = args.out + row * kPairColumns + 16 * strip;
  Vec sums[kRows][kStrips];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s)
      sums[r][s] = begin == 0 ? Zero() : Load(out + r * kPairColumns + 16 * s);
  }
  for (int64_t i = begin; i < end; ++i) {
    const auto* here = weights + kPairColumns * i;
    decltype(Element::LoadColumns(here)) columns[kStrips];
    if constexpr (kPrefetch) {
      const char* ahead = reinterpret_cast<const char*>(here) + kPlainPrefetchBytes;
#pragma GCC unroll 8
      for (size_t line = 0; line < kPairColumns * sizeof(*here); line += 64) Prefetch(ahead + line);
    }
#pragma GCC unroll 8
    for (int s = 0; s < kStrips; ++s) columns[s] = Element::LoadColumns(here + 16 * s);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto input = Element::Broadcast(inputs + r * stride + i);
#pragma GCC unroll 8
      for (int s = 0; s < kStrips; ++s) sums[r][s] = Element::AddTo(sums[r][s], columns[s], input);
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
  constexpr int kStrips = kRows <= 2 ? 2 : kPlainStrips;
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
  const int64_t steps = args.k / Element::kStep;
  const int64_t chunk = args.rows <= kPlainRows ? steps : kChunk;
  for (int64_t begin = 0; begin < steps; begin += chunk) {
    const int64_t end = begin + chunk < steps ? begin + chunk : steps;
    int row = 0;
    for (; row + kPlainRows <= args.rows; row += kPlainRows) {
      PlainRows<Element, kPlainRows>(args, row, begin, end);
    }
    PlainRest<Element, kPlainRows - 1>(args, row, begin, end);
  }
}

template <class Element>
void SetPlainMatmul(PackedFormat format, CpuKernels* kernels) {
  kernels->matmul[static_cast<int>(format)] = PlainMatmul<Element>;
  kernels->tile_rows[static_cast<int>(format)] = kPlainRows;
}

}  // namespace
}  // namespace tokenmill::cpu
