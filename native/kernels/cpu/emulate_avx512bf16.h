#pragma once

// For tests on CPUs without AVX-512 BF16: its instructions, carried out with AVX2. Only used where
// TOKENMILL_EMULATE_AVX512 is defined, after emulate_avx512.h.

#include "kernels/cpu/emulate_avx512.h"

namespace tokenmill::cpu {
namespace {

// Subnormals become zeros of their sign.
inline __m256 EmulateFlush(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i exponent = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f800000));
  const __m256i small = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
  const __m256i kept = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MIN));
  return _mm256_castsi256_ps(_mm256_blendv_epi8(bits, kept, small));
}

inline __m256 EmulateBf16Fma(__m256i a, __m256i b, __m256 sum) {
  return EmulateFlush(_mm256_fmadd_ps(EmulateFlush(_mm256_castsi256_ps(a)),
                                      EmulateFlush(_mm256_castsi256_ps(b)), EmulateFlush(sum)));
}

// The odd elements' product is added first.
inline __m256 EmulateDpbf16Half(__m256 sum, __m256i a, __m256i b) {
  const __m256i odd = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u));
  sum = EmulateBf16Fma(_mm256_and_si256(a, odd), _mm256_and_si256(b, odd), sum);
  return EmulateBf16Fma(_mm256_slli_epi32(a, 16), _mm256_slli_epi32(b, 16), sum);
}

inline __m512 EmulateDpbf16Ps(__m512 sum, __m512bh a, __m512bh b) {
  const Halves sums = Reinterpret<Halves>(sum);
  const IntHalves as = Reinterpret<IntHalves>(a), bs = Reinterpret<IntHalves>(b);
  return Reinterpret<__m512>(
      Halves{EmulateDpbf16Half(sums.low, as.low, bs.low), EmulateDpbf16Half(sums.high, as.high, bs.high)});
}

inline uint16_t EmulateToBf16(uint32_t bits) {
  const uint32_t exponent = bits >> 23 & 0xff, mantissa = bits & 0x7fffff;
  if (exponent == 0) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (exponent == 0xff && mantissa != 0) return static_cast<uint16_t>(bits >> 16 | 0x40);
  if (exponent == 0xff) return static_cast<uint16_t>(bits >> 16);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline __m256bh EmulateCvtnepsPbh(__m512 a) {
  uint32_t from[16];
  uint16_t to[16];
  std::memcpy(from, &a, sizeof(from));
  for (int i = 0; i < 16; ++i) to[i] = EmulateToBf16(from[i]);
  __m256bh result;
  std::memcpy(&result, to, sizeof(result));
  return result;
}

}  // namespace
}  // namespace tokenmill::cpu

#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(sum, a, b) EmulateDpbf16Ps(sum, a, b)
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh(a) EmulateCvtnepsPbh(a)
