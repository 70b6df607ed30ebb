#pragma once

#include <algorithm>
#include <cmath>

#include "synthetic_weights.h"

// Programs of one operation, several times over: as often as it takes for the weights not to stay in a cache. What
// an operation costs is the time of such a program less that of one without it.

namespace tokenmill::bench {

struct MatrixShape {
  const char* name;
  int rows, cols;  // output and input features
};

// The widest matrices of SmolLM2-135M, Gemma 3 270M and a llama of 1.2 billion parameters.
inline constexpr MatrixShape kMatrixShapes[] = {
    {"smollm2 gate", 1536, 576},     {"smollm2 down", 576, 1536},   {"gemma3 gate", 2048, 640},
    {"gemma3 down", 640, 2048},      {"llama-1b gate", 8192, 2048}, {"llama-1b down", 2048, 8192},
    {"llama-1b output", 2048, 2048},
};

struct AttentionShape {
  const char* name;
  int query_heads, kv_heads, head_dim, layers;
};

inline constexpr AttentionShape kAttentionShapes[] = {
    {"smollm2", 9, 3, 64, 30}, {"gemma3", 4, 1, 256, 18}, {"llama-1b", 32, 8, 64, 16}};

struct HeadShape {
  const char* name;
  int vocabulary, width;
  DType dtype;
};

inline constexpr HeadShape kHeadShapes[] = {{"smollm2", 49152, 576, DType::kQ8_0},
                                            {"gemma3", 262144, 640, DType::kQ8_0},
                                            {"llama-1b", 128256, 2048, DType::kQ6_K}};

/// Only an embedding, of a table of 64 tokens.
inline Program EmptyProgram(int width) {
  Program program;
  program.vocabulary = 64;
  program.values.push_back({width});
  program.ops.push_back(Embed{AddWeight(&program, DType::kF32, 64, width), 1, 0});
  return program;
}

inline int CopiesFor(const MatrixShape& shape, DType dtype) {
  const size_t bytes = RowBytes(dtype, shape.cols) * static_cast<size_t>(shape.rows);
  return static_cast<int>(std::clamp<size_t>((size_t{96} << 20) / bytes, 1, 256));
}

/// Rows are quantized before each product, as they are after every other operation.
inline Program MatmulProgram(const MatrixShape& shape, DType dtype, int copies) {
  Program program = EmptyProgram(shape.cols);
  program.values.push_back({shape.rows});
  for (int i = 0; i < copies; ++i) {
    const WeightId matrix = AddWeight(&program, dtype, shape.rows, shape.cols);
    NormProject op;
    op.in = 0;
    op.projections.push_back({matrix, kNone, 1});
    program.ops.push_back(op);
  }
  return program;
}

/// Norm, quantization and so many of the smallest products; the CPU backend only quantizes for a product.
inline Program NormProgram(int width, int products, int copies) {
  Program program = EmptyProgram(width);
  const Norm norm = {AddWeight(&program, DType::kF32, 1, width), 1e-5f};
  const WeightId matrix = AddWeight(&program, DType::kQ8_0, 32, width);
  NormProject op = {0, norm, {}};
  for (int i = 0; i < products; ++i) {
    program.values.push_back({32});
    op.projections.push_back({matrix, kNone, static_cast<ValueId>(i + 1)});
  }
  for (int i = 0; i < copies; ++i) program.ops.push_back(op);
  return program;
}

/// Attention of `layers` layers over pages that hold zeros.
inline Program AttentionProgram(const AttentionShape& shape, int layers) {
  Program program = EmptyProgram(32);
  const int width = shape.query_heads * shape.head_dim;
  program.values.push_back({width});
  program.values.push_back({width});
  program.kv_groups.push_back({0, layers});
  const float scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  for (int i = 0; i < layers; ++i) {
    program.kv_layers.push_back({0, i, shape.query_heads, shape.kv_heads, shape.head_dim});
    program.ops.push_back(PagedAttention{1, 2, i, scale, 0});
  }
  return program;
}

/// An embedding table that is the head as well.
inline Program HeadProgram(const HeadShape& shape) {
  Program program;
  program.vocabulary = shape.vocabulary;
  program.values.push_back({shape.width});
  const WeightId table = AddWeight(&program, shape.dtype, shape.vocabulary, shape.width);
  const Norm norm = {AddWeight(&program, DType::kF32, 1, shape.width), 1e-5f};
  program.ops.push_back(Embed{table, 1, 0});
  program.ops.push_back(Head{0, norm, table, 0});
  return program;
}

}  // namespace tokenmill::bench
