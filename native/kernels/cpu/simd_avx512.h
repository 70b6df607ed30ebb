#pragma once

#if defined(TOKENMILL_EMULATE_AVX512)
#include "kernels/cpu/emulate_avx512.h"
#else
#if defined(__GNUC__) && !defined(__clang__)
// GCC's headers leave operands of masked forms undefined on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

#include <cstdint>

// Vec: 16 floats, here as one register; the operations are those of simd_avx2.h, bit for bit. Only for the
// *_avx512.cc files; everything has internal linkage.

namespace tokenmill::cpu {
namespace {

#define TM_INLINE static inline __attribute__((always_inline))

struct Vec {
  __m512 v;
};

TM_INLINE __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

TM_INLINE Vec Zero() { return {_mm512_setzero_ps()}; }
TM_INLINE Vec Set(float x) { return {_mm512_set1_ps(x)}; }
TM_INLINE Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
TM_INLINE void Store(float* p, Vec v) { _mm512_storeu_ps(p, v.v); }

// The first n lanes; zeros beyond. 1 <= n <= 16.
TM_INLINE Vec LoadFirst(const float* p, int n) { return {_mm512_maskz_loadu_ps(FirstLanes(n), p)}; }
TM_INLINE void StoreFirst(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, FirstLanes(n), v.v); }

using Bits = __m512i;
TM_INLINE Bits LoadBits(const uint8_t* p) { return _mm512_loadu_si512(p); }
TM_INLINE void StoreBits(uint8_t* p, Bits x) { _mm512_storeu_si512(p, x); }
TM_INLINE Bits Either(Bits x, Bits y) { return _mm512_or_si512(x, y); }
template <int kShift>
TM_INLINE Bits Field(Bits x, uint8_t mask) {
  const Bits down = kShift == 0 ? x : _mm512_srli_epi16(x, kShift);
  return _mm512_and_si512(down, _mm512_set1_epi8(static_cast<char>(mask)));
}

TM_INLINE __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TM_INLINE Vec LoadF16(const uint16_t* p) { return {_mm512_cvtph_ps(Load256(p))}; }
TM_INLINE Vec LoadInt8(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
TM_INLINE Vec LoadBf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load256(p)), 16))};
}
TM_INLINE void StoreF16(uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v.v, _MM_FROUND_TO_NEAREST_INT));
}

TM_INLINE Vec Add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
TM_INLINE Vec Sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
TM_INLINE Vec Mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
TM_INLINE Vec Div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
TM_INLINE Vec Sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }

// a * b + c and c - a * b, rounded once.
TM_INLINE Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
TM_INLINE Vec Fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }

// b where either is NaN.
TM_INLINE Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
TM_INLINE Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }

TM_INLINE Vec Abs(Vec a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fffffff)))};
}

// x, and 0 where x's `tested` is below the limit.
TM_INLINE Vec ZeroWhereLess(Vec tested, Vec limit, Vec x) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(tested.v, limit.v, _CMP_NLT_UQ), x.v)};
}

// Bit i: a[i] >= b[i].
TM_INLINE uint32_t AtLeast(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }

// Lanes swapped two by two.
TM_INLINE Vec SwapPairs(Vec a) { return {_mm512_permute_ps(a.v, 0xb1)}; }

// 16 int32.
struct Ints {
  __m512i v;
};

TM_INLINE Ints Round(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }
TM_INLINE Vec ToFloat(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }

// 2^n for -126 <= n <= 127.
TM_INLINE Vec PowerOfTwo(Ints n) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23))};
}

TM_INLINE __m256i LowHalf(__m512i a) { return _mm512_castsi512_si256(a); }
TM_INLINE __m256i HighHalf(__m512i a) { return _mm512_extracti64x4_epi64(a, 1); }

TM_INLINE int32_t AddLanes(Ints a) {
  const __m256i eight = _mm256_add_epi32(LowHalf(a.v), HighHalf(a.v));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// The lanes' bits as integers: NaN is above infinity when signs are clear.
TM_INLINE uint32_t MaxBits(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m256i eight = _mm256_max_epu32(LowHalf(bits), HighHalf(bits));
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
}
TM_INLINE Vec MaxOfBits(Vec a, Vec b) {
  return {_mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}

// Values within int8.
TM_INLINE void StoreInt8(int8_t* p, Ints a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

TM_INLINE __m256 LowHalf(__m512 a) { return _mm512_castps512_ps256(a); }
TM_INLINE __m256 HighHalf(__m512 a) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}

TM_INLINE float AddLanes(Vec a) {
  const __m256 eight = _mm256_add_ps(LowHalf(a.v), HighHalf(a.v));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
TM_INLINE float MaxLanes(Vec a) {
  const __m256 eight = _mm256_max_ps(LowHalf(a.v), HighHalf(a.v));
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
  const __m256 low = LowHalf(a.v), high = HighHalf(a.v);
  const __m256d a0 = _mm256_cvtps_pd(_mm256_castps256_ps128(low));
  const __m256d a1 = _mm256_cvtps_pd(_mm256_extractf128_ps(low, 1));
  const __m256d a2 = _mm256_cvtps_pd(_mm256_castps256_ps128(high));
  const __m256d a3 = _mm256_cvtps_pd(_mm256_extractf128_ps(high, 1));
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
