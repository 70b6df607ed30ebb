#pragma once

// gpu.h's primitives for the host's compiler: the same names and signatures as gpu_ptx.h, carried out by the
// emulator. Without TOKENMILL_GPU_EMULATE they are only declared, and kernels are static functions that the
// compiler drops.
//
// To compile and run one kernel's tests (only the kernel, the test and the emulator, not the whole engine):
//
//   node scripts/gpu-test.mjs matmul   # matmul_test.cc of test/native/gpu with matmul.cu
//   GPU_SEEDS=10 node scripts/gpu-test.mjs matmul FILTER
//
// A launch ends at the first fault (race, uninitialized or foreign memory, divergent barrier, …): Launch or
// the next Synchronize returns Internal with what happened, where, and between which threads. emu_driver.h
// says what a run can be asked for.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#define GPU_EMU_INLINE [[maybe_unused]] static inline __attribute__((always_inline))
#define GPU_FN [[maybe_unused]] static inline
#define GPU_UNROLL

#ifdef TOKENMILL_GPU_EMULATE
#define GPU_KERNEL(name, Params, max_threads)                                                       \
  static void name(const Params& p);                                                                \
  static const ::tokenmill::cuda::emu::Registrar name##_registrar(                                  \
      #name, [](const void* params) { name(*static_cast<const Params*>(params)); }, sizeof(Params), \
      max_threads);                                                                                 \
  static void name([[maybe_unused]] const Params& p)
#else
#define GPU_KERNEL(name, Params, max_threads) GPU_FN void name([[maybe_unused]] const Params& p)
#endif
#define DYN_SMEM(Struct, name) Struct& name = *static_cast<Struct*>(::tokenmill::cuda::emu::SharedMemory())

namespace tokenmill::cuda::emu {

/// Makes a kernel known to the emulated drivers by its name.
struct Registrar {
  Registrar(const char* name, void (*run)(const void* params), size_t params_bytes, int threads_max);
};

enum Where { kThread, kThreads, kBlockX, kBlockY, kBlockZ, kGridX, kGridY, kGridZ };
struct F4 {
  float v[4];
};
struct S4 {
  int v[4];
};
struct U4 {
  uint32_t v[4];
};
struct U2 {
  uint32_t v[2];
};

[[gnu::const]] int PlaceOf(Where where);
[[gnu::const]] void* SharedMemory();
void SyncBlock();
void SyncWarp();
void FenceDevice();
uint32_t AtomicAdd(uint32_t* at, uint32_t value);
uint32_t ShuffleXor(uint32_t value, int mask);
uint32_t Shuffle(uint32_t value, int from_lane);
uint32_t Ballot(bool predicate);
F4 MmaF16(F4 d, U4 a, U2 b);
F4 MmaBf16(F4 d, U4 a, U2 b);
S4 MmaS8(S4 d, U4 a, U2 b);
U4 Ldmatrix(const void* shared_row, int matrices, bool trans);
uint32_t SharedAddress(const void* shared);
void CpAsync(void* shared, const void* global, int bytes, bool valid);
void CpAsyncCommit();
void CpAsyncWait(int pending);
[[gnu::const]] uint16_t ToF16(float x);
[[gnu::const]] float FromF16(uint16_t h);
[[gnu::const]] uint16_t ToBf16(float x);
[[gnu::const]] int RoundToInt(float x);
[[gnu::const]] uint16_t HalfFma(uint16_t a, uint16_t b, uint16_t c);
[[gnu::const]] uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector);
[[gnu::const]] float Exp2Approx(float x);

}  // namespace tokenmill::cuda::emu

namespace gpu {

namespace emu = ::tokenmill::cuda::emu;

// --- Where a thread is

GPU_EMU_INLINE int thread() { return emu::PlaceOf(emu::kThread); }
GPU_EMU_INLINE int threads() { return emu::PlaceOf(emu::kThreads); }
GPU_EMU_INLINE int lane() { return emu::PlaceOf(emu::kThread) & 31; }
GPU_EMU_INLINE int warp() { return emu::PlaceOf(emu::kThread) >> 5; }
GPU_EMU_INLINE int block_x() { return emu::PlaceOf(emu::kBlockX); }
GPU_EMU_INLINE int block_y() { return emu::PlaceOf(emu::kBlockY); }
GPU_EMU_INLINE int block_z() { return emu::PlaceOf(emu::kBlockZ); }
GPU_EMU_INLINE int grid_x() { return emu::PlaceOf(emu::kGridX); }
GPU_EMU_INLINE int grid_y() { return emu::PlaceOf(emu::kGridY); }
GPU_EMU_INLINE int grid_z() { return emu::PlaceOf(emu::kGridZ); }

// --- Barriers, fences, atomics

GPU_EMU_INLINE void sync_block() { emu::SyncBlock(); }
GPU_EMU_INLINE void sync_warp() { emu::SyncWarp(); }
GPU_EMU_INLINE void fence_device() { emu::FenceDevice(); }
GPU_EMU_INLINE unsigned atomic_add(unsigned* at, unsigned value) { return emu::AtomicAdd(at, value); }
GPU_EMU_INLINE int atomic_add(int* at, int value) {
  return static_cast<int>(emu::AtomicAdd(reinterpret_cast<uint32_t*>(at), static_cast<uint32_t>(value)));
}

// --- Bits

GPU_EMU_INLINE uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  return emu::BytePermute(a, b, selector);
}
GPU_EMU_INLINE uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | c; }
GPU_EMU_INLINE int popcount(uint32_t x) { return std::popcount(x); }
GPU_EMU_INLINE uint32_t float_bits(float x) { return std::bit_cast<uint32_t>(x); }
GPU_EMU_INLINE float bits_float(uint32_t x) { return std::bit_cast<float>(x); }

// --- Warp collectives

GPU_EMU_INLINE uint32_t shuffle_xor(uint32_t value, int mask) { return emu::ShuffleXor(value, mask); }
GPU_EMU_INLINE int shuffle_xor(int value, int mask) {
  return static_cast<int>(emu::ShuffleXor(static_cast<uint32_t>(value), mask));
}
GPU_EMU_INLINE float shuffle_xor(float value, int mask) {
  return bits_float(emu::ShuffleXor(float_bits(value), mask));
}
GPU_EMU_INLINE uint32_t shuffle(uint32_t value, int from_lane) { return emu::Shuffle(value, from_lane); }
GPU_EMU_INLINE int shuffle(int value, int from_lane) {
  return static_cast<int>(emu::Shuffle(static_cast<uint32_t>(value), from_lane));
}
GPU_EMU_INLINE float shuffle(float value, int from_lane) {
  return bits_float(emu::Shuffle(float_bits(value), from_lane));
}
GPU_EMU_INLINE uint32_t ballot(bool predicate) { return emu::Ballot(predicate); }

// --- Tensor cores

GPU_EMU_INLINE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const emu::F4 r = emu::MmaF16({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, {{b[0], b[1]}});
  d[0] = r.v[0], d[1] = r.v[1], d[2] = r.v[2], d[3] = r.v[3];
}
GPU_EMU_INLINE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const emu::F4 r = emu::MmaBf16({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, {{b[0], b[1]}});
  d[0] = r.v[0], d[1] = r.v[1], d[2] = r.v[2], d[3] = r.v[3];
}
GPU_EMU_INLINE void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const emu::S4 r = emu::MmaS8({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, {{b[0], b[1]}});
  d[0] = r.v[0], d[1] = r.v[1], d[2] = r.v[2], d[3] = r.v[3];
}

GPU_EMU_INLINE uint32_t shared_address(const void* shared) { return emu::SharedAddress(shared); }

GPU_EMU_INLINE void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  const emu::U4 m = emu::Ldmatrix(shared_row, 4, false);
  r[0] = m.v[0], r[1] = m.v[1], r[2] = m.v[2], r[3] = m.v[3];
}
GPU_EMU_INLINE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  const emu::U4 m = emu::Ldmatrix(shared_row, 4, true);
  r[0] = m.v[0], r[1] = m.v[1], r[2] = m.v[2], r[3] = m.v[3];
}
GPU_EMU_INLINE void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  const emu::U4 m = emu::Ldmatrix(shared_row, 2, false);
  r[0] = m.v[0], r[1] = m.v[1];
}
GPU_EMU_INLINE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  const emu::U4 m = emu::Ldmatrix(shared_row, 2, true);
  r[0] = m.v[0], r[1] = m.v[1];
}

// --- Asynchronous copies from global to shared memory

GPU_EMU_INLINE void cp_async16(void* shared, const void* global, bool valid = true) {
  emu::CpAsync(shared, global, 16, valid);
}
GPU_EMU_INLINE void cp_async4(void* shared, const void* global, bool valid = true) {
  emu::CpAsync(shared, global, 4, valid);
}
GPU_EMU_INLINE void cp_async_commit() { emu::CpAsyncCommit(); }
template <int Pending>
GPU_EMU_INLINE void cp_async_wait() {
  emu::CpAsyncWait(Pending);
}

// --- Conversions, rounded to nearest even

GPU_EMU_INLINE uint16_t to_f16(float x) { return emu::ToF16(x); }
GPU_EMU_INLINE float from_f16(uint16_t h) { return emu::FromF16(h); }
GPU_EMU_INLINE uint32_t pack_f16(float low, float high) {
  return emu::ToF16(low) | static_cast<uint32_t>(emu::ToF16(high)) << 16;
}
GPU_EMU_INLINE uint32_t pack_bf16(float low, float high) {
  return emu::ToBf16(low) | static_cast<uint32_t>(emu::ToBf16(high)) << 16;
}
GPU_EMU_INLINE uint16_t to_bf16(float x) { return emu::ToBf16(x); }
GPU_EMU_INLINE float from_bf16(uint16_t h) { return bits_float(static_cast<uint32_t>(h) << 16); }
GPU_EMU_INLINE int round_to_int(float x) { return emu::RoundToInt(x); }

// --- Pairs of f16 in a register

GPU_EMU_INLINE uint32_t hfma2(uint32_t a, uint32_t b, uint32_t c) {
  const auto half = [](uint32_t x, int i) { return static_cast<uint16_t>(x >> (16 * i)); };
  return emu::HalfFma(half(a, 0), half(b, 0), half(c, 0)) |
         static_cast<uint32_t>(emu::HalfFma(half(a, 1), half(b, 1), half(c, 1))) << 16;
}
GPU_EMU_INLINE uint32_t hsub2(uint32_t a, uint32_t b) { return hfma2(b, 0xbc00bc00u, a); }
GPU_EMU_INLINE uint32_t hmul2(uint32_t a, uint32_t b) { return hfma2(a, b, 0x80008000u); }

// --- Arithmetic

GPU_EMU_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
/// A number beats NaN, signaling ones too, and +0 is above -0.
GPU_EMU_INLINE float max(float a, float b) {
  if (a == b) return bits_float(float_bits(a) & float_bits(b));
  return a > b || b != b ? a : b;
}
GPU_EMU_INLINE float min(float a, float b) {
  if (a == b) return bits_float(float_bits(a) | float_bits(b));
  return a < b || b != b ? a : b;
}
GPU_EMU_INLINE int max(int a, int b) { return a > b ? a : b; }
GPU_EMU_INLINE int min(int a, int b) { return a < b ? a : b; }
GPU_EMU_INLINE float abs(float x) { return __builtin_fabsf(x); }
GPU_EMU_INLINE float divide(float a, float b) { return a / b; }
GPU_EMU_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
GPU_EMU_INLINE float exp2_approx(float x) { return emu::Exp2Approx(x); }
GPU_EMU_INLINE double exp(double x) { return ::exp(x); }
GPU_EMU_INLINE double log(double x) { return ::log(x); }

static constexpr float kInfinity = __builtin_huge_valf();

}  // namespace gpu
