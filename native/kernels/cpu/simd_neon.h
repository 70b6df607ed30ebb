#pragma once

#include <arm_neon.h>

#include <cstdint>

// Vec: 16 floats, here as four registers; the operations are those of simd_avx2.h, bit for bit but for the
// payloads of NaN. Only for the *_neon*.cc files; everything has internal linkage.

namespace tokenmill::cpu {
namespace {

#define TM_INLINE static inline __attribute__((always_inline))

struct Vec {
  float32x4_t a, b, c, d;  // lanes 0 …, 4 …, 8 …, 12 …
};
// 16 int32.
struct Ints {
  int32x4_t a, b, c, d;
};

// One operation on each of the four registers.
template <class To, class From, class Operation>
TM_INLINE To Each(From x, Operation operation) {
  return {operation(x.a), operation(x.b), operation(x.c), operation(x.d)};
}
template <class Operation>
TM_INLINE Vec Each(Vec x, Vec y, Operation operation) {
  return {operation(x.a, y.a), operation(x.b, y.b), operation(x.c, y.c), operation(x.d, y.d)};
}

using Bits = uint8x16_t;
TM_INLINE Bits LoadBits(const uint8_t* p) { return vld1q_u8(p); }
TM_INLINE void StoreBits(uint8_t* p, Bits x) { vst1q_u8(p, x); }
TM_INLINE Bits Either(Bits x, Bits y) { return vorrq_u8(x, y); }
template <int kShift>
TM_INLINE Bits Field(Bits x, uint8_t mask) {
  if constexpr (kShift == 0) return vandq_u8(x, vdupq_n_u8(mask));
  else return vandq_u8(vshrq_n_u8(x, kShift), vdupq_n_u8(mask));
}

TM_INLINE Vec Set(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
TM_INLINE Vec Zero() { return Set(0); }
TM_INLINE Vec Load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
TM_INLINE void Store(float* p, Vec v) {
  vst1q_f32(p, v.a);
  vst1q_f32(p + 4, v.b);
  vst1q_f32(p + 8, v.c);
  vst1q_f32(p + 12, v.d);
}

// The first n lanes; zeros beyond. 1 <= n <= 16.
TM_INLINE Vec LoadFirst(const float* p, int n) {
  if (n == 16) return Load(p);
  float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return Load(lanes);
}
TM_INLINE void StoreFirst(float* p, Vec v, int n) {
  if (n == 16) return Store(p, v);
  float lanes[16];
  Store(lanes, v);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

TM_INLINE float32x4_t LoadF16Quad(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
TM_INLINE Vec LoadF16(const uint16_t* p) {
  return {LoadF16Quad(p), LoadF16Quad(p + 4), LoadF16Quad(p + 8), LoadF16Quad(p + 12)};
}
TM_INLINE Vec LoadInt8(const int8_t* p) {
  const int8x16_t bytes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
          vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))};
}
TM_INLINE Vec LoadBf16(const uint16_t* p) {
  const uint16x8_t low = vld1q_u16(p), high = vld1q_u16(p + 8);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(low), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(low, 16)),
          vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(high), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(high, 16))};
}
TM_INLINE void StoreF16(uint16_t* p, Vec v) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v.a)));
  vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(v.b)));
  vst1_u16(p + 8, vreinterpret_u16_f16(vcvt_f16_f32(v.c)));
  vst1_u16(p + 12, vreinterpret_u16_f16(vcvt_f16_f32(v.d)));
}

TM_INLINE Vec Add(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return vaddq_f32(x, y); });
}
TM_INLINE Vec Sub(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return vsubq_f32(x, y); });
}
TM_INLINE Vec Mul(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return vmulq_f32(x, y); });
}
TM_INLINE Vec Div(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return vdivq_f32(x, y); });
}
TM_INLINE Vec Sqrt(Vec a) {
  return Each<Vec>(a, [](float32x4_t x) { return vsqrtq_f32(x); });
}

// a * b + c and c - a * b, rounded once.
TM_INLINE Vec Fma(Vec a, Vec b, Vec c) {
  return {vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b), vfmaq_f32(c.c, a.c, b.c),
          vfmaq_f32(c.d, a.d, b.d)};
}
TM_INLINE Vec Fnma(Vec a, Vec b, Vec c) {
  return {vfmsq_f32(c.a, a.a, b.a), vfmsq_f32(c.b, a.b, b.b), vfmsq_f32(c.c, a.c, b.c),
          vfmsq_f32(c.d, a.d, b.d)};
}

// b where either is NaN, and where they are equal: fmax would differ for NaN and the signs of zeros.
TM_INLINE float32x4_t MaxQuad(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
TM_INLINE float32x4_t MinQuad(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
TM_INLINE Vec Max(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return MaxQuad(x, y); });
}
TM_INLINE Vec Min(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return MinQuad(x, y); });
}

TM_INLINE Vec Abs(Vec a) {
  return Each<Vec>(a, [](float32x4_t x) { return vabsq_f32(x); });
}

// x, and 0 where x's `tested` is below the limit.
TM_INLINE float32x4_t ZeroQuadWhereLess(float32x4_t tested, float32x4_t limit, float32x4_t x) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(tested, limit)));
}
TM_INLINE Vec ZeroWhereLess(Vec tested, Vec limit, Vec x) {
  return {ZeroQuadWhereLess(tested.a, limit.a, x.a), ZeroQuadWhereLess(tested.b, limit.b, x.b),
          ZeroQuadWhereLess(tested.c, limit.c, x.c), ZeroQuadWhereLess(tested.d, limit.d, x.d)};
}

alignas(16) const uint32_t kLaneBits[4] = {1, 2, 4, 8};

// Bit i: a[i] >= b[i].
TM_INLINE uint32_t AtLeast(Vec a, Vec b) {
  const uint32x4_t lanes = vld1q_u32(kLaneBits);
  uint32x4_t bits = vandq_u32(vcgeq_f32(a.a, b.a), lanes);
  bits = vorrq_u32(bits, vandq_u32(vcgeq_f32(a.b, b.b), vshlq_n_u32(lanes, 4)));
  bits = vorrq_u32(bits, vandq_u32(vcgeq_f32(a.c, b.c), vshlq_n_u32(lanes, 8)));
  bits = vorrq_u32(bits, vandq_u32(vcgeq_f32(a.d, b.d), vshlq_n_u32(lanes, 12)));
  return vaddvq_u32(bits);
}

// Lanes swapped two by two.
TM_INLINE Vec SwapPairs(Vec a) {
  return Each<Vec>(a, [](float32x4_t x) { return vrev64q_f32(x); });
}

TM_INLINE Ints Round(Vec a) {
  return Each<Ints>(a, [](float32x4_t x) { return vcvtnq_s32_f32(x); });
}
TM_INLINE Vec ToFloat(Ints a) {
  return Each<Vec>(a, [](int32x4_t x) { return vcvtq_f32_s32(x); });
}

// 2^n for -126 <= n <= 127.
TM_INLINE Vec PowerOfTwo(Ints n) {
  return Each<Vec>(
      n, [](int32x4_t x) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(x, vdupq_n_s32(127)), 23)); });
}

TM_INLINE int32_t AddLanes(Ints a) { return vaddvq_s32(vaddq_s32(vaddq_s32(a.a, a.b), vaddq_s32(a.c, a.d))); }

// The lanes' bits as integers: NaN is above infinity when signs are clear.
TM_INLINE uint32x4_t MaxOfBitsQuad(float32x4_t x, float32x4_t y) {
  return vmaxq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y));
}
TM_INLINE uint32_t MaxBits(Vec a) {
  return vmaxvq_u32(vmaxq_u32(MaxOfBitsQuad(a.a, a.b), MaxOfBitsQuad(a.c, a.d)));
}
TM_INLINE Vec MaxOfBits(Vec a, Vec b) {
  return Each(a, b, [](float32x4_t x, float32x4_t y) { return vreinterpretq_f32_u32(MaxOfBitsQuad(x, y)); });
}

// Values within int8.
TM_INLINE void StoreInt8(int8_t* p, Ints a) {
  const int16x8_t low = vmovn_high_s32(vmovn_s32(a.a), a.b), high = vmovn_high_s32(vmovn_s32(a.c), a.d);
  vst1q_s8(p, vmovn_high_s16(vmovn_s16(low), high));
}

// Lanes i and i + 8, then 4, 2, 1.
TM_INLINE float AddLanes(Vec a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.a, a.c), vaddq_f32(a.b, a.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
TM_INLINE float MaxLanes(Vec a) {
  const float32x4_t four = MaxQuad(MaxQuad(a.a, a.c), MaxQuad(a.b, a.d));
  const float32x4_t two = MaxQuad(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(MaxQuad(two, vdupq_laneq_f32(two, 1)), 0);
}

// 8 doubles, each the sum of two lanes: i and i + 8.
struct Doubles {
  float64x2_t a, b, c, d;
};
TM_INLINE Doubles ZeroDoubles() {
  const float64x2_t zero = vdupq_n_f64(0);
  return {zero, zero, zero, zero};
}
TM_INLINE float64x2_t AddLow(float32x4_t x, float32x4_t y) {
  return vaddq_f64(vcvt_f64_f32(vget_low_f32(x)), vcvt_f64_f32(vget_low_f32(y)));
}
TM_INLINE float64x2_t AddHigh(float32x4_t x, float32x4_t y) {
  return vaddq_f64(vcvt_high_f64_f32(x), vcvt_high_f64_f32(y));
}
TM_INLINE Doubles AddTo(Doubles sum, Vec a) {
  return {vaddq_f64(sum.a, AddLow(a.a, a.c)), vaddq_f64(sum.b, AddHigh(a.a, a.c)),
          vaddq_f64(sum.c, AddLow(a.b, a.d)), vaddq_f64(sum.d, AddHigh(a.b, a.d))};
}
TM_INLINE double AddLanes(Doubles a) {
  const float64x2_t two = vaddq_f64(vaddq_f64(a.a, a.c), vaddq_f64(a.b, a.d));
  return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}

TM_INLINE void Prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
}  // namespace tokenmill::cpu
