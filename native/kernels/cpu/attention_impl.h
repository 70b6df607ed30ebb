// The attention kernels over Vec. Included by the vector_*.cc only, after vector_impl.h
// and kQueryTile: the most queries that share one load of keys or values.

namespace tokenmill::cpu {
namespace {

TM_INLINE Vec LoadKv(const uint16_t* p) { return LoadF16(p); }
TM_INLINE Vec LoadKv(const float* p) { return Load(p); }

// Every score is one chain of FMA over ascending d.
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
    if (prefetch != nullptr) Prefetch(prefetch + 32 * d);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q] = Fma(Set(queries[q * args.query_stride + d]), key, sums[q]);
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

// Every sum is one chain of FMA over ascending tokens.
template <int kQueries, class T>
void WeighTile(const WeighArgs& args, int first) {
  const float* weights = args.weights + first * args.weight_stride;
  const T* values = static_cast<const T*>(args.values);
  const char* prefetch = static_cast<const char*>(args.prefetch);
  for (int d = 0; d < args.dim; d += 16) {
    float* out = args.out + first * args.out_stride + d;
    Vec sums[kQueries];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q] = Load(out + q * args.out_stride);
    for (int t = args.begin; t < args.end; ++t) {
      const Vec value = LoadKv(values + t * args.dim + d);
      if (prefetch != nullptr) Prefetch(prefetch + 32 * (t + d));
#pragma GCC unroll 8
      for (int q = 0; q < kQueries; ++q)
        sums[q] = Fma(Set(weights[q * args.weight_stride + t]), value, sums[q]);
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
  kernels->from_half = FromHalf;
  kernels->score_half = Score<uint16_t>;
  kernels->score_float = Score<float>;
  kernels->softmax = Softmax;
  kernels->weigh_half = Weigh<uint16_t>;
  kernels->weigh_float = Weigh<float>;
  kernels->merge = Merge;
  kernels->scale = Scale;
  kernels->logit_stats = ComputeLogitStats;
  kernels->collect = Collect;
}

}  // namespace
}  // namespace tokenmill::cpu
