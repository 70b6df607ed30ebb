// The CUDA executor against the reference on small random programs, and the laws of ops/step.h.
// sources: kernels/cuda/*.cu kernels/cuda/check.cc kernels/cuda/compile.cc kernels/cuda/executor.cc
// sources: kernels/cuda/kv_memory.cc kernels/cuda/loaded_adapter.cc kernels/cuda/split.cc
// sources: kernels/cuda/stage.cc kernels/cuda/stage_head.cc kernels/cuda/step_input.cc
// sources: kernels/cuda/weights.cc kernels/reference/*.cc quant/*.cc ops/adapter_check.cc ops/backend.cc
// sources: ops/executor.cc ops/program_check.cc ops/step_check.cc core/dtype.cc core/platform_linux.cc
// sources: core/thread_pool.cc core/cpu_features.cc no_cpu.cc

#include "executor_runner.h"

using namespace gpu_test;
using namespace cpu_test;

namespace {

const ModelShape& Plain() {
  static const ModelShape shape = [] {
    ModelShape plain = kPlain;
    plain.head_dim = 16;
    return plain;
  }();
  return shape;
}

}  // namespace

// Programs with f32 and 16-bit weights differ by the roundings of the cache and of activations to f16 only.
TEST(ProgramsAgreeWithTheReference) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &kQwen, &Plain(), &kPhi, &kWide, &kBf16}) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(16, shape->vocabulary, 1);
    Runner reference = MakeReference(*model);
    const Logits want = Feed(reference, 0, tokens, 16);
    for (const int terms : {1, 2}) {
      Runner runner = MakeRunner(*model, {.terms = terms});
      const double nmse = LogitNmse(Feed(runner, 0, tokens, 16), want);
      std::printf("    %s, %d terms: NMSE %.2e\n", shape->name, terms, nmse);
      const bool plain = shape == &Plain() || (shape == &kBf16 && terms == 2);
      EXPECT_LE(nmse, plain ? 1e-6 : 5e-4);
    }
  }
}

TEST(EveryFormatAgreesWithTheReference) {
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_0, DType::kQ5_1, DType::kQ5_K,
                           DType::kQ6_K, DType::kQ8_0, DType::kF16, DType::kBF16, DType::kF32}) {
    const auto model = MakeModel(gpu_test::ShapeOf(type, type));
    const std::vector<int32_t> tokens = RandomTokens(6, kLlama.vocabulary, 1);
    Runner reference = MakeReference(*model);
    const Logits want = Feed(reference, 0, tokens, 6);
    for (const int terms : {1, 2}) {
      Runner runner = MakeRunner(*model, {.terms = terms});
      const Logits got = Feed(runner, 0, tokens, 6);
      const double nmse = LogitNmse(got, want);
      std::printf("    %s, %d terms: NMSE %.2e\n", InfoOf(type).name, terms, nmse);
      EXPECT_LE(nmse, type == DType::kF32 || type == DType::kF16 || terms == 2 ? 1e-6 : 5e-4);
      if (terms == 1) EXPECT(Same(Feed(runner, 1, tokens, 1), got));
    }
  }
}

// One row at a time is replayed from graphs, whole chunks are launched.
TEST(ChunksDoNotShow) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &Plain(), &kWide}) {
    const auto model = MakeModel(*shape);
    const int length = shape == &kWide ? 310 : 36;
    const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 2);
    Runner one = MakeRunner(*model);
    const Logits want = Feed(one, 0, tokens, 64);
    for (const size_t chunk : {size_t{1}, size_t{3}, size_t{16}}) {
      if (shape == &kWide && chunk != 16) continue;
      EXPECT(Same(Feed(one, static_cast<int>(chunk) % 5 + 1, tokens, chunk), want));
    }
  }
}

TEST(RowsDoNotDependOnTheBatch) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &kQwen}) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> a = RandomTokens(36, shape->vocabulary, 3),
                               b = RandomTokens(36, shape->vocabulary, 4);
    Runner runner = MakeRunner(*model);
    const Logits want_a = Feed(runner, 0, a, 36), want_b = Feed(runner, 1, b, 36);
    Logits got_a, got_b;
    int done_a = 0, done_b = 0;
    for (int step = 0; done_a < 36; ++step) {
      const int take_a = std::min(36 - done_a, 1 + step % 5 * 4), take_b = std::min(36 - done_b, 3);
      std::vector<Runner::Piece> pieces = {{2, done_a, {a.begin() + done_a, a.begin() + done_a + take_a}}};
      if (take_b > 0)
        pieces.insert(pieces.begin(), {3, done_b, {b.begin() + done_b, b.begin() + done_b + take_b}});
      const Logits logits = runner.Step(pieces);
      got_b.insert(got_b.end(), logits.begin(), logits.begin() + take_b);
      got_a.insert(got_a.end(), logits.begin() + take_b, logits.end());
      done_a += take_a, done_b += take_b;
    }
    EXPECT(Same(got_a, want_a));
    EXPECT(Same(got_b, {want_b.begin(), want_b.begin() + done_b}));
  }
}

// As many sequences as buckets of graphs tell apart, each of a length of its own.
TEST(DecodedBatchesOfAnySizeAreTheSame) {
  const auto model = MakeModel(kLlama);
  constexpr int kSequences = 11, kLength = 9;
  Runner runner = MakeRunner(*model, {.max_rows = 12});
  std::vector<std::vector<int32_t>> tokens;
  std::vector<Logits> want(kSequences), got(kSequences);
  for (int s = 0; s < kSequences; ++s) {
    tokens.push_back(RandomTokens(kLength, kLlama.vocabulary, 10 + static_cast<uint32_t>(s)));
    want[s] = Feed(runner, s, tokens[s], kLength);
  }
  for (int step = 0; step < kLength + kSequences; ++step) {
    std::vector<Runner::Piece> pieces;
    std::vector<int> of;
    for (int s = 0; s < kSequences; ++s) {
      const int position = step - s;
      if (position < 0 || position >= kLength) continue;
      pieces.push_back({s, position, {tokens[s][position]}});
      of.push_back(s);
    }
    if (pieces.empty()) continue;
    const Logits logits = runner.Step(pieces);
    for (size_t i = 0; i < of.size(); ++i) got[of[i]].push_back(logits[i]);
  }
  for (int s = 0; s < kSequences; ++s) EXPECT(Same(got[s], want[s]));
}

// What is rounded to 8 bits differs by what activations lose as f16, about 2^-12 of it: a few levels in a
// hundred are another one, each by one level, where rounding itself is off by a third of a level (rms).
TEST(Int8KvAgreesWithTheReference) {
  for (const ModelShape* shape : {&kLlama, &kGemma, &kPhi}) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(24, shape->vocabulary, 1);
    const RunOptions options = {.terms = 2, .kv_type = KvType::kInt8};
    Runner reference = MakeReference(*model, options), unrounded = MakeReference(*model);
    const Logits want = Feed(reference, 0, tokens, 24);
    const double rounding = LogitNmse(want, Feed(unrounded, 0, tokens, 24));
    Runner runner = MakeRunner(*model, options);
    const Logits got = Feed(runner, 0, tokens, 24);
    const double nmse = LogitNmse(got, want);
    std::printf("    %s: NMSE %.2e, of rounding %.2e\n", shape->name, nmse, rounding);
    EXPECT_LE(nmse, 0.5 * rounding);
    EXPECT_LE(nmse, 5e-4);
    EXPECT(Same(Feed(runner, 1, tokens, 7), got));
    EXPECT(Same(Feed(runner, 2, tokens, 1), got));
    Runner halves = MakeRunner(*model);
    EXPECT(runner.executor().PageBytes(0) * 10 < halves.executor().PageBytes(0) * 7);
  }
}

namespace {

void ExpectHeadGivesWhatIsAsked(int vocabulary, int candidates_step) {
  ModelShape shape = kLlama;
  shape.vocabulary = vocabulary;
  shape.softcap = 20;
  const auto model = MakeModel(shape);
  const std::vector<int32_t> tokens = RandomTokens(12, vocabulary, 6);
  Runner runner = MakeRunner(*model);
  const Logits logits = Feed(runner, 0, tokens, 12);
  const std::vector<LogitEdit> edits = {{3, 1.5f, 0.25f}, {100, 2, 0}, {200, 1, -30}};
  const std::vector<int32_t> targets = {5, 200, 5};
  std::vector<HeadRow> head(12);
  for (int i = 0; i < 12; ++i) {
    head[i].row = i;
    head[i].candidates = i * candidates_step;
    head[i].raw_top = i;
    if (i % 2 == 0) head[i].edits = edits, head[i].targets = targets;
  }
  const StepResult result = runner.RunStep({{1, 0, tokens}}, head);
  for (int i = 0; i < 12; ++i) ExpectHead(head[i], result.head[i], logits[i]);
}

}  // namespace

TEST(HeadGivesWhatIsAsked) { ExpectHeadGivesWhatIsAsked(301, 40); }

// Lists of more than kHeadListMax tokens are the host's.
TEST(HeadGivesLongLists) { ExpectHeadGivesWhatIsAsked(5000, 150); }

TEST(NanStaysInItsSequence) {
  auto model = MakeModel(kLlama);
  model->program.ops.back() =
      Head{0, std::get<Head>(model->program.ops.back()).norm,
           model->weights.Add(&model->program, DType::kQ8_0, kLlama.vocabulary, kLlama.width, 0, 0.1f), 0};
  const PoisonedWeights source(model->weights, kLlama.width);
  const PoisonedSteps steps(kLlama.vocabulary);
  Runner runner(model->program, Compile(model->program, source, NewDrivers(), ToCompileOptions({})));
  const auto run = [&](const std::vector<int32_t>& second) {
    return runner.RunStep({{0, 0, steps.clean}, {1, 0, second}}, steps.head);
  };
  ExpectOnlyItsSequence(run(steps.spoiled), run(steps.bad));
}

HARNESS_MAIN()
