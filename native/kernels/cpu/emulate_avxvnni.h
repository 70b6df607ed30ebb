#pragma once

// For tests on CPUs without AVX-VNNI: its dpbusd, carried out with AVX2. Only used where TOKENMILL_EMULATE_AVX512
// is defined.

#include <immintrin.h>

namespace tokenmill::cpu {
namespace {

inline __m256i EmulateDpbusd(__m256i sum, __m256i levels, __m256i input) {
  const __m256i low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(levels)),
                                        _mm256_cvtepi8_epi16(_mm256_castsi256_si128(input)));
  const __m256i high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(levels, 1)),
                                         _mm256_cvtepi8_epi16(_mm256_extracti128_si256(input, 1)));
  return _mm256_add_epi32(sum, _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8));
}

}  // namespace
}  // namespace tokenmill::cpu

#define _mm256_dpbusd_avx_epi32(sum, levels, input) EmulateDpbusd(sum, levels, input)
