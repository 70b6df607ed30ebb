// The attention kernels over Vec. Included by the vector_*.cc only, after vector_impl.h
// and kQueryTile: the most queries that share one load of keys or values.

namespace tokenmill::cpu {
namespace {

TM_INLINE Vec LoadKv(const uint16_t* p) { return LoadF16(p); }
TM_INLINE Vec LoadKv(const int8_t* p) { return LoadInt8(p); }
TM_INLINE Vec LoadKv(const float* p) { return Load(p); }

// Of 16 elements.
template <class T>
constexpr int kLineBytes = 16 * sizeof(T);

// Every score is one chain of FMA over ascending d, and then scaled.
template <int kQueries, class T>
void ScoreTile(const ScoreArgs& args, int first) {
  const float* queries = args.queries + first * args.query_stride;
  const T* keys = static_cast<const T*>(args.keys);
  const char* prefetch = static_cast<const char*>(args.prefetch);
  Vec sums[kQueries];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) sums[q] = Zero();
  for (int d = 0; d < args.dim; ++d) {
    const Vec key = LoadKv(keys + 16 * d);
    if (prefetch != nullptr) Prefetch(prefetch + kLineBytes<T> * d);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q] = Fma(Set(queries[q * args.query_stride + d]), key, sums[q]);
  }
  if (args.scales != nullptr) {
    const Vec scales = Load(args.scales);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q] = Mul(sums[q], scales);
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) Store(args.scores + (first + q) * args.score_stride, sums[q]);
}

template <int kQueries, class T>
void ScoreRest(const ScoreArgs& args, int first) {
  if constexpr (kQueries > 0) {
    if (args.query_count - first == kQueries) return ScoreTile<kQueries, T>(args, first);
    ScoreRest<kQueries - 1, T>(args, first);
  }
}

template <class T>
void Score(const ScoreArgs& args) {
  int first = 0;
  for (; first + kQueryTile <= args.query_count; first += kQueryTile) ScoreTile<kQueryTile, T>(args, first);
  ScoreRest<kQueryTile - 1, T>(args, first);
}

// Every sum is one chain of FMA over ascending tokens, of scaled weights.
template <int kQueries, class T>
void WeighTile(const WeighArgs& args, int first) {
  const float* weights = args.weights + first * args.weight_stride;
  int64_t weight_stride = args.weight_stride;
  float scaled[16 * kQueries];
  if (args.scales != nullptr) {
    const Vec scales = Load(args.scales);
    for (int q = 0; q < kQueries; ++q) Store(scaled + 16 * q, Mul(Load(weights + q * weight_stride), scales));
    weights = scaled;
    weight_stride = 16;
  }
  const T* values = static_cast<const T*>(args.values);
  const char* prefetch = static_cast<const char*>(args.prefetch);
  for (int d = 0; d < args.dim; d += 16) {
    float* out = args.out + first * args.out_stride + d;
    Vec sums[kQueries];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q] = Load(out + q * args.out_stride);
    for (int t = args.begin; t < args.end; ++t) {
      const Vec value = LoadKv(values + t * args.dim + d);
      if (prefetch != nullptr) Prefetch(prefetch + kLineBytes<T> * (t + d));
#pragma GCC unroll 8
      for (int q = 0; q < kQueries; ++q) sums[q] = Fma(Set(weights[q * weight_stride + t]), value, sums[q]);
    }
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) Store(out + q * args.out_stride, sums[q]);
  }
}

template <int kQueries, class T>
void WeighRest(const WeighArgs& args, int first) {
  if constexpr (kQueries > 0) {
    if (args.query_count - first == kQueries) return WeighTile<kQueries, T>(args, first);
    WeighRest<kQueries - 1, T>(args, first);
  }
}

template <class T>
void Weigh(const WeighArgs& args) {
  int first = 0;
  for (; first + kQueryTile <= args.query_count; first += kQueryTile) WeighTile<kQueryTile, T>(args, first);
  WeighRest<kQueryTile - 1, T>(args, first);
}

template <class T>
void Widen(const void* x, float* out, int n) {
  const T* elements = static_cast<const T*>(x);
  for (int i = 0; i < n; i += 16) Store(out + i, LoadKv(elements + i));
}

SoftmaxState Softmax(float* scores, int begin, int end, float softcap) {
  const float lowest = -__builtin_inff();
  const int first = begin / 16 * 16, last = (end + 15) / 16 * 16;
  for (int i = first; i < begin; ++i) scores[i] = lowest;
  for (int i = end; i < last; ++i) scores[i] = lowest;
  Vec max = Set(lowest);
  if (softcap != 0) {
    const Vec cap = Set(softcap);
    for (int i = first; i < last; i += 16) Store(scores + i, SoftCap(Load(scores + i), cap));
    // Capped, what was -infinity is not.
    for (int i = first; i < begin; ++i) scores[i] = lowest;
    for (int i = end; i < last; ++i) scores[i] = lowest;
  }
  for (int i = first; i < last; i += 16) max = Max(max, Load(scores + i));
  const float largest = MaxLanes(max);
  const Vec shift = Set(largest);
  Vec sum = Zero();
  for (int i = first; i < last; i += 16) {
    const Vec weight = Exp(Sub(Load(scores + i), shift));
    Store(scores + i, weight);
    sum = Add(sum, weight);
  }
  return {largest, AddLanes(sum)};
}

// With m the larger maximum: out = out * exp(max - m) + next * exp(next max - m).
void Merge(float* out, SoftmaxState* state, const float* next, const SoftmaxState* next_state, int n) {
  const float max = state->max > next_state->max ? state->max : next_state->max;
  const Vec kept = Exp(Set(state->max - max)), added = Exp(Set(next_state->max - max));
  for (int i = 0; i < n; i += 16) Store(out + i, Fma(Load(next + i), added, Mul(Load(out + i), kept)));
  float sum[16];
  Store(sum, Fma(Set(next_state->sum), added, Mul(Set(state->sum), kept)));
  *state = {max, sum[0]};
}

void SetVectorKernels(CpuKernels* kernels) {
  kernels->quantize = Quantize;
  kernels->rms_norm = RmsNorm;
  kernels->add = AddTo;
  kernels->store_tile = StoreTile;
  kernels->gated[0] = Gated<Silu>;
  kernels->gated[1] = Gated<GeluTanh>;
  kernels->rope[0] = RopeInterleaved;
  kernels->rope[1] = RopeHalves;
  kernels->to_half = ToHalf;
  kernels->to_int8 = ToInt8;
  kernels->widen[0] = Widen<uint16_t>;
  kernels->widen[1] = Widen<int8_t>;
  kernels->score[0] = Score<uint16_t>;
  kernels->score[1] = Score<int8_t>;
  kernels->score[2] = Score<float>;
  kernels->softmax = Softmax;
  kernels->weigh[0] = Weigh<uint16_t>;
  kernels->weigh[1] = Weigh<int8_t>;
  kernels->weigh[2] = Weigh<float>;
  kernels->merge = Merge;
  kernels->scale = Scale;
  kernels->logit_stats = ComputeLogitStats;
  kernels->collect = Collect;
}

}  // namespace
}  // namespace tokenmill::cpu
