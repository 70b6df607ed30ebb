#pragma once

// Small random programs of several families, for tests of executors.

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu_test_util.h"
#include "ops/backend.h"
#include "quant/quant.h"

namespace cpu_test {

using namespace tokenmill;

// A small random model: what its program is made of.
struct ModelShape {
  const char* name;
  int width, layers, query_heads, kv_heads, head_dim, ffn, vocabulary;
  DType matrix_type, table_type;
  RopeStyle rope_style;
  int rope_dims;
  bool tied, qk_norm, post_norms, biases;
  int window;  // of every other layer; 0: none
  float softcap;
  Activation activation;
};

class RandomWeights final : public WeightSource {
 public:
  WeightId Add(Program* program, DType dtype, int64_t rows, int64_t cols, float mean, float sigma) {
    const WeightId id = static_cast<WeightId>(program->weights.size());
    const size_t row_bytes = RowBytes(dtype, cols);
    std::vector<uint8_t> data(row_bytes * static_cast<size_t>(rows));
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<float> values =
          RandomFloats(static_cast<size_t>(cols), static_cast<uint32_t>(id * 7919 + row), sigma);
      for (float& value : values) value += mean;
      QuantizeRow(dtype, values.data(), data.data() + row_bytes * static_cast<size_t>(row), cols);
    }
    program->weights.push_back({Format("w%d", id), dtype, rows, cols});
    row_bytes_.push_back(row_bytes);
    data_.push_back(std::move(data));
    return id;
  }

  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
    if (weight == failing_) return Error(Code::kCorruptFile, "unreadable");
    const size_t bytes = row_bytes_[weight];
    std::memcpy(out, data_[weight].data() + bytes * static_cast<size_t>(row),
                bytes * static_cast<size_t>(rows));
    return {};
  }

  WeightId failing_ = kNone;

 private:
  std::vector<size_t> row_bytes_;
  std::vector<std::vector<uint8_t>> data_;
};

struct Model {
  Program program;
  RandomWeights weights;
};

inline void AddLayer(const ModelShape& shape, int layer, Model* model) {
  Program& p = model->program;
  const auto matrix = [&](int rows, int cols) {
    return model->weights.Add(&p, shape.matrix_type, rows, cols, 0,
                              1.0f / std::sqrt(static_cast<float>(cols)));
  };
  const auto norm = [&](int width) {
    return Norm{model->weights.Add(&p, DType::kF32, 1, width, 1, 0.1f), 1e-5f};
  };
  const auto bias = [&](int width) {
    return shape.biases ? model->weights.Add(&p, DType::kF32, 1, width, 0, 0.3f) : kNone;
  };
  const bool windowed = shape.window > 0 && layer % 2 == 0;
  const int group = windowed ? 1 : 0;
  const int q_width = shape.query_heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  p.kv_layers.push_back(
      {group, p.kv_groups[group].layers++, shape.query_heads, shape.kv_heads, shape.head_dim});
  p.ops.push_back(NormProject{0,
                              norm(shape.width),
                              {{matrix(q_width, shape.width), bias(q_width), 1},
                               {matrix(kv_width, shape.width), bias(kv_width), 2},
                               {matrix(kv_width, shape.width), bias(kv_width), 3}}});
  RopeWriteKv rope = {1, 2, 3, {}, {}, windowed ? 1 : 0, layer};
  if (shape.qk_norm) rope.q_norm = norm(shape.head_dim), rope.k_norm = norm(shape.head_dim);
  p.ops.push_back(rope);
  p.ops.push_back(
      PagedAttention{1, 4, layer, 1.0f / std::sqrt(static_cast<float>(shape.head_dim)), shape.softcap});
  const Norm none;
  p.ops.push_back(ProjectAdd{4, matrix(shape.width, q_width), bias(shape.width),
                             shape.post_norms ? norm(shape.width) : none, 0});
  p.ops.push_back(GatedMlp{0, norm(shape.width), matrix(shape.ffn, shape.width),
                           matrix(shape.ffn, shape.width), shape.activation, 5});
  p.ops.push_back(
      ProjectAdd{5, matrix(shape.width, shape.ffn), kNone, shape.post_norms ? norm(shape.width) : none, 0});
}

inline std::unique_ptr<Model> MakeModel(const ModelShape& shape) {
  auto model = std::make_unique<Model>();
  Program& p = model->program;
  p.vocabulary = shape.vocabulary;
  const int q_width = shape.query_heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  for (int width : {shape.width, q_width, kv_width, kv_width, q_width, shape.ffn})
    p.values.push_back({width});
  p.kv_groups.push_back({0, 0});
  if (shape.window > 0) p.kv_groups.push_back({shape.window, 0});
  for (double base : {10000.0, 1000.0}) {
    RopeTable table = {shape.rope_style, shape.rope_dims, {}, 1};
    for (int i = 0; i < shape.rope_dims / 2; ++i)
      table.frequencies.push_back(std::pow(base, -2.0 * i / shape.rope_dims));
    p.ropes.push_back(table);
  }
  const WeightId table = model->weights.Add(&p, shape.table_type, shape.vocabulary, shape.width, 0, 0.5f);
  p.ops.push_back(Embed{table, shape.post_norms ? 1.5f : 1.0f, 0});
  for (int layer = 0; layer < shape.layers; ++layer) AddLayer(shape, layer, model.get());
  const WeightId head =
      shape.tied ? table : model->weights.Add(&p, DType::kQ8_0, shape.vocabulary, shape.width, 0, 0.1f);
  p.ops.push_back(
      Head{0, {model->weights.Add(&p, DType::kF32, 1, shape.width, 1, 0.1f), 1e-5f}, head, shape.softcap});
  return model;
}

inline constexpr ModelShape kLlama = {"llama",
                                      96,
                                      3,
                                      6,
                                      2,
                                      32,
                                      160,
                                      203,
                                      DType::kQ4_1,
                                      DType::kQ8_0,
                                      RopeStyle::kInterleaved,
                                      32,
                                      true,
                                      false,
                                      false,
                                      false,
                                      0,
                                      0,
                                      Activation::kSilu};
inline constexpr ModelShape kGemma = {"gemma",
                                      256,
                                      4,
                                      4,
                                      1,
                                      64,
                                      512,
                                      301,
                                      DType::kQ4_K,
                                      DType::kQ6_K,
                                      RopeStyle::kHalves,
                                      64,
                                      true,
                                      true,
                                      true,
                                      false,
                                      20,
                                      30,
                                      Activation::kGeluTanh};
inline constexpr ModelShape kQwen = {"qwen",
                                     64,
                                     2,
                                     4,
                                     4,
                                     16,
                                     96,
                                     99,
                                     DType::kQ5_1,
                                     DType::kQ4_0,
                                     RopeStyle::kHalves,
                                     16,
                                     false,
                                     true,
                                     false,
                                     true,
                                     0,
                                     0,
                                     Activation::kSilu};
inline constexpr ModelShape kPlain = {"plain",
                                      40,
                                      2,
                                      3,
                                      1,
                                      20,
                                      50,
                                      70,
                                      DType::kF16,
                                      DType::kF32,
                                      RopeStyle::kHalves,
                                      12,
                                      true,
                                      false,
                                      false,
                                      true,
                                      7,
                                      0,
                                      Activation::kSilu};
inline constexpr ModelShape kPhi = {"phi",
                                    160,
                                    2,
                                    2,
                                    2,
                                    80,
                                    256,
                                    130,
                                    DType::kQ5_0,
                                    DType::kQ8_0,
                                    RopeStyle::kHalves,
                                    32,
                                    true,
                                    false,
                                    false,
                                    true,
                                    0,
                                    0,
                                    Activation::kGeluTanh};
inline constexpr ModelShape kWide = {"wide",
                                     512,
                                     2,
                                     8,
                                     1,
                                     64,
                                     256,
                                     640,
                                     DType::kQ6_K,
                                     DType::kQ5_K,
                                     RopeStyle::kInterleaved,
                                     64,
                                     true,
                                     false,
                                     false,
                                     false,
                                     300,
                                     0,
                                     Activation::kSilu};
inline constexpr ModelShape kBf16 = {"bf16",
                                     64,
                                     2,
                                     2,
                                     1,
                                     32,
                                     64,
                                     96,
                                     DType::kBF16,
                                     DType::kBF16,
                                     RopeStyle::kHalves,
                                     32,
                                     true,
                                     false,
                                     true,
                                     false,
                                     0,
                                     50,
                                     Activation::kSilu};

inline constexpr const ModelShape* kShapes[] = {&kLlama, &kGemma, &kQwen, &kPlain, &kPhi, &kWide, &kBf16};

}  // namespace cpu_test
