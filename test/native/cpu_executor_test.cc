// The CPU executor against the reference on small random programs, and the laws of ops/step.h.

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "cpu_test_util.h"
#include "harness.h"
#include "ops/backend.h"
#include "quant/quant.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

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
      std::vector<float> values = RandomFloats(static_cast<size_t>(cols), static_cast<uint32_t>(id * 7919 + row), sigma);
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
    std::memcpy(out, data_[weight].data() + bytes * static_cast<size_t>(row), bytes * static_cast<size_t>(rows));
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

void AddLayer(const ModelShape& shape, int layer, Model* model) {
  Program& p = model->program;
  const auto matrix = [&](int rows, int cols) {
    return model->weights.Add(&p, shape.matrix_type, rows, cols, 0, 1.0f / std::sqrt(static_cast<float>(cols)));
  };
  const auto norm = [&](int width) { return Norm{model->weights.Add(&p, DType::kF32, 1, width, 1, 0.1f), 1e-5f}; };
  const auto bias = [&](int width) {
    return shape.biases ? model->weights.Add(&p, DType::kF32, 1, width, 0, 0.3f) : kNone;
  };
  const bool windowed = shape.window > 0 && layer % 2 == 0;
  const int group = windowed ? 1 : 0;
  const int q_width = shape.query_heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  p.kv_layers.push_back({group, p.kv_groups[group].layers++, shape.query_heads, shape.kv_heads, shape.head_dim});
  p.ops.push_back(NormProject{0,
                              norm(shape.width),
                              {{matrix(q_width, shape.width), bias(q_width), 1},
                               {matrix(kv_width, shape.width), bias(kv_width), 2},
                               {matrix(kv_width, shape.width), bias(kv_width), 3}}});
  RopeWriteKv rope = {1, 2, 3, {}, {}, windowed ? 1 : 0, layer};
  if (shape.qk_norm) rope.q_norm = norm(shape.head_dim), rope.k_norm = norm(shape.head_dim);
  p.ops.push_back(rope);
  p.ops.push_back(PagedAttention{1, 4, layer, 1.0f / std::sqrt(static_cast<float>(shape.head_dim)), shape.softcap});
  const Norm none;
  p.ops.push_back(ProjectAdd{4, matrix(shape.width, q_width), bias(shape.width),
                             shape.post_norms ? norm(shape.width) : none, 0});
  p.ops.push_back(GatedMlp{0, norm(shape.width), matrix(shape.ffn, shape.width), matrix(shape.ffn, shape.width),
                           shape.activation, 5});
  p.ops.push_back(ProjectAdd{5, matrix(shape.width, shape.ffn), kNone, shape.post_norms ? norm(shape.width) : none, 0});
}

std::unique_ptr<Model> MakeModel(const ModelShape& shape) {
  auto model = std::make_unique<Model>();
  Program& p = model->program;
  p.vocabulary = shape.vocabulary;
  const int q_width = shape.query_heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  for (int width : {shape.width, q_width, kv_width, kv_width, q_width, shape.ffn}) p.values.push_back({width});
  p.kv_groups.push_back({0, 0});
  if (shape.window > 0) p.kv_groups.push_back({shape.window, 0});
  for (double base : {10000.0, 1000.0}) {
    RopeTable table = {shape.rope_style, shape.rope_dims, {}, 1};
    for (int i = 0; i < shape.rope_dims / 2; ++i) table.frequencies.push_back(std::pow(base, -2.0 * i / shape.rope_dims));
    p.ropes.push_back(table);
  }
  const WeightId table = model->weights.Add(&p, shape.table_type, shape.vocabulary, shape.width, 0, 0.5f);
  p.ops.push_back(Embed{table, shape.post_norms ? 1.5f : 1.0f, 0});
  for (int layer = 0; layer < shape.layers; ++layer) AddLayer(shape, layer, model.get());
  const WeightId head =
      shape.tied ? table : model->weights.Add(&p, DType::kQ8_0, shape.vocabulary, shape.width, 0, 0.1f);
  p.ops.push_back(Head{0, {model->weights.Add(&p, DType::kF32, 1, shape.width, 1, 0.1f), 1e-5f}, head, shape.softcap});
  return model;
}

constexpr ModelShape kLlama = {"llama", 96, 3, 6, 2, 32, 160, 203, DType::kQ4_1, DType::kQ8_0, RopeStyle::kInterleaved,
                               32, true, false, false, false, 0, 0, Activation::kSilu};
constexpr ModelShape kGemma = {"gemma", 256, 4, 4, 1, 64, 512, 301, DType::kQ4_K, DType::kQ6_K, RopeStyle::kHalves,
                               64, true, true, true, false, 20, 30, Activation::kGeluTanh};
constexpr ModelShape kQwen = {"qwen", 64, 2, 4, 4, 16, 96, 99, DType::kQ5_1, DType::kQ4_0, RopeStyle::kHalves,
                              16, false, true, false, true, 0, 0, Activation::kSilu};
constexpr ModelShape kPlain = {"plain", 40, 2, 3, 1, 20, 50, 70, DType::kF16, DType::kF32, RopeStyle::kHalves,
                               12, true, false, false, true, 7, 0, Activation::kSilu};
constexpr ModelShape kPhi = {"phi", 160, 2, 2, 2, 80, 256, 130, DType::kQ5_0, DType::kQ8_0, RopeStyle::kHalves,
                             32, true, false, false, true, 0, 0, Activation::kGeluTanh};
constexpr ModelShape kWide = {"wide", 512, 2, 8, 1, 64, 256, 640, DType::kQ6_K, DType::kQ5_K, RopeStyle::kInterleaved,
                              64, true, false, false, false, 300, 0, Activation::kSilu};
constexpr ModelShape kBf16 = {"bf16", 64, 2, 2, 1, 32, 64, 96, DType::kBF16, DType::kBF16, RopeStyle::kHalves,
                              32, true, false, true, false, 0, 50, Activation::kSilu};

// Sequences over one executor, with pages in a shuffled order.
class Runner {
 public:
  Runner(const Model& model, CpuIsa isa, int threads, int max_rows, int max_head_rows = 5) : program_(model.program) {
    CompileOptions options;
    options.max_rows = max_rows;
    options.max_head_rows = max_head_rows;
    options.threads = threads;
    options.pool = &ThreadPool::Process();
    auto compiled = isa == CpuIsa::kReference ? CompileReference(model.program, model.weights, options)
                                              : CompileCpu(model.program, model.weights, isa, options);
    EXPECT(compiled.ok());
    if (!compiled.ok()) std::printf("    %s\n", compiled.status().message().c_str());
    executor_ = std::move(compiled).value();
    for (size_t g = 0; g < program_.kv_groups.size(); ++g) {
      for (int slab = 0; slab < kSlabs; ++slab) EXPECT(executor_->AddSlab(static_cast<int>(g), slab, kSlabPages).ok());
    }
  }

  // Pages of a sequence: slot 0 … 3 have a quarter of all pages each.
  const int32_t* Pages(int slot) {
    std::vector<int32_t>& pages = pages_[slot];
    if (pages.empty()) {
      for (int i = 0; i < kSlabs * kSlabPages / 4; ++i) pages.push_back((i * 29 % (kSlabs * kSlabPages / 4)) * 4 + slot);
    }
    return pages.data();
  }

  // All tokens of a step: for each slot some tokens at a position. Returns full logits of every row.
  struct Piece {
    int slot;
    int position;
    std::vector<int32_t> tokens;
  };
  std::vector<std::vector<float>> Step(const std::vector<Piece>& pieces);
  StepResult RunStep(const std::vector<Piece>& pieces, std::vector<HeadRow> head, LogitSink* sink = nullptr);

  Executor& executor() { return *executor_; }

  static constexpr int kSlabs = 8, kSlabPages = 40;

 private:
  const Program& program_;
  std::unique_ptr<Executor> executor_;
  std::map<int, std::vector<int32_t>> pages_;
};

class Collector final : public LogitSink {
 public:
  explicit Collector(size_t rows) : logits_(rows) {}
  void Take(size_t index, std::span<float> logits, const HeadResult&) override {
    logits_[index].assign(logits.begin(), logits.end());
  }
  std::vector<std::vector<float>> logits_;
};

StepResult Runner::RunStep(const std::vector<Piece>& pieces, std::vector<HeadRow> head, LogitSink* sink) {
  std::vector<int32_t> tokens;
  std::vector<StepSequence> sequences;
  for (const Piece& piece : pieces) {
    StepSequence sequence = {static_cast<int>(tokens.size()), static_cast<int>(piece.tokens.size()), piece.position, {}};
    sequence.pages.fill(Pages(piece.slot));
    sequences.push_back(sequence);
    tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
  }
  StepInput input = {tokens, sequences, head, sink};
  StepResult result;
  const Status status = executor_->Run(input, &result);
  EXPECT(status.ok());
  if (!status.ok()) std::printf("    %s\n", status.message().c_str());
  return result;
}

std::vector<std::vector<float>> Runner::Step(const std::vector<Piece>& pieces) {
  size_t rows = 0;
  for (const Piece& piece : pieces) rows += piece.tokens.size();
  std::vector<HeadRow> head(rows);
  for (size_t i = 0; i < rows; ++i) head[i].row = static_cast<int>(i), head[i].full = true;
  Collector collector(rows);
  const StepResult result = RunStep(pieces, head, &collector);
  for (const HeadResult& one : result.head) EXPECT(one.finite);
  return collector.logits_;
}

std::vector<int32_t> RandomTokens(int count, int vocabulary, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(engine() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

// The logits of a prompt's rows when it is fed in chunks.
std::vector<std::vector<float>> Feed(Runner& runner, int slot, const std::vector<int32_t>& tokens, size_t chunk) {
  std::vector<std::vector<float>> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t end = std::min(tokens.size(), begin + chunk);
    auto part = runner.Step({{slot, static_cast<int>(begin), {tokens.begin() + begin, tokens.begin() + end}}});
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

std::vector<CpuIsa> Isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (cpu::SelectKernels(isa) != nullptr) isas.push_back(isa);
  }
  return isas;
}

double LogitNmse(const std::vector<std::vector<float>>& got, const std::vector<std::vector<float>>& want) {
  std::vector<float> a, b;
  for (const auto& row : got) a.insert(a.end(), row.begin(), row.end());
  for (const auto& row : want) b.insert(b.end(), row.begin(), row.end());
  EXPECT_EQ(a.size(), b.size());
  return Nmse(a.data(), b.data(), std::min(a.size(), b.size()));
}

bool Same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || !SameBits(a[i].data(), b[i].data(), a[i].size())) return false;
  }
  return true;
}

constexpr const ModelShape* kShapes[] = {&kLlama, &kGemma, &kQwen, &kPlain, &kPhi, &kWide, &kBf16};

}  // namespace

// Whole programs: errors of the int8 activations of several layers add up, and random models amplify them, so
// the bound is wider than a single product's. Programs with plain weights differ by the f16 of the cache only.
TEST(ProgramsAgreeWithTheReference) {
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(70, shape->vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 70);
    const auto want = Feed(reference, 0, tokens, 70);
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 70);
      const auto got = Feed(runner, 0, tokens, 70);
      const double nmse = LogitNmse(got, want);
      const bool plain = shape == &kPlain || shape == &kBf16;
      std::printf("    %s: NMSE %.2e\n", shape->name, nmse);
      EXPECT_LE(nmse, plain ? 1e-6 : 3e-3);
    }
  }
}

TEST(ChunksAndThreadsDoNotShow) {
  for (CpuIsa isa : Isas()) {
    for (const ModelShape* shape : {&kLlama, &kGemma, &kPlain, &kWide}) {
      const auto model = MakeModel(*shape);
      const int length = shape == &kWide ? 700 : 300;
      const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 2);
      Runner one(*model, isa, 1, 64);
      const auto want = Feed(one, 0, tokens, 64);
      for (int threads : {1, 2, 3}) {
        for (size_t chunk : {size_t{1}, size_t{7}, size_t{16}, size_t{64}}) {
          if (threads != 2 && chunk != 7) continue;
          Runner runner(*model, isa, threads, 64);
          EXPECT(Same(Feed(runner, 1, tokens, chunk), want));
        }
      }
    }
  }
}

TEST(RowsDoNotDependOnTheBatch) {
  for (CpuIsa isa : Isas()) {
    for (const ModelShape* shape : {&kLlama, &kGemma, &kQwen}) {
      const auto model = MakeModel(*shape);
      const std::vector<int32_t> a = RandomTokens(50, shape->vocabulary, 3), b = RandomTokens(50, shape->vocabulary, 4);
      Runner alone(*model, isa, 2, 128);
      const auto want_a = Feed(alone, 0, a, 50), want_b = Feed(alone, 1, b, 50);
      Runner both(*model, isa, 2, 128);
      std::vector<std::vector<float>> got_a, got_b;
      int done_a = 0, done_b = 0;
      for (int step = 0; done_a < 50; ++step) {
        const int take_a = std::min(50 - done_a, 1 + step % 5 * 4), take_b = std::min(50 - done_b, 3);
        std::vector<Runner::Piece> pieces = {{2, done_a, {a.begin() + done_a, a.begin() + done_a + take_a}}};
        if (take_b > 0) pieces.insert(pieces.begin(), {3, done_b, {b.begin() + done_b, b.begin() + done_b + take_b}});
        auto logits = both.Step(pieces);
        got_b.insert(got_b.end(), logits.begin(), logits.begin() + take_b);
        got_a.insert(got_a.end(), logits.begin() + take_b, logits.end());
        done_a += take_a, done_b += take_b;
      }
      EXPECT(Same(got_a, want_a));
      EXPECT(Same(got_b, {want_b.begin(), want_b.begin() + done_b}));
    }
  }
}

TEST(IsasGiveTheSameBits) {
  const std::vector<CpuIsa> isas = Isas();
  if (isas.size() < 2) return;
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(40, shape->vocabulary, 5);
    Runner first(*model, isas[0], 2, 64), second(*model, isas[1], 2, 64);
    EXPECT(Same(Feed(first, 0, tokens, 40), Feed(second, 0, tokens, 13)));
  }
}

TEST(HeadGivesWhatIsAsked) {
  const auto model = MakeModel(kGemma);
  const std::vector<int32_t> tokens = RandomTokens(12, kGemma.vocabulary, 6);
  for (CpuIsa isa : Isas()) {
    Runner runner(*model, isa, 2, 64, 5);
    const auto logits = Feed(runner, 0, tokens, 12);
    const std::vector<LogitEdit> edits = {{3, 1.5f, 0.25f}, {100, 2, 0}, {300, 1, -30}};
    const std::vector<int32_t> targets = {5, 300, 5};
    std::vector<HeadRow> head(12);
    for (int i = 0; i < 12; ++i) {
      head[i].row = i;
      head[i].candidates = i * 40;
      head[i].raw_top = i;
      if (i % 2 == 0) head[i].edits = edits, head[i].targets = targets;
    }
    const StepResult result = runner.RunStep({{1, 0, tokens}}, head);
    for (int i = 0; i < 12; ++i) {
      const HeadResult& got = result.head[i];
      double sum = 0;
      for (float logit : logits[i]) sum += std::exp(static_cast<double>(logit));
      EXPECT_LE(std::fabs(got.log_sum_exp - std::log(sum)), 2e-6 * std::fabs(std::log(sum)));
      std::vector<Candidate> all, raw;
      for (int t = 0; t < kGemma.vocabulary; ++t) raw.push_back({t, logits[i][t], logits[i][t]});
      all = raw;
      for (const LogitEdit& edit : head[i].edits) all[edit.token].logit = ApplyEdit(edit, logits[i][edit.token]);
      for (auto* list : {&all, &raw}) {
        std::stable_sort(list->begin(), list->end(), [](const Candidate& x, const Candidate& y) { return x.logit > y.logit; });
      }
      EXPECT_EQ(got.candidates.size(), static_cast<size_t>(std::min(i * 40, kGemma.vocabulary)));
      EXPECT_EQ(got.raw_top.size(), static_cast<size_t>(i));
      for (size_t c = 0; c < got.candidates.size(); ++c) {
        EXPECT_EQ(got.candidates[c].token, all[c].token);
        EXPECT_EQ(got.candidates[c].logit, all[c].logit);
        EXPECT_EQ(got.candidates[c].raw, all[c].raw);
      }
      for (size_t c = 0; c < got.raw_top.size(); ++c) EXPECT_EQ(got.raw_top[c].token, raw[c].token);
      for (size_t t = 0; t < head[i].targets.size(); ++t) EXPECT_EQ(got.targets[t], logits[i][targets[t]]);
    }
  }
}

// A token whose embedding is NaN spoils its own sequence from there on, and nothing else.
TEST(NanStaysInItsSequence) {
  auto model = MakeModel(kLlama);
  class Poisoned final : public WeightSource {
   public:
    explicit Poisoned(const RandomWeights& inner) : inner_(inner) {}
    Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
      TM_RETURN_IF_ERROR(inner_.Read(weight, row, rows, out));
      if (weight == 0 && row <= 7 && row + rows > 7) {
        uint8_t* at = static_cast<uint8_t*>(out) + (7 - row) * static_cast<int64_t>(RowBytes(DType::kQ8_0, kLlama.width));
        at[0] = 0xff, at[1] = 0x7f;  // an f16 NaN
      }
      return {};
    }
    const RandomWeights& inner_;
  };
  model->program.ops.back() = Head{0, std::get<Head>(model->program.ops.back()).norm,
                                   model->weights.Add(&model->program, DType::kQ8_0, kLlama.vocabulary, kLlama.width, 0, 0.1f), 0};
  const Poisoned source(model->weights);
  std::vector<int32_t> clean = RandomTokens(20, kLlama.vocabulary, 7), bad = RandomTokens(20, kLlama.vocabulary, 8);
  for (auto* tokens : {&clean, &bad}) std::replace(tokens->begin(), tokens->end(), 7, 8);
  std::vector<int32_t> spoiled = bad;
  spoiled[9] = 7;
  for (CpuIsa isa : Isas()) {
    CompileOptions options;
    options.threads = 2;
    options.pool = &ThreadPool::Process();
    auto executor = CompileCpu(model->program, source, isa, options);
    EXPECT(executor.ok());
    EXPECT(executor.value()->AddSlab(0, 0, 8).ok());
    const int32_t pages[2][2] = {{3, 1}, {5, 6}};
    const auto run = [&](const std::vector<int32_t>& second) {
      std::vector<int32_t> tokens = clean;
      tokens.insert(tokens.end(), second.begin(), second.end());
      std::vector<StepSequence> sequences = {{0, 20, 0, {pages[0]}}, {20, 20, 0, {pages[1]}}};
      std::vector<HeadRow> head(40);
      for (int i = 0; i < 40; ++i) head[i].row = i, head[i].raw_top = 4;
      StepResult result;
      const StepInput input = {tokens, sequences, head, nullptr};
      EXPECT(executor.value()->Run(input, &result).ok());
      return result;
    };
    const StepResult dirty = run(spoiled), healed = run(bad);
    for (int i = 0; i < 40; ++i) {
      EXPECT_EQ(dirty.head[i].finite, i < 29);
      EXPECT(healed.head[i].finite);
      if (i < 29) EXPECT_EQ(dirty.head[i].log_sum_exp, healed.head[i].log_sum_exp);
    }
  }
}

TEST(LoadingStopsAndFails) {
  auto model = MakeModel(kLlama);
  CompileOptions options;
  options.threads = 2;
  options.pool = &ThreadPool::Process();
  std::mutex mutex;
  size_t read = 0, expected = 0;
  for (const WeightDesc& desc : model->program.weights) expected += RowBytes(desc.dtype, desc.cols) * static_cast<size_t>(desc.rows);
  options.on_progress = [&](size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    read += bytes;
    return true;
  };
  auto whole = CompileCpu(model->program, model->weights, CpuIsa::kAvx2, options);
  EXPECT(whole.ok());
  EXPECT_EQ(read, expected);
  EXPECT(whole.value()->weight_bytes() > 0 && whole.value()->scratch_bytes() > 0);
  options.on_progress = [](size_t) { return false; };
  EXPECT(CompileCpu(model->program, model->weights, CpuIsa::kAvx2, options).status().code() == Code::kAborted);
  options.on_progress = nullptr;
  for (WeightId failing : {0, 1, 2}) {
    model->weights.failing_ = failing;
    EXPECT(CompileCpu(model->program, model->weights, CpuIsa::kAvx2, options).status().code() == Code::kCorruptFile);
  }
}

HARNESS_MAIN()
