#pragma once

#include <cstdint>
#include <vector>

#include "core/cpu_features.h"

// Loops that do nothing but one kind of arithmetic, as fast as the CPU can: what its units allow, without memory.
// They are written out in assembly, for compilers copy and spill the accumulators of such a loop. Each is compiled
// for its instruction set alone and may be called only where the CPU has it.

namespace tokenmill::bench {

/// One way to reach a peak.
struct PeakKernel {
  const char* name;
  /// Runs `iterations` of the loop.
  void (*run)(int64_t iterations);
  int per_iteration;  // instructions that count; for several that only count together, such groups
  int operations;  // of one of them: two a multiply-add
  bool is_peak = true;  // false: a plain loop for want of better, no limit
};

/// Additions that wait for each other: one a cycle. Registers only: some CPUs add constants while renaming.
inline constexpr int kChainAdds = 64;

inline void RunAddChain(int64_t iterations) {
#if defined(__x86_64__)
  uint64_t sum = 0, one = 1;
  asm volatile(
      "1:\n"
      ".rept 64\n add %2, %1\n .endr\n"
      "dec %0\n jnz 1b\n"
      : "+r"(iterations), "+r"(sum)
      : "r"(one)
      : "cc");
#elif defined(__aarch64__)
  uint64_t sum = 0, one = 1;
  asm volatile(
      "1:\n"
      ".rept 64\n add %1, %1, %2\n .endr\n"
      "subs %0, %0, #1\n b.ne 1b\n"
      : "+r"(iterations), "+r"(sum)
      : "r"(one)
      : "cc");
#else
  volatile uint64_t sum = 0;
  for (int64_t i = 0; i < iterations * kChainAdds; ++i) sum = sum + 1;
#endif
}

#if defined(__x86_64__)

alignas(64) inline constexpr uint8_t kBytes[64] = {
    1,  2,  3, 4, 5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 0,  1, 3, 5, 7, 9, 11,
    13, 15, 2, 4, 6,  8,  10, 12, 14, 1,  15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
    3,  2,  1, 0, 15, 13, 11, 9,  7,  5,  3,  1,  14, 12, 10, 8,  6, 4, 2, 0};
alignas(64) inline constexpr int16_t kOnes[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
alignas(64) inline constexpr float kHalves[16] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f,
                                                  0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};

#define TM_CLOBBER_16                                                                                        \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15"
#define TM_CLOBBER_32                                                                                      \
  TM_CLOBBER_16, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
      "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
#define TM_EACH_8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define TM_EACH_12(op) TM_EACH_8(op) op(8) op(9) op(10) op(11)
#define TM_EACH_24(op) \
  TM_EACH_12(op) op(12) op(13) op(14) op(15) op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23)

// AVX2: u8 times i8 in pairs to i16, pairs of these to i32, added up. Two at a time: so the additions leave the two
// units that multiply alone.
#define TM_MADDUBS_PAIR(product, a, b, sum_a, sum_b)                                           \
  "vpmaddubsw " product ", %%ymm15, %%ymm" #a "\n vpmaddubsw " product ", %%ymm15, %%ymm" #b   \
  "\n vpmaddwd %%ymm13, %%ymm" #a ", %%ymm" #a "\n vpmaddwd %%ymm13, %%ymm" #b ", %%ymm" #b    \
  "\n vpaddd %%ymm" #a ", %%ymm" #sum_a ", %%ymm" #sum_a "\n vpaddd %%ymm" #b ", %%ymm" #sum_b \
  ", %%ymm" #sum_b "\n"
#define TM_MADDUBS_8(product)          \
  TM_MADDUBS_PAIR(product, 0, 1, 4, 5) \
  TM_MADDUBS_PAIR(product, 2, 3, 6, 7) \
  TM_MADDUBS_PAIR(product, 0, 1, 8, 9) TM_MADDUBS_PAIR(product, 2, 3, 10, 11)
#define TM_FMA_YMM(n) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n "\n"
#define TM_FMA_ZMM(n) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n "\n"
#define TM_VNNI_YMM(n) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n "\n"
#define TM_VNNI_ZMM(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n"
#define TM_VNNI_ZMM_BROADCAST(n) "vpdpbusd (%1)%{1to16%}, %%zmm31, %%zmm" #n "\n"

#define TM_LOOP(body) "1:\n" body "dec %0\n jnz 1b\n vzeroupper\n"

__attribute__((target("avx2"))) inline void RunMaddubs(int64_t iterations) {
  asm volatile("vmovdqa (%1), %%ymm14\n vmovdqa (%1), %%ymm15\n vmovdqa (%2), %%ymm13\n" TM_LOOP(
                   TM_MADDUBS_8("%%ymm14") TM_MADDUBS_8("%%ymm14") TM_MADDUBS_8("%%ymm14"))
               : "+r"(iterations)
               : "r"(kBytes), "r"(kOnes)
               : "cc", "memory", TM_CLOBBER_16);
}

__attribute__((target("avx2"))) inline void RunMaddubsLoad(int64_t iterations) {
  asm volatile("vmovdqa (%1), %%ymm15\n vmovdqa (%2), %%ymm13\n" TM_LOOP(
                   TM_MADDUBS_8("(%1)") TM_MADDUBS_8("(%1)") TM_MADDUBS_8("(%1)"))
               : "+r"(iterations)
               : "r"(kBytes), "r"(kOnes)
               : "cc", "memory", TM_CLOBBER_16);
}

#define TM_ZERO_YMM(n) "vxorps %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n"
#define TM_ZERO_ZMM(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"

__attribute__((target("avx2,fma"))) inline void RunFmaYmm(int64_t iterations) {
  asm volatile("vmovaps (%1), %%ymm14\n vmovaps (%1), %%ymm15\n" TM_EACH_12(TM_ZERO_YMM)
                   TM_LOOP(TM_EACH_12(TM_FMA_YMM) TM_EACH_12(TM_FMA_YMM))
               : "+r"(iterations)
               : "r"(kHalves)
               : "cc", "memory", TM_CLOBBER_16);
}

__attribute__((target("avx2"))) inline void RunVnniYmm(int64_t iterations) {
  asm volatile("vmovdqa (%1), %%ymm14\n vmovdqa (%1), %%ymm15\n" TM_LOOP(TM_EACH_12(TM_VNNI_YMM)
                                                                             TM_EACH_12(TM_VNNI_YMM))
               : "+r"(iterations)
               : "r"(kBytes)
               : "cc", "memory", TM_CLOBBER_16);
}

__attribute__((target("avx512f"))) inline void RunVnniZmm12(int64_t iterations) {
  asm volatile("vmovdqa64 (%1), %%zmm30\n vmovdqa64 (%1), %%zmm31\n" TM_LOOP(TM_EACH_12(TM_VNNI_ZMM)
                                                                                 TM_EACH_12(TM_VNNI_ZMM))
               : "+r"(iterations)
               : "r"(kBytes)
               : "cc", "memory", TM_CLOBBER_32);
}

__attribute__((target("avx512f"))) inline void RunVnniZmm24(int64_t iterations) {
  asm volatile("vmovdqa64 (%1), %%zmm30\n vmovdqa64 (%1), %%zmm31\n" TM_LOOP(TM_EACH_24(TM_VNNI_ZMM))
               : "+r"(iterations)
               : "r"(kBytes)
               : "cc", "memory", TM_CLOBBER_32);
}

__attribute__((target("avx512f"))) inline void RunVnniZmmBroadcast(int64_t iterations) {
  asm volatile("vmovdqa64 (%1), %%zmm31\n" TM_LOOP(TM_EACH_24(TM_VNNI_ZMM_BROADCAST))
               : "+r"(iterations)
               : "r"(kBytes)
               : "cc", "memory", TM_CLOBBER_32);
}

__attribute__((target("avx512f"))) inline void RunFmaZmm(int64_t iterations) {
  asm volatile("vmovaps (%1), %%zmm30\n vmovaps (%1), %%zmm31\n" TM_EACH_24(TM_ZERO_ZMM)
                   TM_LOOP(TM_EACH_24(TM_FMA_ZMM))
               : "+r"(iterations)
               : "r"(kHalves)
               : "cc", "memory", TM_CLOBBER_32);
}

#endif  // x86-64

/// A multiply-add after the other, as the compiler likes.
inline void RunPlainInteger(int64_t iterations) {
  int32_t sums[16] = {};
  volatile int32_t factor = 3;
  const int32_t one = factor;
  for (int64_t i = 0; i < iterations; ++i) {
    for (int32_t& sum : sums)
      sum = static_cast<int32_t>(static_cast<uint32_t>(sum) * 5u + static_cast<uint32_t>(one));
  }
  for (int32_t sum : sums) factor = sum;
}

inline void RunPlainFloat(int64_t iterations) {
  float sums[16] = {};
  volatile float factor = 0.5f;
  const float half = factor;
  for (int64_t i = 0; i < iterations; ++i) {
    for (float& sum : sums) sum = sum * half + half;
  }
  for (float sum : sums) factor = sum;
}

/// Products of 8-bit integers, summed to 32 bits: the ways that this CPU has and this library's kernels use.
inline std::vector<PeakKernel> IntegerKernels() {
#if defined(__x86_64__)
  const CpuFeatures& cpu = HostCpuFeatures();
  if (cpu.avx512_vnni) {
    return {{"avx512 dpbusd, 12 accumulators", RunVnniZmm12, 24, 128},
            {"avx512 dpbusd, 24 accumulators", RunVnniZmm24, 24, 128},
            {"avx512 dpbusd, broadcast from memory", RunVnniZmmBroadcast, 24, 128}};
  }
  if (cpu.avx_vnni) return {{"avx dpbusd", RunVnniYmm, 24, 64}};
  if (cpu.avx2) {
    return {{"avx2 maddubs + madd + add", RunMaddubs, 24, 64},
            {"avx2 maddubs from memory + madd + add", RunMaddubsLoad, 24, 64}};
  }
#endif
  return {{"plain", RunPlainInteger, 16, 2, false}};
}

/// Multiply-adds of f32.
inline std::vector<PeakKernel> FloatKernels() {
#if defined(__x86_64__)
  const CpuFeatures& cpu = HostCpuFeatures();
  if (cpu.avx512_vnni) return {{"avx512 fma", RunFmaZmm, 24, 32}};
  if (cpu.avx2) return {{"avx2 fma", RunFmaYmm, 24, 16}};
#endif
  return {{"plain", RunPlainFloat, 16, 2, false}};
}

}  // namespace tokenmill::bench
