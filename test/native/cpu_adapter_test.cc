// Adapters: the CPU executor against the reference, both against merged weights, and the laws of ops/step.h.

#include <algorithm>
#include <atomic>
#include <thread>

#include "adapter_test_util.h"
#include "cpu_test_runner.h"
#include "harness.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

using Logits = std::vector<std::vector<float>>;

double LogitNmse(const Logits& got, const Logits& want) {
  std::vector<float> a, b;
  for (const auto& row : got) a.insert(a.end(), row.begin(), row.end());
  for (const auto& row : want) b.insert(b.end(), row.begin(), row.end());
  EXPECT_EQ(a.size(), b.size());
  return Nmse(a.data(), b.data(), std::min(a.size(), b.size()));
}

bool Same(const Logits& a, const Logits& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || !SameBits(a[i].data(), b[i].data(), a[i].size())) return false;
  }
  return true;
}

// Adapters of one program, loaded by a runner's executor.
struct Loaded {
  Loaded(Runner& runner, const std::vector<MemoryAdapter>& sources) {
    for (const MemoryAdapter& source : sources) adapters.push_back(runner.Load(source));
  }
  AdapterUse Use(size_t index, float scale = 1) const { return {adapters[index].get(), scale}; }
  std::vector<std::shared_ptr<const LoadedAdapter>> adapters;
};

const std::vector<std::vector<int>> kRanks = {{1, 3, 8, 16, 17}, {64, 0, 5}, {256, 2}, {16}};

std::vector<MemoryAdapter> Sources(const Program& program) {
  std::vector<MemoryAdapter> sources;
  for (size_t i = 0; i < kRanks.size(); ++i) {
    sources.push_back(RandomAdapter(program, kRanks[i], static_cast<uint32_t>(i + 1)));
  }
  return sources;
}

std::vector<AdapterUse> Stacked(const Loaded& loaded) {
  return {loaded.Use(0), loaded.Use(1, -0.5f), loaded.Use(2, 0.25f)};
}

}  // namespace

// Bounds of cpu_executor_test: adapters see floats and add no rounding of their own.
TEST(AdaptersAgreeWithTheReference) {
  const int length = harness::Short() ? 12 : 40;
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<MemoryAdapter> sources = Sources(model->program);
    const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 40);
    const Loaded oracle(reference, sources);
    const Logits want = Feed(reference, 0, tokens, 40, Stacked(oracle));
    EXPECT(LogitNmse(Feed(reference, 1, tokens, 40), want) > 0.01);
    for (CpuIsa isa : Isas()) {
      for (int terms : {1, 2}) {
        Runner runner(*model, isa, 2, 40, 5, terms);
        const Loaded loaded(runner, sources);
        const double nmse = LogitNmse(Feed(runner, 0, tokens, 40, Stacked(loaded)), want);
        const bool bf16 = shape == &kBf16 && isa == CpuIsa::kAvx512Bf16;
        const bool plain = (shape == &kPlain || shape == &kBf16) && !bf16;
        std::printf("    %s, %d terms: NMSE %.2e\n", shape->name, terms, nmse);
        EXPECT_LE(nmse, terms == 2 || plain ? 1e-6 : 3e-3);
      }
    }
  }
}

// Each layer on its own, so that none hides behind others.
TEST(EveryLayerCanHaveOne) {
  const auto model = MakeModel(kGemma);
  const Program& program = model->program;
  const std::vector<int32_t> tokens = RandomTokens(10, kGemma.vocabulary, 2);
  for (size_t op = 0; op < program.ops.size(); ++op) {
    if (op > 7 && op + 1 < program.ops.size()) continue;
    for (const WeightId matrix : LinearMatrices(program.ops[op])) {
      std::vector<MemoryAdapter> sources(1);
      AddRandomFactors(program, matrix, 12, DType::kF16, 77, &sources[0]);
      Runner reference(*model, CpuIsa::kReference, 2, 10);
      const Loaded oracle(reference, sources);
      const Logits want = Feed(reference, 0, tokens, 10, {oracle.Use(0, 2)});
      EXPECT(LogitNmse(Feed(reference, 1, tokens, 10), want) > 1e-4);
      for (CpuIsa isa : Isas()) {
        Runner runner(*model, isa, 2, 10, 3, 2);
        const Loaded loaded(runner, sources);
        EXPECT_LE(LogitNmse(Feed(runner, 0, tokens, 10, {loaded.Use(0, 2)}), want), 1e-6);
      }
    }
  }
}

// W + scale B A, for adapters on F32 matrices.
class MergedWeights final : public WeightSource {
 public:
  MergedWeights(const Model& model, const MemoryAdapter& adapter, float use_scale)
      : model_(model), adapter_(adapter), use_scale_(use_scale) {}

  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
    TM_RETURN_IF_ERROR(model_.weights.Read(weight, row, rows, out));
    for (size_t i = 0; i < adapter_.factors_.size(); ++i) {
      if (adapter_.factors_[i].matrix == weight) Merge(i, row, rows, static_cast<float*>(out));
    }
    return {};
  }

 private:
  void Merge(size_t index, int64_t row, int64_t rows, float* out) const {
    const AdapterFactors& factors = adapter_.factors_[index];
    const int64_t cols = model_.program.weights[static_cast<size_t>(factors.matrix)].cols;
    const std::vector<float> a = adapter_.Floats(index, AdapterFactor::kA),
                             b = adapter_.Floats(index, AdapterFactor::kB);
    for (int64_t o = row; o < row + rows; ++o) {
      for (int64_t k = 0; k < cols; ++k, ++out) {
        double sum = 0;
        for (int j = 0; j < factors.rank; ++j)
          sum += static_cast<double>(b[o * factors.rank + j]) * a[j * cols + k];
        *out = static_cast<float>(*out + static_cast<double>(use_scale_) * factors.scale * sum);
      }
    }
  }

  const Model& model_;
  const MemoryAdapter& adapter_;
  const float use_scale_;
};

// The CPU's cache has f16, where a last bit of f32 here and there makes one of f16.
TEST(AnAdapterIsWhatMergedWeightsAre) {
  ModelShape shape = kPlain;
  shape.matrix_type = DType::kF32;
  const auto model = MakeModel(shape);
  // A head of its own: the table of the embedding has no adapter.
  std::get<Head>(model->program.ops.back()).matrix =
      model->weights.Add(&model->program, DType::kF32, shape.vocabulary, shape.width, 0, 0.2f);
  const std::vector<MemoryAdapter> sources = {RandomAdapter(model->program, {7, 16, 1, 30}, 5)};
  const MergedWeights merged(*model, sources[0], 1.5f);
  const std::vector<int32_t> tokens = RandomTokens(30, shape.vocabulary, 3);
  std::vector<CpuIsa> isas = Isas();
  isas.push_back(CpuIsa::kReference);
  for (CpuIsa isa : isas) {
    Runner runner(*model, isa, 2, 30), other(model->program, merged, isa, 2, 30);
    const Loaded loaded(runner, sources);
    const double nmse =
        LogitNmse(Feed(runner, 0, tokens, 30, {loaded.Use(0, 1.5f)}), Feed(other, 0, tokens, 30));
    std::printf("    NMSE %.2e\n", nmse);
    EXPECT_LE(nmse, isa == CpuIsa::kReference ? 1e-11 : 1e-9);
  }
}

TEST(ChunksAndThreadsDoNotShow) {
  for (CpuIsa isa : Isas()) {
    for (const ModelShape* shape : {&kLlama, &kGemma, &kPlain}) {
      if (harness::Short() && shape != &kPlain) continue;
      const auto model = MakeModel(*shape);
      const std::vector<MemoryAdapter> sources = Sources(model->program);
      const std::vector<int32_t> tokens = RandomTokens(70, shape->vocabulary, 2);
      Runner one(*model, isa, 1, 64);
      const Logits want = Feed(one, 0, tokens, 64, Stacked(Loaded(one, sources)));
      for (int threads : {1, 2, 3}) {
        for (size_t chunk : {size_t{1}, size_t{7}, size_t{16}, size_t{64}}) {
          if (threads != 2 && chunk != 7) continue;
          Runner runner(*model, isa, threads, 64);
          const Loaded loaded(runner, sources);
          EXPECT(Same(Feed(runner, 1, tokens, chunk, Stacked(loaded)), want));
        }
      }
    }
  }
}

namespace {

// Sixteen sequences, of which four have no adapter and twelve share eight.
struct Crowd {
  static constexpr int kCount = 16;

  explicit Crowd(const Program& program) {
    for (int i = 0; i < 8; ++i) {
      sources.push_back(RandomAdapter(program, kRanks[static_cast<size_t>(i) % kRanks.size()],
                                      static_cast<uint32_t>(20 + i)));
    }
    for (int s = 0; s < kCount; ++s) {
      prompts.push_back(RandomTokens(6 + s * 5 % 11, program.vocabulary, static_cast<uint32_t>(50 + s)));
    }
  }

  std::vector<AdapterUse> Uses(const Loaded& loaded, int s) const {
    const size_t own = static_cast<size_t>(s * 3 % 8);
    if (s % 4 == 3) return {};
    if (s % 4 == 2) return {loaded.Use((own + 1) % 8, 0.5f), loaded.Use(own)};
    return {loaded.Use(own, s % 2 == 0 ? 1.0f : 0.75f)};
  }

  std::vector<MemoryAdapter> sources;
  std::vector<std::vector<int32_t>> prompts;
};

// Steps in which each sequence has one row more than in the step before or none, until all are through.
std::vector<Logits> FeedTogether(Runner& runner, const Crowd& crowd, const Loaded& loaded,
                                 const std::vector<int>& order) {
  std::vector<Logits> logits(Crowd::kCount);
  for (int step = 0;; ++step) {
    std::vector<Runner::Piece> pieces;
    std::vector<int> owners;
    for (const int s : order) {
      const auto& prompt = crowd.prompts[static_cast<size_t>(s)];
      const size_t done = logits[static_cast<size_t>(s)].size();
      const size_t take = std::min(prompt.size() - done, static_cast<size_t>(1 + (step + s) % 3 * (s % 2)));
      if (take == 0) continue;
      pieces.push_back(
          {s,
           static_cast<int>(done),
           {prompt.begin() + static_cast<int64_t>(done), prompt.begin() + static_cast<int64_t>(done + take)},
           crowd.Uses(loaded, s)});
      owners.insert(owners.end(), take, s);
    }
    if (pieces.empty()) return logits;
    const Logits rows = runner.Step(pieces);
    for (size_t r = 0; r < rows.size(); ++r) logits[static_cast<size_t>(owners[r])].push_back(rows[r]);
  }
}

}  // namespace

TEST(RowsDoNotDependOnTheBatch) {
  std::vector<int> ascending(Crowd::kCount), shuffled;
  for (int s = 0; s < Crowd::kCount; ++s) ascending[s] = s, shuffled.push_back(s * 7 % Crowd::kCount);
  for (CpuIsa isa : Isas()) {
    for (const ModelShape* shape : {&kLlama, &kGemma, &kPlain, &kBf16}) {
      if (harness::Short() && shape != &kPlain) continue;
      const auto model = MakeModel(*shape);
      const Crowd crowd(model->program);
      std::vector<Logits> want;
      Runner alone(*model, isa, 2, 64);
      const Loaded own(alone, crowd.sources);
      for (int s = 0; s < Crowd::kCount; ++s) {
        want.push_back(Feed(alone, s, crowd.prompts[static_cast<size_t>(s)], 64, crowd.Uses(own, s)));
      }
      for (int threads : {1, 2, 3}) {
        Runner runner(*model, isa, threads, 64);
        const Loaded loaded(runner, crowd.sources);
        const auto got = FeedTogether(runner, crowd, loaded, threads == 2 ? shuffled : ascending);
        for (size_t s = 0; s < want.size(); ++s) EXPECT(Same(got[s], want[s]));
      }
      // Those without an adapter have what an executor gives them that never had one.
      Runner plain(*model, isa, 2, 64);
      EXPECT(Same(Feed(plain, 0, crowd.prompts[3], 64), want[3]));
    }
  }
}

// More rows of an adapter than one chunk of the first product, or one tile of the second, takes.
TEST(ManyRowsShareAnAdapter) {
  for (CpuIsa isa : Isas()) {
    const auto model = MakeModel(kLlama);
    const Crowd crowd(model->program);
    std::vector<Logits> want;
    Runner alone(*model, isa, 2, 64), together(*model, isa, 2, 64);
    const Loaded own(alone, crowd.sources), shared(together, crowd.sources);
    std::vector<Runner::Piece> pieces;
    const auto uses = [](const Loaded& loaded, int s) {
      return std::vector<AdapterUse>{loaded.Use(static_cast<size_t>(s % 2)),
                                     loaded.Use(static_cast<size_t>(3 - s % 2))};
    };
    Logits expected;
    for (int s = 0; s < 10; ++s) {
      const std::vector<int32_t> tokens = RandomTokens(6, kLlama.vocabulary, static_cast<uint32_t>(90 + s));
      const Logits rows = Feed(alone, s, tokens, 2, uses(own, s));
      expected.insert(expected.end(), rows.begin(), rows.end());
      pieces.push_back({s, 0, tokens, uses(shared, s)});
    }
    EXPECT(Same(together.Step(pieces), expected));
  }
}

TEST(IsasGiveTheSameBits) {
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<MemoryAdapter> sources = Sources(model->program);
    const std::vector<int32_t> tokens = RandomTokens(harness::Short() ? 10 : 25, shape->vocabulary, 5);
    Logits first;
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 64, 5, shape == &kBf16 ? 2 : 1);
      const Loaded loaded(runner, sources);
      const Logits got = Feed(runner, 0, tokens, first.empty() ? 25 : 6, Stacked(loaded));
      if (first.empty()) first = got;
      EXPECT(Same(got, first));
    }
  }
}

namespace {

void ExpectRefused(Executor& executor, const MemoryAdapter& source, Code code, const char* what) {
  const Status status = executor.LoadAdapter(source).status();
  EXPECT(status.code() == code);
  EXPECT(status.message().find(what) != std::string::npos);
  if (status.message().find(what) == std::string::npos) std::printf("    %s\n", status.message().c_str());
}

void Spoil(MemoryAdapter* source, size_t factor, size_t element, float value) {
  const DType dtype = source->factors_[factor / 2].dtype;
  const size_t bytes = dtype == DType::kF32 ? 4 : 2;
  QuantizeRow(dtype, &value, source->data_[factor].data() + element * bytes, 1);
}

}  // namespace

TEST(BadAdaptersAreRefused) {
  ModelShape shape = kLlama;
  shape.tied = false;
  const auto model = MakeModel(shape);
  std::vector<CpuIsa> isas = Isas();
  isas.push_back(CpuIsa::kReference);
  const WeightId matrix = std::get<NormProject>(model->program.ops[1]).projections[1].matrix;
  const std::string name = Format("'w%d'", matrix);
  for (CpuIsa isa : isas) {
    Runner runner(*model, isa, 1, 8);
    Executor& executor = runner.executor();
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      MemoryAdapter good;
      AddRandomFactors(model->program, matrix, 5, dtype, 3, &good);
      EXPECT(executor.LoadAdapter(good).ok());
      const auto refused = [&](Code code, const std::string& what, auto change) {
        MemoryAdapter bad = good;
        change(bad);
        ExpectRefused(executor, bad, code, what.c_str());
      };
      for (const float value : {NAN, INFINITY, -INFINITY}) {
        refused(Code::kCorruptFile, "A of the adapter of " + name,
                [&](auto& bad) { Spoil(&bad, 0, 0, value); });
        const size_t last = good.Floats(0, AdapterFactor::kB).size() - 1;
        refused(Code::kCorruptFile, "B of the adapter of " + name,
                [&](auto& bad) { Spoil(&bad, 1, last, value); });
        refused(Code::kCorruptFile, name, [&](auto& bad) { bad.factors_[0].scale = value; });
      }
      for (const int rank : {0, -1, 257, 1 << 30}) {
        refused(Code::kInvalidArgument, name, [&](auto& bad) { bad.factors_[0].rank = rank; });
      }
      for (const WeightId other : {0, matrix - 1 - 1, matrix + 100000, -1}) {  // a table, a norm, none
        const bool known = other >= 0 && other < 1000;
        refused(Code::kInvalidArgument, known ? Format("'w%d'", other) : "names weight",
                [&](auto& bad) { bad.factors_[0].matrix = other; });
      }
      refused(Code::kInvalidArgument, name, [&](auto& bad) { bad.factors_[0].dtype = DType::kQ8_0; });
      refused(Code::kCorruptFile, name,
              [&](auto& bad) { bad.Add(bad.factors_[0], bad.data_[0], bad.data_[1]); });
      refused(Code::kCorruptFile, "unreadable", [&](auto& bad) { bad.failing_ = 0; });
    }
    EXPECT(executor.LoadAdapter(MemoryAdapter()).ok());  // of nothing
  }
}

TEST(StepsWithStrangeAdaptersAreRefused) {
  const auto model = MakeModel(kQwen);
  const std::vector<MemoryAdapter> sources = Sources(model->program);
  for (CpuIsa isa : Isas()) {
    Runner runner(*model, isa, 1, 8), other(*model, isa, 1, 8), reference(*model, CpuIsa::kReference, 1, 8);
    const Loaded own(runner, sources), foreign(other, sources), floats(reference, sources);
    const auto run = [&](const std::vector<AdapterUse>& uses) {
      const std::vector<int32_t> tokens = {1};
      const int32_t pages[] = {0};
      const StepSequence sequence = {0, 1, 0, {pages, pages}, uses};
      StepResult result;
      return runner.executor().Run({tokens, std::span(&sequence, 1), {}, nullptr}, &result);
    };
    EXPECT(run({own.Use(0), own.Use(1)}).ok());
    EXPECT(run({own.Use(0), own.Use(1), own.Use(0)}).code() == Code::kInternal);
    EXPECT(run({foreign.Use(0)}).code() == Code::kInternal);
    EXPECT(run({floats.Use(0)}).code() == Code::kInternal);
    EXPECT(run({{nullptr, 1}}).code() == Code::kInternal);
  }
}

TEST(AdaptersLoadBesideSteps) {
  const auto model = MakeModel(kPlain);
  const std::vector<MemoryAdapter> sources = Sources(model->program);
  const std::vector<int32_t> tokens = RandomTokens(20, kPlain.vocabulary, 9);
  std::vector<CpuIsa> isas = Isas();
  isas.push_back(CpuIsa::kReference);
  for (CpuIsa isa : isas) {
    Runner runner(*model, isa, 2, 20);
    const size_t scratch = runner.executor().scratch_bytes();
    const Loaded loaded(runner, sources);
    const Logits want = Feed(runner, 0, tokens, 20, Stacked(loaded));
    std::atomic<bool> done{false};
    std::atomic<int> loads{0};
    std::thread loader([&] {
      while (!done.load() || loads.load() == 0) {
        for (const MemoryAdapter& source : sources) {
          const auto adapter = runner.executor().LoadAdapter(source);
          if (adapter.ok() && adapter.value()->bytes() > 0) ++loads;
        }
      }
    });
    for (int i = 0; i < 10; ++i) EXPECT(Same(Feed(runner, 0, tokens, 3, Stacked(loaded)), want));
    done = true;
    loader.join();
    EXPECT(loads.load() % static_cast<int>(sources.size()) == 0);
    EXPECT_EQ(runner.executor().scratch_bytes(), scratch);
  }
}

TEST(BytesAreThoseOfTheFactors) {
  const auto model = MakeModel(kWide);
  MemoryAdapter source = RandomAdapter(model->program, {16}, 1);
  size_t stored = 0;
  for (const auto& data : source.data_) stored += data.size();
  for (CpuIsa isa : Isas()) {
    Runner runner(*model, isa, 1, 8);
    const size_t bytes = runner.Load(source)->bytes();
    EXPECT(bytes >= stored);
    EXPECT_LE(static_cast<double>(bytes), 1.05 * static_cast<double>(stored) + 20000);
  }
}

HARNESS_MAIN()
