// The row kernels over Vec. Included by the vector_*.cc only, after their simd header.

#include "kernels/cpu/kernels.h"

namespace tokenmill::cpu {
namespace {

// exp within 1.5 ulp: 2^n * (1 + r + r^2 * q(r)), |r| <= ln(2) / 2. Above 88.3 as at 88.3; below -87.3 zero.
TM_INLINE Vec Exp(Vec x) {
  const Vec lowest = Set(-87.3f);
  const Vec held = Min(Set(88.3f), Max(lowest, x));
  const Ints n = Round(Mul(held, Set(0x1.715476p+0f)));
  const Vec whole = ToFloat(n);
  Vec r = Fnma(whole, Set(0x1.62e4p-1f), held);
  r = Fnma(whole, Set(0x1.7f7d1cp-20f), r);
  Vec q = Fma(Set(0x1.6a23dp-10f), r, Set(0x1.123a2p-7f));
  q = Fma(q, r, Set(0x1.5558f2p-5f));
  q = Fma(q, r, Set(0x1.555492p-3f));
  q = Fma(q, r, Set(0x1.fffffcp-2f));
  const Vec tail = Fma(Mul(r, r), q, r);
  const Vec power = PowerOfTwo(n);
  return ZeroWhereLess(x, lowest, Fma(tail, power, power));
}

TM_INLINE Vec Sigmoid(Vec x) {
  const Vec one = Set(1);
  return Div(one, Add(one, Exp(Sub(Zero(), x))));
}

TM_INLINE Vec Tanh(Vec x) {
  const Vec one = Set(1);
  const Vec twice = Exp(Add(x, x));
  return Sub(one, Div(Set(2), Add(one, twice)));
}

TM_INLINE Vec SoftCap(Vec x, Vec cap) { return Mul(cap, Tanh(Div(x, cap))); }

// How values become symmetric int8.
struct Step {
  float scale;  // of a level; NaN unless finite
  float inverse;
  bool finite;
};

// `bits` are those of the largest magnitude.
TM_INLINE Step StepOf(uint32_t bits) {
  if (bits >= 0x7f800000u) return {__builtin_nanf(""), 0, false};
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  if (largest < 1e-36f) return {0, 0, true};  // 127 / largest might not be finite
  return {largest / 127.0f, 127.0f / largest, true};
}

void Quantize(const float* x, int n, ActivationBlock* out) {
  for (int i = 0; i < n; i += 32, ++out) {
    const Vec first = Load(x + i), second = Load(x + i + 16);
    const Step step = StepOf(MaxBits(MaxOfBits(Abs(first), Abs(second))));
    const float scale = step.scale;
    const Ints low = Round(step.finite ? Mul(first, Set(step.inverse)) : Zero());
    const Ints high = Round(step.finite ? Mul(second, Set(step.inverse)) : Zero());
    StoreInt8(out->quants, low);
    StoreInt8(out->quants + 16, high);
    out->first_half = AddLanes(low);
    out->sum = out->first_half + AddLanes(high);
    out->scale = scale;
    out->scaled_sum = scale * static_cast<float>(out->sum);
  }
}

void RmsNorm(const float* x, const float* weight, float epsilon, float* out, int n) {
  Vec sum = Zero();
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    const Vec v = Load(x + i);
    sum = Fma(v, v, sum);
  }
  if (i < n) {
    const Vec v = LoadFirst(x + i, n - i);
    sum = Fma(v, v, sum);
  }
  const float mean = AddLanes(sum) / static_cast<float>(n);
  const Vec scale = Div(Set(1), Sqrt(Set(mean + epsilon)));
  for (i = 0; i + 16 <= n; i += 16) Store(out + i, Mul(Mul(Load(x + i), scale), Load(weight + i)));
  if (i < n) {
    const int rest = n - i;
    StoreFirst(out + i, Mul(Mul(LoadFirst(x + i, rest), scale), LoadFirst(weight + i, rest)), rest);
  }
}

void AddTo(float* x, const float* y, int n) {
  int i = 0;
  for (; i + 16 <= n; i += 16) Store(x + i, Add(Load(x + i), Load(y + i)));
  if (i < n) StoreFirst(x + i, Add(LoadFirst(x + i, n - i), LoadFirst(y + i, n - i)), n - i);
}

void Scale(float* x, float factor, int n) {
  const Vec v = Set(factor);
  int i = 0;
  for (; i + 16 <= n; i += 16) Store(x + i, Mul(Load(x + i), v));
  if (i < n) StoreFirst(x + i, Mul(LoadFirst(x + i, n - i), v), n - i);
}

void StoreTile(const float* tile, int rows, int columns, const float* bias, bool add, float* out,
               int64_t out_stride) {
  for (int row = 0; row < rows; ++row, tile += kPairColumns, out += out_stride) {
    for (int begin = 0; begin < columns; begin += 16) {
      const int n = columns - begin < 16 ? columns - begin : 16;
      Vec v = Load(tile + begin);
      if (bias != nullptr) v = Add(v, LoadFirst(bias + begin, n));
      if (add) v = Add(LoadFirst(out + begin, n), v);
      StoreFirst(out + begin, v, n);
    }
  }
}

struct Silu {
  TM_INLINE Vec Apply(Vec x) { return Mul(x, Sigmoid(x)); }
};

// x * (1 + tanh(u)) / 2 = x * sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
struct GeluTanh {
  TM_INLINE Vec Apply(Vec x) {
    const Vec cube = Mul(Mul(x, x), x);
    const Vec inner = Fma(cube, Set(0.044715f), x);
    return Mul(x, Sigmoid(Mul(inner, Set(1.59576912f))));
  }
};

template <class Activation>
void Gated(const float* gate, const float* up, float* out, int n) {
  int i = 0;
  for (; i + 16 <= n; i += 16) Store(out + i, Mul(Activation::Apply(Load(gate + i)), Load(up + i)));
  if (i < n) {
    const int rest = n - i;
    StoreFirst(out + i, Mul(Activation::Apply(LoadFirst(gate + i, rest)), LoadFirst(up + i, rest)), rest);
  }
}

void RopeInterleaved(float* x, const float* a, const float* b, int pairs) {
  for (int i = 0; i < 2 * pairs; i += 16) {
    const int n = 2 * pairs - i < 16 ? 2 * pairs - i : 16;
    const Vec v = LoadFirst(x + i, n);
    StoreFirst(x + i, Fma(SwapPairs(v), LoadFirst(b + i, n), Mul(v, LoadFirst(a + i, n))), n);
  }
}

void RopeHalves(float* x, const float* a, const float* b, int pairs) {
  for (int i = 0; i < pairs; i += 16) {
    const int n = pairs - i < 16 ? pairs - i : 16;
    const Vec low = LoadFirst(x + i, n), high = LoadFirst(x + pairs + i, n);
    const Vec cosine = LoadFirst(a + i, n), sine = LoadFirst(b + i, n);
    StoreFirst(x + i, Fnma(high, sine, Mul(low, cosine)), n);
    StoreFirst(x + pairs + i, Fma(low, sine, Mul(high, cosine)), n);
  }
}

void ToHalf(const float* x, uint16_t* out, int n) {
  const Vec limit = Set(65504.0f), lowest = Set(-65504.0f);
  for (int i = 0; i < n; i += 16) {
    const int rest = n - i;
    if (rest >= 16) {
      StoreF16(out + i, Min(limit, Max(lowest, Load(x + i))));
    } else {
      uint16_t last[16];
      StoreF16(last, Min(limit, Max(lowest, LoadFirst(x + i, rest))));
      for (int j = 0; j < rest; ++j) out[i + j] = last[j];
    }
  }
}

float ToInt8(const float* x, int8_t* out, int n) {
  Vec largest = Zero();
  for (int i = 0; i < n; i += 16)
    largest = MaxOfBits(largest, Abs(LoadFirst(x + i, n - i < 16 ? n - i : 16)));
  const Step step = StepOf(MaxBits(largest));
  for (int i = 0; i < n; i += 16) {
    const int rest = n - i < 16 ? n - i : 16;
    const Vec levels = step.finite ? Mul(LoadFirst(x + i, rest), Set(step.inverse)) : Zero();
    int8_t last[16];
    StoreInt8(last, Round(levels));
    __builtin_memcpy(out + i, last, static_cast<size_t>(rest));
  }
  return step.scale;
}

LogitStats ComputeLogitStats(float* logits, int n, float softcap) {
  const Vec lowest = Set(-__builtin_inff());
  const Vec cap = Set(softcap);
  Vec max = lowest, difference = Zero();  // x - x is 0 unless x is NaN or infinite
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    Vec v = Load(logits + i);
    difference = Add(difference, Sub(v, v));
    if (softcap != 0) Store(logits + i, v = SoftCap(v, cap));
    max = Max(max, v);
  }
  float largest = MaxLanes(max);
  for (; i < n; ++i) {
    Vec v = LoadFirst(logits + i, 1);
    difference = Add(difference, Sub(v, v));
    if (softcap != 0) StoreFirst(logits + i, v = SoftCap(v, cap), 1);
    if (logits[i] > largest) largest = logits[i];
  }
  Doubles sum = ZeroDoubles();
  const Vec shift = Set(largest);
  for (i = 0; i + 16 <= n; i += 16) sum = AddTo(sum, Exp(Sub(Load(logits + i), shift)));
  if (i < n) {
    float last[16];
    Store(last, Exp(Sub(LoadFirst(logits + i, n - i), shift)));
    sum = AddTo(sum, LoadFirst(last, n - i));
  }
  return {largest, AddLanes(sum), AddLanes(difference) == 0};
}

int Collect(const float* x, int n, float threshold, int32_t* out) {
  const Vec limit = Set(threshold);
  int count = 0, i = 0;
  for (; i + 16 <= n; i += 16) {
    for (uint32_t bits = AtLeast(Load(x + i), limit); bits != 0; bits &= bits - 1) {
      out[count++] = i + __builtin_ctz(bits);
    }
  }
  for (; i < n; ++i) {
    if (x[i] >= threshold) out[count++] = i;
  }
  return count;
}

}  // namespace
}  // namespace tokenmill::cpu
