#pragma once

#include <immintrin.h>

#include <cstdint>

// Vec: 16 floats, here as two registers. Only for the *_avx2.cc files; everything has internal linkage.

namespace tokenmill::cpu {
namespace {

#define TM_INLINE static inline __attribute__((always_inline))

struct Vec {
  __m256 low, high;
};

alignas(64) const int32_t kTailMask[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

// Lanes 8 * half … of a mask that covers the first n of 16 lanes.
TM_INLINE __m256i TailMask(int n, int half) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kTailMask + 16 - n + 8 * half));
}

TM_INLINE Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TM_INLINE Vec Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TM_INLINE Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TM_INLINE void Store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}

// The first n lanes; zeros beyond. 1 <= n <= 16.
TM_INLINE Vec LoadFirst(const float* p, int n) {
  if (n == 16) return Load(p);  // masked moves are slow
  return {_mm256_maskload_ps(p, TailMask(n, 0)), _mm256_maskload_ps(p + 8, TailMask(n, 1))};
}
TM_INLINE void StoreFirst(float* p, Vec v, int n) {
  if (n == 16) return Store(p, v);
  _mm256_maskstore_ps(p, TailMask(n, 0), v.low);
  _mm256_maskstore_ps(p + 8, TailMask(n, 1), v.high);
}

TM_INLINE __m256i LoadWords(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
using Bits = __m256i;
TM_INLINE Bits LoadBits(const uint8_t* p) { return LoadWords(p); }
TM_INLINE void StoreBits(uint8_t* p, Bits x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
TM_INLINE Bits Either(Bits x, Bits y) { return _mm256_or_si256(x, y); }
template <int kShift>
TM_INLINE Bits Field(Bits x, uint8_t mask) {
  const Bits down = kShift == 0 ? x : _mm256_srli_epi16(x, kShift);
  return _mm256_and_si256(down, _mm256_set1_epi8(static_cast<char>(mask)));
}

// Four bytes in every lane of 32 bits.
TM_INLINE __m256i Broadcast4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return _mm256_set1_epi32(four);
}
TM_INLINE Vec LoadF16(const uint16_t* p) {
  const __m128i* q = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
TM_INLINE Vec LoadInt8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
TM_INLINE Vec LoadBf16(const uint16_t* p) {
  const __m128i* q = reinterpret_cast<const __m128i*>(p);
  const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(q));
  const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}
TM_INLINE void StoreF16(uint16_t* p, Vec v) {
  __m128i* q = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(q, _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(q + 1, _mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT));
}

TM_INLINE Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
TM_INLINE Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
TM_INLINE Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
TM_INLINE Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
TM_INLINE Vec Sqrt(Vec a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }

// a * b + c and c - a * b, rounded once.
TM_INLINE Vec Fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
TM_INLINE Vec Fnma(Vec a, Vec b, Vec c) {
  return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}

// b where either is NaN.
TM_INLINE Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
TM_INLINE Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }

TM_INLINE Vec Abs(Vec a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(a.low, mask), _mm256_and_ps(a.high, mask)};
}

// x, and 0 where x's `tested` is below the limit.
TM_INLINE Vec ZeroWhereLess(Vec tested, Vec limit, Vec x) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(tested.low, limit.low, _CMP_LT_OQ), x.low),
          _mm256_andnot_ps(_mm256_cmp_ps(tested.high, limit.high, _CMP_LT_OQ), x.high)};
}

// Bit i: a[i] >= b[i].
TM_INLINE uint32_t AtLeast(Vec a, Vec b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GE_OQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GE_OQ));
  return static_cast<uint32_t>(low | high << 8);
}

// Lanes swapped two by two.
TM_INLINE Vec SwapPairs(Vec a) { return {_mm256_permute_ps(a.low, 0xb1), _mm256_permute_ps(a.high, 0xb1)}; }

// 16 int32.
struct Ints {
  __m256i low, high;
};

TM_INLINE Ints Round(Vec a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
TM_INLINE Vec ToFloat(Ints a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }

// 2^n for -126 <= n <= 127.
TM_INLINE Vec PowerOfTwo(Ints n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.low, bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.high, bias), 23))};
}

TM_INLINE int32_t AddLanes(Ints a) {
  const __m256i eight = _mm256_add_epi32(a.low, a.high);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// The lanes' bits as integers: NaN is above infinity when signs are clear.
TM_INLINE uint32_t MaxBits(Vec a) {
  const __m256i eight = _mm256_max_epu32(_mm256_castps_si256(a.low), _mm256_castps_si256(a.high));
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
}
TM_INLINE Vec MaxOfBits(Vec a, Vec b) {
  const __m256i low = _mm256_max_epu32(_mm256_castps_si256(a.low), _mm256_castps_si256(b.low));
  const __m256i high = _mm256_max_epu32(_mm256_castps_si256(a.high), _mm256_castps_si256(b.high));
  return {_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)};
}

// Values within int8.
TM_INLINE void StoreInt8(int8_t* p, Ints a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

TM_INLINE float AddLanes(Vec a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
TM_INLINE float MaxLanes(Vec a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

// 8 doubles, each the sum of two lanes: i and i + 8.
struct Doubles {
  __m256d low, high;
};
TM_INLINE Doubles ZeroDoubles() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
TM_INLINE Doubles AddTo(Doubles sum, Vec a) {
  const __m256d a0 = _mm256_cvtps_pd(_mm256_castps256_ps128(a.low));
  const __m256d a1 = _mm256_cvtps_pd(_mm256_extractf128_ps(a.low, 1));
  const __m256d a2 = _mm256_cvtps_pd(_mm256_castps256_ps128(a.high));
  const __m256d a3 = _mm256_cvtps_pd(_mm256_extractf128_ps(a.high, 1));
  return {_mm256_add_pd(sum.low, _mm256_add_pd(a0, a2)), _mm256_add_pd(sum.high, _mm256_add_pd(a1, a3))};
}
TM_INLINE double AddLanes(Doubles a) {
  const __m256d four = _mm256_add_pd(a.low, a.high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

TM_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
}  // namespace tokenmill::cpu
