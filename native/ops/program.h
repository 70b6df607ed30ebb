#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/dtype.h"

// A model's forward pass, recorded once as a list of coarse operations over handles. A backend compiles the
// whole program (native/ops/backend.h) and runs it once a step; it may fuse neighbours as it likes as long as
// results keep the invariance of ops/step.h. All activations are f32 with shape [rows, width].

namespace tokenmill {

using ValueId = int32_t;  // index into Program::values
using WeightId = int32_t;  // index into Program::weights
inline constexpr int32_t kNone = -1;

/// Tokens in one page of the KV cache.
inline constexpr int kPageTokens = 16;
/// Attention is computed per segment of so many absolute positions, and segments merge in ascending order.
inline constexpr int kSegmentTokens = 256;
/// Sequences keep one block table per KV group.
inline constexpr int kMaxKvGroups = 2;

enum class Activation : uint8_t { kSilu, kGeluTanh };

/// Which elements of a head rotate together: (2i, 2i+1), or (i, i + dims/2).
enum class RopeStyle : uint8_t { kInterleaved, kHalves };

/// RMS norm: x * weight / sqrt(mean(x^2) + epsilon). Absent when weight is kNone.
struct Norm {
  WeightId weight = kNone;  // [width] f32
  float epsilon = 0;
};

/// out[r, o] = sum_k in[r, k] * matrix[o, k] (+ bias[o])
struct Projection {
  WeightId matrix = kNone;  // rows = output features, cols = input features
  WeightId bias = kNone;  // [rows]
  ValueId out = kNone;
};

/// out[r] = table[token[r]] * scale
struct Embed {
  WeightId table = kNone;
  float scale = 1;
  ValueId out = kNone;
};

/// Norm of the input, shared by several matrices.
struct NormProject {
  ValueId in = kNone;
  Norm norm;
  std::vector<Projection> projections;
};

/// Per head: q and k norm where present, rotation of the first RopeTable::dims elements of q and k at the row's
/// position; q in place; k and v to the row's page.
struct RopeWriteKv {
  ValueId q = kNone;  // [rows, query_heads * head_dim]
  ValueId k = kNone;  // [rows, kv_heads * head_dim]
  ValueId v = kNone;
  Norm q_norm;  // [head_dim], shared by the heads
  Norm k_norm;
  int rope = 0;  // index into Program::ropes
  int kv_layer = 0;  // index into Program::kv_layers
};

/// Causal attention of each row over its sequence's pages, its own position included. With a window w, a row
/// at position p sees positions p - w + 1 … p. Scores are scaled, then capped: softcap * tanh(s / softcap).
struct PagedAttention {
  ValueId q = kNone;
  ValueId out = kNone;  // [rows, query_heads * head_dim]
  int kv_layer = 0;
  float scale = 1;
  float softcap = 0;  // 0: none
};

/// residual += post_norm(matrix * in + bias)
struct ProjectAdd {
  ValueId in = kNone;
  WeightId matrix = kNone;
  WeightId bias = kNone;
  Norm post_norm;
  ValueId residual = kNone;
};

/// out = activation(gate * norm(in)) * (up * norm(in)), elementwise product
struct GatedMlp {
  ValueId in = kNone;
  Norm norm;
  WeightId gate = kNone;
  WeightId up = kNone;
  Activation activation = Activation::kSilu;
  ValueId out = kNone;
};

/// Logits of the rows that StepInput::head names: matrix * norm(in), then softcap.
struct Head {
  ValueId in = kNone;
  Norm norm;
  WeightId matrix = kNone;
  float softcap = 0;
};

using Op = std::variant<Embed, NormProject, RopeWriteKv, PagedAttention, ProjectAdd, GatedMlp, Head>;

/// A tensor of the model's file, as stored there. Vectors have rows = 1.
struct WeightDesc {
  std::string name;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

struct ValueDesc {
  int width = 0;
};

/// Rotary embedding: the angle of pair i at position p is p * frequency[i]; sine and cosine times `magnitude`.
struct RopeTable {
  RopeStyle style = RopeStyle::kInterleaved;
  int dims = 0;  // elements that rotate, even, at most head_dim
  std::vector<double> frequencies;  // dims / 2
  float magnitude = 1;
};

/// Layers whose attention reaches equally far share block tables.
struct KvGroup {
  int window = 0;  // tokens; 0: all
  int layers = 0;
};

struct KvLayer {
  int group = 0;
  int index = 0;  // within its group
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

struct Program {
  std::vector<Op> ops;
  std::vector<WeightDesc> weights;
  std::vector<ValueDesc> values;
  std::vector<RopeTable> ropes;
  std::vector<KvGroup> kv_groups;
  std::vector<KvLayer> kv_layers;
  int vocabulary = 0;
};

}  // namespace tokenmill
