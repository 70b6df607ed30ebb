#pragma once

// What nvcc makes of gpu.h's primitives. emu/gpu_emu.h declares the same ones.

#include <stdint.h>

#define GPU_FN static __device__ __forceinline__
#define GPU_KERNEL(name, Params, max_threads) \
  extern "C" __global__ void __launch_bounds__(max_threads) name(const __grid_constant__ Params p)
/// The block's dynamic shared memory as one structure, 128-byte aligned.
#define DYN_SMEM(Struct, name)                                  \
  extern __shared__ __align__(128) unsigned char gpu_shared[]; \
  Struct& name = *reinterpret_cast<Struct*>(gpu_shared)
#define GPU_UNROLL _Pragma("unroll")

namespace gpu {

// --- Where a thread is

GPU_FN int thread() { return static_cast<int>(threadIdx.x); }
GPU_FN int threads() { return static_cast<int>(blockDim.x); }
GPU_FN int lane() { return static_cast<int>(threadIdx.x & 31); }
GPU_FN int warp() { return static_cast<int>(threadIdx.x >> 5); }
GPU_FN int block_x() { return static_cast<int>(blockIdx.x); }
GPU_FN int block_y() { return static_cast<int>(blockIdx.y); }
GPU_FN int block_z() { return static_cast<int>(blockIdx.z); }
GPU_FN int grid_x() { return static_cast<int>(gridDim.x); }
GPU_FN int grid_y() { return static_cast<int>(gridDim.y); }
GPU_FN int grid_z() { return static_cast<int>(gridDim.z); }

// --- Barriers, fences, atomics

GPU_FN void sync_block() { __syncthreads(); }
/// All lanes of the warp; orders their shared and global accesses.
GPU_FN void sync_warp() { __syncwarp(); }
/// Orders this thread's writes before its later ones for the whole device.
GPU_FN void fence_device() { __threadfence(); }
GPU_FN int atomic_add(int* at, int value) { return atomicAdd(at, value); }
GPU_FN unsigned atomic_add(unsigned* at, unsigned value) { return atomicAdd(at, value); }

// --- Warp collectives: by all 32 lanes

GPU_FN float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
GPU_FN int shuffle_xor(int value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
GPU_FN uint32_t shuffle_xor(uint32_t value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
GPU_FN float shuffle(float value, int from_lane) { return __shfl_sync(0xffffffffu, value, from_lane); }
GPU_FN int shuffle(int value, int from_lane) { return __shfl_sync(0xffffffffu, value, from_lane); }
GPU_FN uint32_t shuffle(uint32_t value, int from_lane) { return __shfl_sync(0xffffffffu, value, from_lane); }
GPU_FN uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

// --- Tensor cores. Fragments as the PTX ISA lays them out; d += a * b.

/// m16n8k16, f16 inputs, f32 sums.
GPU_FN void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// m16n8k16, bf16 inputs, f32 sums.
GPU_FN void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// m16n8k32, s8 inputs, s32 sums.
GPU_FN void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GPU_FN uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8, 16-byte aligned.
GPU_FN void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
GPU_FN void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
/// Two matrices: addresses of lanes 0 to 15 count, but all lanes give valid ones.
GPU_FN void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}
GPU_FN void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}

// --- Asynchronous copies from global to shared memory

/// 16 bytes, both sides 16-byte aligned; zeros where not `valid` (global is not read then).
GPU_FN void cp_async16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
/// 4 bytes, both sides aligned to 4.
GPU_FN void cp_async4(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 4 : 0)
               : "memory");
}
GPU_FN void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most `Pending` of this thread's youngest groups are under way; others see the bytes after a barrier.
template <int Pending>
GPU_FN void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// --- Conversions, rounded to nearest even

GPU_FN uint16_t to_f16(float x) {
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
GPU_FN float from_f16(uint16_t h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}
GPU_FN uint32_t pack_f16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
GPU_FN uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
GPU_FN uint16_t to_bf16(float x) { return static_cast<uint16_t>(pack_bf16(x, 0.0f)); }
GPU_FN float from_bf16(uint16_t h) { return __uint_as_float(static_cast<uint32_t>(h) << 16); }
/// Nearest integer, ties to even.
GPU_FN int round_to_int(float x) { return __float2int_rn(x); }

// --- Pairs of f16 in a register

GPU_FN uint32_t hfma2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
GPU_FN uint32_t hsub2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
GPU_FN uint32_t hmul2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

// --- Bits

GPU_FN uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) { return __byte_perm(a, b, selector); }
/// (a & b) | c
GPU_FN uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
GPU_FN int popcount(uint32_t x) { return __popc(x); }
GPU_FN uint32_t float_bits(float x) { return __float_as_uint(x); }
GPU_FN float bits_float(uint32_t x) { return __uint_as_float(x); }

// --- Arithmetic. Files are compiled with -fmad=false: a fused product is one that says so.

GPU_FN float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
GPU_FN float max(float a, float b) { return fmaxf(a, b); }
GPU_FN float min(float a, float b) { return fminf(a, b); }
GPU_FN int max(int a, int b) { return a > b ? a : b; }
GPU_FN int min(int a, int b) { return a < b ? a : b; }
GPU_FN float abs(float x) { return fabsf(x); }
/// Correctly rounded.
GPU_FN float divide(float a, float b) { return __fdiv_rn(a, b); }
GPU_FN float square_root(float x) { return __fsqrt_rn(x); }
/// 2^x by the special function unit: at most 2 units in the last place off, subnormals as zeros; exp2(-inf) = 0.
GPU_FN float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GPU_FN double exp(double x) { return ::exp(x); }
GPU_FN double log(double x) { return ::log(x); }

static constexpr float kInfinity = __builtin_huge_valf();

}  // namespace gpu
