#include "gpu_primitives.h"

#include "kernels/cuda/gpu.h"

using tokenmill::cuda::CpAsyncParams;
using tokenmill::cuda::LdmatrixParams;
using tokenmill::cuda::MmaRegisters;
using tokenmill::cuda::WordsParams;

namespace {

struct Matrices {
  uint16_t rows[40][8];
};

struct Words {
  uint32_t words[128];
};

GPU_FN void LoadFragments(const MmaRegisters& p, uint32_t (&a)[4], uint32_t (&b)[2]) {
  for (int i = 0; i < 4; ++i) a[i] = p.a[gpu::lane() * 4 + i];
  for (int i = 0; i < 2; ++i) b[i] = p.b[gpu::lane() * 2 + i];
}

template <bool bf16>
GPU_FN void MmaHalf(const MmaRegisters& p) {
  uint32_t a[4], b[2];
  LoadFragments(p, a, b);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = gpu::bits_float(p.c[gpu::lane() * 4 + i]);
  if (bf16) {
    gpu::mma_bf16(d, a, b);
  } else {
    gpu::mma_f16(d, a, b);
  }
  for (int i = 0; i < 4; ++i) p.d[gpu::lane() * 4 + i] = gpu::float_bits(d[i]);
}

GPU_FN void MmaS8(const MmaRegisters& p) {
  uint32_t a[4], b[2];
  LoadFragments(p, a, b);
  int d[4];
  for (int i = 0; i < 4; ++i) d[i] = static_cast<int>(p.c[gpu::lane() * 4 + i]);
  gpu::mma_s8(d, a, b);
  for (int i = 0; i < 4; ++i) p.d[gpu::lane() * 4 + i] = static_cast<uint32_t>(d[i]);
}

GPU_FN void Ldmatrix(const LdmatrixParams& p) {
  DYN_SMEM(Matrices, s);
  for (int i = gpu::lane(); i < 320; i += 32) s.rows[i / 8][i % 8] = p.rows[i];
  gpu::sync_warp();
  const uint16_t* row = s.rows[p.row[gpu::lane()]];
  uint32_t four[4] = {}, two[2] = {};
  if (p.form == 0) gpu::ldmatrix_x4(four, row);
  if (p.form == 1) gpu::ldmatrix_x4_trans(four, row);
  if (p.form == 2) gpu::ldmatrix_x2(two, row);
  if (p.form == 3) gpu::ldmatrix_x2_trans(two, row);
  if (p.form >= 2) four[0] = two[0], four[1] = two[1];
  for (int i = 0; i < 4; ++i) p.registers[gpu::lane() * 4 + i] = four[i];
}

GPU_FN void CpAsync(const CpAsyncParams& p) {
  DYN_SMEM(Words, s);
  const int words = p.bytes / 4;
  const int lane = gpu::lane();
  if (words == 4) {
    gpu::cp_async16(&s.words[lane * 4], &p.from[lane * 4], p.valid[lane] != 0);
  } else {
    gpu::cp_async4(&s.words[lane], &p.from[lane], p.valid[lane] != 0);
  }
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  gpu::sync_warp();
  for (int i = lane; i < 32 * words; i += 32) p.to[i] = s.words[i];
}

template <class Function>
GPU_FN void ForWords(const WordsParams& p, const Function& function) {
  for (int i = gpu::thread(); i < p.n; i += gpu::threads()) p.y[i] = function(p.a[i], p.b[i], p.c[i]);
}

}  // namespace

GPU_KERNEL(primitives_mma_f16, MmaRegisters, 32) { MmaHalf<false>(p); }
GPU_KERNEL(primitives_mma_bf16, MmaRegisters, 32) { MmaHalf<true>(p); }
GPU_KERNEL(primitives_mma_s8, MmaRegisters, 32) { MmaS8(p); }
GPU_KERNEL(primitives_ldmatrix, LdmatrixParams, 32) { Ldmatrix(p); }
GPU_KERNEL(primitives_cp_async, CpAsyncParams, 32) { CpAsync(p); }

#define WORDS_KERNEL(name, ...)                                                    \
  GPU_KERNEL(primitives_##name, WordsParams, 64) {                                 \
    ForWords(p,                                                                    \
             []([[maybe_unused]] uint32_t a, [[maybe_unused]] uint32_t b,          \
                [[maybe_unused]] uint32_t c) -> uint32_t { return __VA_ARGS__; }); \
  }

WORDS_KERNEL(shuffle_xor, gpu::shuffle_xor(a, 5) + 3 * gpu::shuffle_xor(b, 16))
WORDS_KERNEL(shuffle, gpu::shuffle(a, static_cast<int>(b)))
WORDS_KERNEL(ballot, gpu::ballot(a != 0))
WORDS_KERNEL(to_f16, gpu::to_f16(gpu::bits_float(a)))
WORDS_KERNEL(from_f16, gpu::float_bits(gpu::from_f16(static_cast<uint16_t>(a))))
WORDS_KERNEL(pack_f16, gpu::pack_f16(gpu::bits_float(a), gpu::bits_float(b)))
WORDS_KERNEL(to_bf16, gpu::to_bf16(gpu::bits_float(a)))
WORDS_KERNEL(from_bf16, gpu::float_bits(gpu::from_bf16(static_cast<uint16_t>(a))))
WORDS_KERNEL(pack_bf16, gpu::pack_bf16(gpu::bits_float(a), gpu::bits_float(b)))
WORDS_KERNEL(round_to_int, static_cast<uint32_t>(gpu::round_to_int(gpu::bits_float(a))))
WORDS_KERNEL(hfma2, gpu::hfma2(a, b, c))
WORDS_KERNEL(hsub2, gpu::hsub2(a, b))
WORDS_KERNEL(hmul2, gpu::hmul2(a, b))
WORDS_KERNEL(byte_permute, gpu::byte_permute(a, b, c))
WORDS_KERNEL(and_or, gpu::and_or(a, b, c))
WORDS_KERNEL(popcount, static_cast<uint32_t>(gpu::popcount(a)))
WORDS_KERNEL(fma, gpu::float_bits(gpu::fma(gpu::bits_float(a), gpu::bits_float(b), gpu::bits_float(c))))
WORDS_KERNEL(max, gpu::float_bits(gpu::max(gpu::bits_float(a), gpu::bits_float(b))))
WORDS_KERNEL(min, gpu::float_bits(gpu::min(gpu::bits_float(a), gpu::bits_float(b))))
WORDS_KERNEL(divide, gpu::float_bits(gpu::divide(gpu::bits_float(a), gpu::bits_float(b))))
WORDS_KERNEL(square_root, gpu::float_bits(gpu::square_root(gpu::bits_float(a))))
WORDS_KERNEL(exp2, gpu::float_bits(gpu::exp2_approx(gpu::bits_float(a))))
