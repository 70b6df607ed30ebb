#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/reference/adapter.h"
#include "kernels/reference/head_rows.h"
#include "kernels/reference/kv_pages.h"
#include "kernels/reference/math.h"
#include "kernels/reference/weights.h"
#include "ops/backend.h"

namespace tokenmill {
namespace reference {
namespace {

struct LoadedWeights {
  std::vector<Matrix> matrices;
  std::vector<std::vector<float>> vectors;  // of the matrices of one row
};

class ReferenceExecutor final : public Executor {
 public:
  ReferenceExecutor(const Program& program, const CompileOptions& options)
      : program_(program), options_(options) {
    for (int g = 0; g < static_cast<int>(program.kv_groups.size()); ++g) kv_.emplace_back(program, g);
    values_.resize(program.values.size());
    int64_t width = 0;
    for (size_t v = 0; v < values_.size(); ++v) {
      values_[v].resize(static_cast<size_t>(options.max_rows) * static_cast<size_t>(program.values[v].width));
      width = std::max<int64_t>(width, program.values[v].width);
    }
    normed_.resize(static_cast<size_t>(options.max_rows * width));
    product_.resize(normed_.size());
    logits_.resize(static_cast<size_t>(options.max_head_rows) * static_cast<size_t>(program.vocabulary));
  }

  Status LoadWeights(const WeightSource& source) override {
    auto loaded = std::make_shared<LoadedWeights>();
    for (size_t w = 0; w < program_.weights.size(); ++w) {
      TM_ASSIGN_OR_RETURN(Matrix matrix,
                          Matrix::Load(source, static_cast<WeightId>(w), program_.weights[w], options_));
      loaded->matrices.push_back(std::move(matrix));
      // Vectors are used as plain arrays.
      std::vector<float> vector;
      if (program_.weights[w].rows == 1) {
        for (int64_t k = 0; k < program_.weights[w].cols; ++k) vector.push_back(loaded->matrices[w].at(0, k));
      }
      loaded->vectors.push_back(std::move(vector));
    }
    weights_ = std::move(loaded);
    return {};
  }

  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override {
    CompileOptions options = options_;
    options.max_rows = max_rows;
    options.max_head_rows = std::min(options.max_head_rows, max_rows);
    auto twin = std::make_unique<ReferenceExecutor>(program_, options);
    twin->weights_ = weights_;
    return std::unique_ptr<Executor>(std::move(twin));
  }

  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override {
    return ReferenceAdapter::Load(program_, source);
  }

  size_t PageBytes(int group) const override { return kv_[static_cast<size_t>(group)].page_bytes(); }

  Status AddSlab(int group, int slab, int pages) override {
    if (kv_[static_cast<size_t>(group)].AddSlab(slab, pages)) return {};
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for %d pages of the KV cache",
                 PageBytes(group) * static_cast<size_t>(pages), pages);
  }

  void RemoveSlab(int group, int slab) override { kv_[static_cast<size_t>(group)].RemoveSlab(slab); }

  void CopyPage(int group, PageId from, PageId to) override {
    kv_[static_cast<size_t>(group)].CopyPage(from, to);
  }
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const override {
    kv_[static_cast<size_t>(group)].ReadPage(page, tokens, out);
  }
  void WritePage(int group, PageId page, const std::byte* in) override {
    kv_[static_cast<size_t>(group)].WritePage(page, in);
  }

  size_t weight_bytes() const override {
    size_t bytes = 0;
    for (const WeightDesc& weight : program_.weights) bytes += Matrix::BytesOf(weight);
    return bytes;
  }

  size_t scratch_bytes() const override {
    size_t floats = normed_.size() + product_.size() + logits_.size();
    for (const auto& value : values_) floats += value.size();
    return floats * sizeof(float);
  }

  Status Run(const StepInput& input, StepResult* result) override {
    input_ = &input;
    rows_ = static_cast<int>(input.tokens.size());
    result->head.assign(input.head.size(), HeadResult());
    result_ = result;
    SetAdapters(input);
    for (const Op& op : program_.ops) {
      std::visit([this](const auto& concrete) { Execute(concrete); }, op);
    }
    return {};
  }

 private:
  template <class Body>
  void ParallelByThread(int tasks, Body body) {
    const Phase phase{[tasks] { return tasks; }, body};
    options_.pool->Run(std::span(&phase, 1), options_.threads);
  }

  template <class Body>
  void Parallel(int tasks, Body body) {
    ParallelByThread(tasks, [&body](int task, int) { body(task); });
  }

  int64_t width(ValueId value) const { return program_.values[static_cast<size_t>(value)].width; }
  float* row(ValueId value, int r) { return values_[static_cast<size_t>(value)].data() + r * width(value); }
  const float* vector(WeightId weight) const {
    return weight == kNone ? nullptr : weights_->vectors[static_cast<size_t>(weight)].data();
  }

  void SetAdapters(const StepInput& input) {
    adapters_.clear();
    for (const StepSequence& sequence : input.sequences) {
      adapters_.insert(adapters_.end(), static_cast<size_t>(sequence.rows), sequence.adapters);
    }
    head_adapters_.clear();
    for (const HeadRow& row : input.head) head_adapters_.push_back(adapters_[static_cast<size_t>(row.row)]);
  }

  // `adapters` of each row.
  void Multiply(const float* in, std::span<const std::span<const AdapterUse>> adapters, WeightId matrix,
                WeightId bias, float* out, int64_t stride) {
    const Matrix& weights = weights_->matrices[static_cast<size_t>(matrix)];
    const int rows = static_cast<int>(adapters.size());
    Parallel(weights.strips(), [&](int strip) { weights.MultiplyStrip(strip, in, rows, out, stride); });
    Parallel(rows, [&](int r) {
      AddAdapters(adapters[static_cast<size_t>(r)], matrix, in + r * weights.cols(), out + r * stride);
      if (bias == kNone) return;
      for (int64_t o = 0; o < weights.rows(); ++o) out[r * stride + o] += vector(bias)[o];
    });
  }

  void NormRows(ValueId in, const Norm& norm) {
    Parallel(rows_, [&](int r) {
      RmsNorm(row(in, r), vector(norm.weight), norm.epsilon, width(in), normed_.data() + r * width(in));
    });
  }

  void Execute(const Embed& op) {
    const Matrix& table = weights_->matrices[static_cast<size_t>(op.table)];
    Parallel(rows_, [&](int r) {
      for (int64_t k = 0; k < table.cols(); ++k) {
        row(op.out, r)[k] = table.at(input_->tokens[static_cast<size_t>(r)], k) * op.scale;
      }
    });
  }

  void Execute(const NormProject& op) {
    NormRows(op.in, op.norm);
    for (const Projection& p : op.projections) {
      Multiply(normed_.data(), adapters_, p.matrix, p.bias, row(p.out, 0), width(p.out));
    }
  }

  // Calls body(sequence, row, position) for each row, in parallel.
  template <class Body>
  void ForEachRow(Body body) {
    Parallel(static_cast<int>(input_->sequences.size()), [&](int s) {
      const StepSequence& sequence = input_->sequences[static_cast<size_t>(s)];
      for (int i = 0; i < sequence.rows; ++i) body(sequence, sequence.row_begin + i, sequence.position + i);
    });
  }

  void NormAndRotate(const Norm& norm, const RopeTable& rope, int64_t position, int heads, int head_dim,
                     float* x) {
    for (int h = 0; h < heads; ++h, x += head_dim) {
      if (norm.weight != kNone) RmsNorm(x, vector(norm.weight), norm.epsilon, head_dim, x);
      Rotate(rope, position, x);
    }
  }

  void Execute(const RopeWriteKv& op) {
    const KvLayer& layer = program_.kv_layers[static_cast<size_t>(op.kv_layer)];
    const RopeTable& rope = program_.ropes[static_cast<size_t>(op.rope)];
    const KvPages& pages = kv_[static_cast<size_t>(layer.group)];
    ForEachRow([&](const StepSequence& sequence, int r, int64_t position) {
      NormAndRotate(op.q_norm, rope, position, layer.query_heads, layer.head_dim, row(op.q, r));
      NormAndRotate(op.k_norm, rope, position, layer.kv_heads, layer.head_dim, row(op.k, r));
      const int page = sequence.pages[static_cast<size_t>(layer.group)][position / kPageTokens];
      for (int h = 0; h < layer.kv_heads; ++h) {
        float* key = pages.Key(layer, page, h, position);
        float* value = pages.Value(layer, page, h, position);
        std::copy_n(row(op.k, r) + h * layer.head_dim, layer.head_dim, key);
        std::copy_n(row(op.v, r) + h * layer.head_dim, layer.head_dim, value);
        if (options_.kv_type == KvType::kF16) continue;
        RoundToInt8(key, layer.head_dim);
        RoundToInt8(value, layer.head_dim);
      }
    });
  }

  void Execute(const PagedAttention& op) {
    const KvLayer& layer = program_.kv_layers[static_cast<size_t>(op.kv_layer)];
    const KvPages& pages = kv_[static_cast<size_t>(layer.group)];
    const int window = program_.kv_groups[static_cast<size_t>(layer.group)].window;
    const int group_size = layer.query_heads / layer.kv_heads;
    const int dim = layer.head_dim;
    for (const StepSequence& sequence : input_->sequences) {
      const int32_t* table = sequence.pages[static_cast<size_t>(layer.group)];
      Parallel(sequence.rows * layer.query_heads, [&](int task) {
        const int i = task / layer.query_heads, head = task % layer.query_heads;
        const int64_t position = sequence.position + i;
        const int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
        const float* q = row(op.q, sequence.row_begin + i) + head * dim;
        float* out = row(op.out, sequence.row_begin + i) + head * dim;
        std::vector<float> weights;
        float maximum = -INFINITY;
        for (int64_t p = first; p <= position; ++p) {
          const float* key = pages.Key(layer, table[p / kPageTokens], head / group_size, p);
          float score = 0;
          for (int d = 0; d < dim; ++d) score += q[d] * key[d];
          score *= op.scale;
          if (op.softcap > 0) score = op.softcap * std::tanh(score / op.softcap);
          weights.push_back(score);
          maximum = std::max(maximum, score);
        }
        float sum = 0;
        for (float& weight : weights) sum += weight = std::exp(weight - maximum);
        std::fill_n(out, dim, 0.0f);
        for (int64_t p = first; p <= position; ++p) {
          const float* value = pages.Value(layer, table[p / kPageTokens], head / group_size, p);
          const float weight = weights[static_cast<size_t>(p - first)] / sum;
          for (int d = 0; d < dim; ++d) out[d] += weight * value[d];
        }
      });
    }
  }

  void Execute(const ProjectAdd& op) {
    const int64_t out_width = width(op.residual);
    Multiply(row(op.in, 0), adapters_, op.matrix, op.bias, product_.data(), out_width);
    Parallel(rows_, [&](int r) {
      float* product = product_.data() + r * out_width;
      if (op.post_norm.weight != kNone) {
        RmsNorm(product, vector(op.post_norm.weight), op.post_norm.epsilon, out_width, product);
      }
      for (int64_t k = 0; k < out_width; ++k) row(op.residual, r)[k] += product[k];
    });
  }

  void Execute(const GatedMlp& op) {
    const int64_t out_width = width(op.out);
    NormRows(op.in, op.norm);
    Multiply(normed_.data(), adapters_, op.gate, kNone, product_.data(), out_width);
    Multiply(normed_.data(), adapters_, op.up, kNone, row(op.out, 0), out_width);
    Parallel(rows_, [&](int r) {
      const float* gate = product_.data() + r * out_width;
      for (int64_t k = 0; k < out_width; ++k) row(op.out, r)[k] *= Activate(op.activation, gate[k]);
    });
  }

  void Execute(const Head& op) {
    const int64_t in_width = width(op.in);
    const int count = static_cast<int>(input_->head.size());
    for (int first = 0; first < count; first += options_.max_head_rows) {
      const int rows = std::min(options_.max_head_rows, count - first);
      Parallel(rows, [&](int i) {
        const int source = input_->head[static_cast<size_t>(first + i)].row;
        RmsNorm(row(op.in, source), vector(op.norm.weight), op.norm.epsilon, in_width,
                normed_.data() + i * in_width);
      });
      const auto adapters =
          std::span(head_adapters_).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
      Multiply(normed_.data(), adapters, op.matrix, kNone, logits_.data(), program_.vocabulary);
      ParallelByThread(rows, [&](int i, int thread) {
        const size_t index = static_cast<size_t>(first + i);
        const std::span<float> logits(logits_.data() + int64_t{i} * program_.vocabulary,
                                      static_cast<size_t>(program_.vocabulary));
        if (op.softcap > 0) {
          for (float& logit : logits) logit = op.softcap * std::tanh(logit / op.softcap);
        }
        ReduceHeadRow(input_->head[index], index, logits, input_->sink, thread, &result_->head[index]);
      });
    }
  }

  const Program program_;
  const CompileOptions options_;
  std::shared_ptr<const LoadedWeights> weights_;
  std::vector<KvPages> kv_;
  std::vector<std::vector<float>> values_;
  std::vector<float> normed_;   // [max_rows, widest value]
  std::vector<float> product_;  // likewise
  std::vector<float> logits_;   // [max_head_rows, vocabulary]
  const StepInput* input_ = nullptr;
  StepResult* result_ = nullptr;
  std::vector<std::span<const AdapterUse>> adapters_;  // of each row
  std::vector<std::span<const AdapterUse>> head_adapters_;  // of each head row
  int rows_ = 0;
};

}  // namespace
}  // namespace reference

Result<std::unique_ptr<Executor>> CompileReference(const Program& program, const CompileOptions& options) {
  return std::unique_ptr<Executor>(std::make_unique<reference::ReferenceExecutor>(program, options));
}

}  // namespace tokenmill
