#pragma once

#include <cstdint>

#include "kernels/cpu/activation_block.h"
#include "kernels/cpu/packed_format.h"

// The table of kernels that each ISA fills. Plain pointers and structs only: the ISA files share nothing else
// with the rest of the program. Every function gives the same bits on every ISA that has it, but for NaN, which may
// be any NaN, and for a row whatever the other rows are. Where sums run over an unpacked vector, element i goes to lane
// i % 16 in ascending order and the lanes are added as i + (i + 8), then 4, 2, 1.

namespace tokenmill::cpu {

/// Lines of memory that will be read soon. Products ask for some of them before each of their tiles, no more than a
/// core waits for at once, so that they come while it computes. Kernels that do not are right as well.
struct SoonRead {
  static constexpr int kMost = 512;
  int count = 0;
  int next = 0;
  const void* lines[kMost];
};

/// Product of rows with one pair of strips. Blocks of 32 k (single k for plain formats) are added in
/// ascending order by FMA, starting from 0. kBf16K2: of each two k the odd one first; subnormal operands and sums
/// count as zeros.
struct MatmulArgs {
  const uint8_t* weights;
  int64_t k;
  // [rows], in the format's form; the others are null.
  const ActivationBlock* blocks;
  const float* floats;
  const uint16_t* bf16;
  int64_t stride;  // from row to row, in elements of that form
  int rows;
  float* out;  // [rows][32]
  bool prefetch;  // ask for the weights ahead of the first rows
  bool resume;  // go on from the sums in `out`; only within kernels
  SoonRead* soon;  // or null
};
using MatmulFunction = void (*)(const MatmulArgs& args);

/// What the elements of keys and values are: as pages hold them, or widened for many queries.
enum class KvElement : uint8_t { kHalf, kInt8, kFloat };

/// out[q][t] = scales[t] * sum_d queries[q][d] * keys[d][t] for the 16 tokens of a page.
struct ScoreArgs {
  const float* queries;
  int64_t query_stride;
  int query_count;
  const void* keys;  // [dim][16]
  const float* scales;  // [16], or null for 1
  int dim;
  const void* prefetch;  // keys of a later page, or null
  float* scores;
  int64_t score_stride;
};

/// out[q][d] += sum_t (weights[q][t] * scales[t]) * values[t][d] for the tokens begin … end - 1 of a page, ascending.
struct WeighArgs {
  const float* weights;
  int64_t weight_stride;
  int query_count;
  const void* values;  // [16][dim]
  const float* scales;  // [16], or null for 1
  int dim;  // a multiple of 16
  const void* prefetch;
  int begin, end;
  float* out;
  int64_t out_stride;
};

/// What the elements of an adapter's factors are.
enum class FactorType : uint8_t { kF32, kF16, kBf16 };

/// Ranks of a factor A whose elements of 16 columns lie beside each other.
inline constexpr int kRankGroup = 4;

/// out[r][j] = scales[r] * sum_k factor[j][k] * rows[r][k], a sum over a vector.
struct ShrinkArgs {
  const void*
      factor;  // group by group of kRankGroup ranks, the last one of what is left: [columns / 16][ranks][16]
  int ranks;
  int64_t cols;
  const float* const* rows;  // [count]
  const float* scales;  // [count]
  float* const* out;  // [count]
  int count;
};

/// out[r][c] += sum_j rows[r][j] * factor[j][c] for the 32 columns of a pair of strips, by FMA in ascending order.
struct ExpandArgs {
  const void* factor;  // [rank][32]
  int rank;
  const float* const* rows;  // [count]
  float* const* out;  // [count]
  int count;
};

/// Of attention over part of the positions: the largest score, and the sum of exp(score - largest).
struct SoftmaxState {
  float max;
  float sum;
};

struct LogitStats {
  float max;
  double sum;  // of exp(logit - max)
  bool finite;
};

struct CpuKernels {
  const char* name;
  /// By PackedFormat; null where there is a better one for the type.
  MatmulFunction matmul[kPackedFormats];
  /// By PackedFormat: rows of a whole tile of matmul.
  int tile_rows[kPackedFormats];

  /// One block per 32 values; n is a multiple of 32.
  void (*quantize)(const float* x, int n, ActivationBlock* out);
  /// out = x * weight / sqrt(mean(x^2) + epsilon). out may be x.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, float* out, int n);
  /// x += y
  void (*add)(float* x, const float* y, int n);
  /// Copies `columns` of each [32] row of a tile to out, plus bias where there is one; added to out with
  /// `add`.
  void (*store_tile)(const float* tile, int rows, int columns, const float* bias, bool add, float* out,
                     int64_t out_stride);
  /// out = activation(gate) * up, by Activation. out may be gate or up.
  void (*gated[2])(const float* gate, const float* up, float* out, int n);
  /// Rotates the first elements of a head in place, by RopeStyle, for `pairs` pairs. Halves: a = cos, b =
  /// sin, one a pair. Interleaved: each pair's cos twice in a; -sin, sin in b.
  void (*rope[2])(float* x, const float* a, const float* b, int pairs);
  /// To f16, to nearest even; finite numbers beyond its range become ±65504.
  void (*to_half)(const float* x, uint16_t* out, int n);
  /// To bf16, to nearest even; subnormals become zeros. Null where no product takes bf16.
  void (*to_bf16)(const float* x, uint16_t* out, int n);
  /// x ≈ the result * out; out is 0 and the result NaN where an element is not finite.
  float (*to_int8)(const float* x, int8_t* out, int n);
  /// By KvElement (but kFloat), without scales; n is a multiple of 16.
  void (*widen[2])(const void* x, float* out, int n);

  void (*score[3])(const ScoreArgs& args);  // by KvElement
  /// scores[begin … end) become exp(score - max), after softcap where it is not 0; the rest of the 16-token
  /// groups that they touch becomes 0.
  SoftmaxState (*softmax)(float* scores, int begin, int end, float softcap);
  void (*weigh[3])(const WeighArgs& args);  // by KvElement
  /// Merges the next segment into an accumulated one.
  void (*merge)(float* out, SoftmaxState* state, const float* next, const SoftmaxState* next_state, int n);
  /// x *= factor
  void (*scale)(float* x, float factor, int n);

  void (*shrink[3])(const ShrinkArgs& args);  // by FactorType
  void (*expand[3])(const ExpandArgs& args);

  /// Applies softcap where it is not 0.
  LogitStats (*logit_stats)(float* logits, int n, float softcap);
  /// Indices of elements >= threshold, ascending; returns how many.
  int (*collect)(const float* x, int n, float threshold, int32_t* out);
};

}  // namespace tokenmill::cpu
