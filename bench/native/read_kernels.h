#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/cpu_features.h"

// Loops that do nothing but read memory. `bytes` is a multiple of 512; `ahead` bytes beyond what is read are
// prefetched, none if it is 0. They return something that depends on all of it.

namespace tokenmill::bench {

using ReadKernel = uint64_t (*)(const uint8_t* data, size_t bytes, size_t ahead);

inline uint64_t ReadPlain(const uint8_t* data, size_t bytes, size_t ahead) {
  const uint64_t* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sums[8] = {};
  for (size_t i = 0; i < bytes / 8; i += 8) {
    if (ahead) __builtin_prefetch(data + i * 8 + ahead);
    for (size_t j = 0; j < 8; ++j) sums[j] ^= words[i + j];
  }
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) inline uint64_t ReadAvx2(const uint8_t* data, size_t bytes, size_t ahead) {
  __m256i sums[4] = {};
  for (const uint8_t* end = data + bytes; data < end; data += 256) {
    if (ahead) {
      for (int line = 0; line < 4; ++line) __builtin_prefetch(data + ahead + 64 * line);
    }
    const __m256i* vectors = reinterpret_cast<const __m256i*>(data);
    for (int i = 0; i < 8; ++i) sums[i % 4] = _mm256_xor_si256(sums[i % 4], _mm256_load_si256(vectors + i));
  }
  const __m256i sum =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0) ^ _mm256_extract_epi64(sum, 3));
}

__attribute__((target("avx512f"))) inline uint64_t ReadAvx512(const uint8_t* data, size_t bytes,
                                                              size_t ahead) {
  __m512i sums[4] = {};
  for (const uint8_t* end = data + bytes; data < end; data += 512) {
    if (ahead) {
      for (int line = 0; line < 8; ++line) __builtin_prefetch(data + ahead + 64 * line);
    }
    const __m512i* vectors = reinterpret_cast<const __m512i*>(data);
    for (int i = 0; i < 8; ++i) sums[i % 4] = _mm512_xor_si512(sums[i % 4], _mm512_load_si512(vectors + i));
  }
  alignas(64) uint64_t sum[8];
  _mm512_store_si512(
      sum, _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
  return sum[0] ^ sum[7];
}

#endif

struct ReadVariant {
  const char* name;
  ReadKernel run;
  size_t ahead;
};

inline std::vector<ReadVariant> ReadVariants() {
  std::vector<ReadVariant> variants;
  const auto add = [&](const char* plain, const char* prefetching, ReadKernel run) {
    variants.push_back({plain, run, 0});
    for (size_t ahead : {1024, 4096, 16384}) variants.push_back({prefetching, run, ahead});
  };
#if defined(__x86_64__)
  if (HostCpuFeatures().avx512_vnni) {
    add("avx512", "avx512 with prefetch", ReadAvx512);
    return variants;
  }
  if (HostCpuFeatures().avx2) {
    add("avx2", "avx2 with prefetch", ReadAvx2);
    return variants;
  }
#endif
  add("plain", "plain with prefetch", ReadPlain);
  return variants;
}

}  // namespace tokenmill::bench
