#pragma once

// For tests on CPUs without AVX-512: SIMDe carries out the AVX-512 intrinsics with AVX2, and what it lacks is
// added here. Only used where TOKENMILL_EMULATE_AVX512 is defined.

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cstdint>
#include <cstring>

namespace tokenmill::cpu {
namespace {

template <class To, class From>
inline To Reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

struct Halves {
  __m256 low, high;
};
struct IntHalves {
  __m256i low, high;
};

inline __m512 EmulateCvtphPs(__m256i a) {
  return Reinterpret<__m512>(
      Halves{_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))});
}
template <int kRounding>
inline __m256i EmulateCvtpsPh(__m512 a) {
  const Halves halves = Reinterpret<Halves>(a);
  return _mm256_set_m128i(_mm256_cvtps_ph(halves.high, kRounding), _mm256_cvtps_ph(halves.low, kRounding));
}
inline __m512 EmulateCvtepi32Ps(__m512i a) {
  const IntHalves halves = Reinterpret<IntHalves>(a);
  return Reinterpret<__m512>(Halves{_mm256_cvtepi32_ps(halves.low), _mm256_cvtepi32_ps(halves.high)});
}
inline __m512i EmulateCvtpsEpi32(__m512 a) {
  const Halves halves = Reinterpret<Halves>(a);
  return Reinterpret<__m512i>(IntHalves{_mm256_cvtps_epi32(halves.low), _mm256_cvtps_epi32(halves.high)});
}
inline __m512i EmulateCvtepu16Epi32(__m256i a) {
  return Reinterpret<__m512i>(IntHalves{_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                                        _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))});
}
inline __m512i EmulateCvtepu8Epi32(__m128i a) {
  return Reinterpret<__m512i>(
      IntHalves{_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a))});
}
inline __m512i EmulateCvtepi8Epi32(__m128i a) {
  return Reinterpret<__m512i>(
      IntHalves{_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(a, a))});
}
inline __m128i EmulateCvtepi32Epi8(__m512i a) {
  int32_t from[16];
  int8_t to[16];
  std::memcpy(from, &a, sizeof(from));
  for (int i = 0; i < 16; ++i) to[i] = static_cast<int8_t>(from[i]);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(to));
}
inline __m512 EmulateMaskzLoaduPs(__mmask16 mask, const float* p) {
  float lanes[16] = {};
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) lanes[i] = p[i];
  }
  return _mm512_loadu_ps(lanes);
}
inline void EmulateMaskStoreuPs(float* p, __mmask16 mask, __m512 a) {
  float lanes[16];
  _mm512_storeu_ps(lanes, a);
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) p[i] = lanes[i];
  }
}
template <int kOrder>
inline __m512 EmulatePermutePs(__m512 a) {
  const Halves halves = Reinterpret<Halves>(a);
  return Reinterpret<__m512>(
      Halves{_mm256_permute_ps(halves.low, kOrder), _mm256_permute_ps(halves.high, kOrder)});
}
}  // namespace
}  // namespace tokenmill::cpu

#define _mm512_cvtph_ps(a) EmulateCvtphPs(a)
#define _mm512_cvtps_ph(a, rounding) EmulateCvtpsPh<rounding>(a)
#define _mm512_cvtepi32_ps(a) EmulateCvtepi32Ps(a)
#define _mm512_cvtps_epi32(a) EmulateCvtpsEpi32(a)
#define _mm512_cvtepu16_epi32(a) EmulateCvtepu16Epi32(a)
#define _mm512_cvtepu8_epi32(a) EmulateCvtepu8Epi32(a)
#define _mm512_cvtepi8_epi32(a) EmulateCvtepi8Epi32(a)
#define _mm512_cvtepi32_epi8(a) EmulateCvtepi32Epi8(a)
#define _mm512_maskz_loadu_ps(mask, p) EmulateMaskzLoaduPs(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) EmulateMaskStoreuPs(p, mask, a)
#undef _mm512_permute_ps
#define _mm512_permute_ps(a, order) EmulatePermutePs<order>(a)
