#include "kernels/cpu/isa_tables.h"
#include "kernels/cpu/simd_avx512.h"

#if defined(TOKENMILL_EMULATE_AVX512)
#include "kernels/cpu/emulate_avx512bf16.h"
#endif

namespace tokenmill::cpu {
namespace {
constexpr int kPlainRows = 8, kPlainStrips = 2;
constexpr int kPlainPrefetchBytes = 12 * 1024;  // how far ahead weights are asked for
}  // namespace
}  // namespace tokenmill::cpu

// After the definitions that it is written in.
#include "kernels/cpu/plain_matmul_impl.h"

// dpbf16 adds the products of two pairs of bf16 to each column, the odd one first, as two FMA that ignore what
// rounding and subnormals the thread has set. A step along k is two k.

namespace tokenmill::cpu {
namespace {

struct ElementBf16K2 {
  using Type = uint32_t;  // two bf16, as below
  using Input = uint32_t;
  static constexpr int kStep = 2;
  TM_INLINE const uint32_t* Inputs(const MatmulArgs& args) {
    return reinterpret_cast<const uint32_t*>(args.bf16);
  }
  TM_INLINE __m512i LoadColumns(const uint32_t* p) { return _mm512_loadu_si512(p); }
  TM_INLINE __m512i Broadcast(const uint32_t* p) {
    int32_t two;
    __builtin_memcpy(&two, p, sizeof(two));
    return _mm512_set1_epi32(two);
  }
  TM_INLINE Vec AddTo(Vec sum, __m512i columns, __m512i input) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)columns, (__m512bh)input)};
  }
};

TM_INLINE __m256i Bf16Of(Vec v) { return (__m256i)_mm512_cvtneps_pbh(v.v); }

void ToBf16(const float* x, uint16_t* out, int n) {
  int i = 0;
  for (; i + 16 <= n; i += 16) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), Bf16Of(Load(x + i)));
  if (i == n) return;
  uint16_t rest[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest), Bf16Of(LoadFirst(x + i, n - i)));
  for (int j = 0; i + j < n; ++j) out[i + j] = rest[j];
}

}  // namespace

void SetMatmulKernelsAvx512Bf16(CpuKernels* kernels) {
  SetMatmulKernelsAvx512(kernels);
  SetPlainMatmul<ElementBf16K2>(PackedFormat::kBf16K2, kernels);
  kernels->to_bf16 = ToBf16;
}

}  // namespace tokenmill::cpu
