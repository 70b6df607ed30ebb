// The CPU executor against the reference on small random programs, and the laws of ops/step.h.

#include <algorithm>
#include <memory>
#include <mutex>

#include "cpu_test_runner.h"
#include "executor_expectations.h"
#include "harness.h"

using namespace tokenmill;
using namespace cpu_test;

// Whole programs: errors of the int8 activations of several layers add up, and random models amplify them, so
// the bound is wider than a single product's. Programs with plain weights differ by the f16 of the cache
// only.
TEST(ProgramsAgreeWithTheReference) {
  const int length = harness::Short() ? 20 : 70;
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 70);
    const auto want = Feed(reference, 0, tokens, 70);
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 70);
      const auto got = Feed(runner, 0, tokens, 70);
      const double nmse = LogitNmse(got, want);
      const bool bf16 = shape == &kBf16 && isa == CpuIsa::kAvx512Bf16;  // rounds activations: cpu_bf16_test
      const bool plain = (shape == &kPlain || shape == &kBf16) && !bf16;
      std::printf("    %s: NMSE %.2e\n", shape->name, nmse);
      EXPECT_LE(nmse, plain ? 1e-6 : 3e-3);
    }
  }
}

// With a second term per activation, rounding them is no longer what separates the two.
TEST(TwoTermsAreNearlyExact) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &kQwen, &kPhi}) {
    if (harness::Short() && shape == &kGemma) continue;
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(40, shape->vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 40);
    const auto want = Feed(reference, 0, tokens, 40);
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 40, 5, 2), chunked(*model, isa, 1, 40, 3, 2);
      const auto got = Feed(runner, 0, tokens, 40);
      EXPECT_LE(LogitNmse(got, want), 1e-6);
      EXPECT(Same(Feed(chunked, 0, tokens, 7), got));
    }
  }
}

// Keys and values in 8 bits: what separates the two is a level that a last bit tips over here and there.
TEST(Int8KvAgreesWithTheReference) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &kPlain, &kPhi}) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(70, shape->vocabulary, 1);
    Runner reference(*model, CpuIsa::kReference, 2, 70, 5, 2, KvType::kInt8);
    Runner unrounded(*model, CpuIsa::kReference, 2, 70);
    const auto want = Feed(reference, 0, tokens, 70);
    const double rounding = LogitNmse(want, Feed(unrounded, 0, tokens, 70));
    EXPECT(rounding > 0);
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 70, 5, 2, KvType::kInt8),
          chunked(*model, isa, 1, 40, 3, 2, KvType::kInt8);
      const auto got = Feed(runner, 0, tokens, 70);
      const double nmse = LogitNmse(got, want);
      std::printf("    %s: NMSE %.2e, of rounding %.2e\n", shape->name, nmse, rounding);
      EXPECT_LE(nmse, 0.3 * rounding);
      EXPECT(Same(Feed(chunked, 0, tokens, 7), got));
      Runner halves(*model, isa, 1, 70);
      EXPECT(runner.executor().PageBytes(0) * 10 < halves.executor().PageBytes(0) * 7);
    }
  }
}

TEST(ChunksAndThreadsDoNotShow) {
  for (CpuIsa isa : Isas()) {
    for (const ModelShape* shape : {&kLlama, &kGemma, &kPlain, &kWide}) {
      if (harness::Short() && shape != &kPlain) continue;
      const auto model = MakeModel(*shape);
      const int length = harness::Short() ? 70 : shape == &kWide ? 530 : 280;
      const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 2);
      Runner one(*model, isa, 1, 64);
      const auto want = Feed(one, 0, tokens, 64);
      for (int threads : {1, 2, 3}) {
        for (size_t chunk : {size_t{1}, size_t{7}, size_t{16}, size_t{64}}) {
          const bool small = shape == &kLlama || shape == &kPlain;
          if ((threads != 2 && chunk != 7) || (chunk == 1 && !small)) continue;
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
      if (harness::Short() && shape == &kGemma) continue;
      const auto model = MakeModel(*shape);
      const std::vector<int32_t> a = RandomTokens(50, shape->vocabulary, 3),
                                 b = RandomTokens(50, shape->vocabulary, 4);
      Runner alone(*model, isa, 2, 128);
      const auto want_a = Feed(alone, 0, a, 50), want_b = Feed(alone, 1, b, 50);
      Runner both(*model, isa, 2, 128);
      std::vector<std::vector<float>> got_a, got_b;
      int done_a = 0, done_b = 0;
      for (int step = 0; done_a < 50; ++step) {
        const int take_a = std::min(50 - done_a, 1 + step % 5 * 4), take_b = std::min(50 - done_b, 3);
        std::vector<Runner::Piece> pieces = {{2, done_a, {a.begin() + done_a, a.begin() + done_a + take_a}}};
        if (take_b > 0)
          pieces.insert(pieces.begin(), {3, done_b, {b.begin() + done_b, b.begin() + done_b + take_b}});
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

// Products of bf16 are their own, but not at high precision.
TEST(IsasGiveTheSameBits) {
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(harness::Short() ? 15 : 40, shape->vocabulary, 5);
    std::vector<std::vector<float>> first;
    for (CpuIsa isa : Isas()) {
      Runner runner(*model, isa, 2, 64, 5, shape == &kBf16 ? 2 : 1);
      const auto got = Feed(runner, 0, tokens, first.empty() ? 40 : 13);
      if (first.empty()) first = got;
      EXPECT(Same(got, first));
    }
  }
}

void ExpectHeadGivesWhatIsAsked(const ModelShape& shape) {
  const auto model = MakeModel(shape);
  const std::vector<int32_t> tokens = RandomTokens(12, shape.vocabulary, 6);
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
    for (int i = 0; i < 12; ++i) ExpectHead(head[i], result.head[i], logits[i]);
  }
}

TEST(HeadGivesWhatIsAsked) { ExpectHeadGivesWhatIsAsked(kGemma); }

// Several threads find the best of several runs of a larger vocabulary.
TEST(HeadMergesWhatThreadsFound) {
  ModelShape shape = kGemma;
  shape.vocabulary = 5000;
  ExpectHeadGivesWhatIsAsked(shape);
}

// A token whose embedding is NaN spoils its own sequence from there on, and nothing else.
TEST(NanStaysInItsSequence) {
  auto model = MakeModel(kLlama);
  model->program.ops.back() =
      Head{0, std::get<Head>(model->program.ops.back()).norm,
           model->weights.Add(&model->program, DType::kQ8_0, kLlama.vocabulary, kLlama.width, 0, 0.1f), 0};
  const PoisonedWeights source(model->weights, kLlama.width);
  const PoisonedSteps steps(kLlama.vocabulary);
  for (CpuIsa isa : Isas()) {
    CompileOptions options;
    options.threads = 2;
    options.pool = &ThreadPool::Process();
    auto executor = CompileCpu(model->program, source, isa, options);
    EXPECT(executor.ok());
    EXPECT(executor.value()->AddSlab(0, 0, 8).ok());
    const int32_t pages[2][2] = {{3, 1}, {5, 6}};
    const auto run = [&](const std::vector<int32_t>& second) {
      std::vector<int32_t> tokens = steps.clean;
      tokens.insert(tokens.end(), second.begin(), second.end());
      std::vector<StepSequence> sequences = {{0, 20, 0, {pages[0]}}, {20, 20, 0, {pages[1]}}};
      StepResult result;
      const StepInput input = {tokens, sequences, steps.head, nullptr};
      EXPECT(executor.value()->Run(input, &result).ok());
      return result;
    };
    ExpectOnlyItsSequence(run(steps.spoiled), run(steps.bad));
  }
}

TEST(LoadingStopsAndFails) {
  if (Isas().empty()) return;
  const CpuIsa isa = Isas().front();
  auto model = MakeModel(kLlama);
  CompileOptions options;
  options.threads = 2;
  options.pool = &ThreadPool::Process();
  std::mutex mutex;
  size_t read = 0, expected = 0;
  for (const WeightDesc& desc : model->program.weights)
    expected += RowBytes(desc.dtype, desc.cols) * static_cast<size_t>(desc.rows);
  options.on_progress = [&](size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    read += bytes;
    return true;
  };
  auto whole = CompileCpu(model->program, model->weights, isa, options);
  EXPECT(whole.ok());
  EXPECT_EQ(read, expected);
  EXPECT(whole.value()->weight_bytes() > 0 && whole.value()->scratch_bytes() > 0);
  options.on_progress = [](size_t) { return false; };
  EXPECT(CompileCpu(model->program, model->weights, isa, options).status().code() == Code::kAborted);
  options.on_progress = nullptr;
  for (WeightId failing : {0, 1, 2}) {
    model->weights.failing_ = failing;
    EXPECT(CompileCpu(model->program, model->weights, isa, options).status().code() == Code::kCorruptFile);
  }
}

HARNESS_MAIN()
