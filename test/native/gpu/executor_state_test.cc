// What a CUDA executor keeps: weights, pages, adapters, twins; what it does without memory; several devices.
// sources: kernels/cuda/*.cu kernels/cuda/check.cc kernels/cuda/compile.cc kernels/cuda/executor.cc
// sources: kernels/cuda/kv_memory.cc kernels/cuda/loaded_adapter.cc kernels/cuda/split.cc
// sources: kernels/cuda/stage.cc kernels/cuda/stage_head.cc kernels/cuda/step_input.cc
// sources: kernels/cuda/weights.cc kernels/reference/*.cc quant/*.cc ops/adapter_check.cc ops/backend.cc
// sources: ops/executor.cc ops/program_check.cc ops/step_check.cc core/dtype.cc core/platform_linux.cc
// sources: core/thread_pool.cc core/cpu_features.cc no_cpu.cc

#include "executor_runner.h"
#include "kernels/cuda/split.h"
#include "spy_driver.h"

using namespace gpu_test;
using namespace cpu_test;

namespace {

size_t FreeBytes(const Drivers& drivers) {
  size_t sum = 0;
  for (const auto& driver : drivers) {
    size_t free_bytes = 0, total_bytes = 0;
    EXPECT(driver->MemoryInfo(&free_bytes, &total_bytes).ok());
    sum += free_bytes;
  }
  return sum;
}

std::vector<MemoryAdapter> Sources(const Program& program) {
  std::vector<MemoryAdapter> sources;
  const std::vector<std::vector<int>> ranks = {{1, 3, 8, 17}, {33, 0, 5}, {64, 2}};
  for (size_t i = 0; i < ranks.size(); ++i)
    sources.push_back(RandomAdapter(program, ranks[i], static_cast<uint32_t>(i + 1)));
  return sources;
}

struct Loaded {
  Loaded(Runner& runner, const std::vector<MemoryAdapter>& sources) {
    for (const MemoryAdapter& source : sources) adapters.push_back(runner.Load(source));
  }
  AdapterUse Use(size_t index, float scale = 1) const { return {adapters[index].get(), scale}; }
  std::vector<std::shared_ptr<const LoadedAdapter>> adapters;
};

std::vector<AdapterUse> Stacked(const Loaded& loaded) {
  return {loaded.Use(0), loaded.Use(1, -0.5f), loaded.Use(2, 0.25f)};
}

Logits Rest(Runner& runner, int slot, const std::vector<int32_t>& tokens, int from) {
  Logits rest;
  for (int position = from; position < static_cast<int>(tokens.size()); ++position)
    rest.push_back(runner.Step({{slot, position, {tokens[static_cast<size_t>(position)]}}})[0]);
  return rest;
}

}  // namespace

TEST(AdaptersAgreeWithTheReference) {
  for (const ModelShape* shape : {&kLlama, &kQwen}) {
    const auto model = MakeModel(*shape);
    const std::vector<MemoryAdapter> sources = Sources(model->program);
    const std::vector<int32_t> tokens = RandomTokens(9, shape->vocabulary, 1);
    Runner reference = MakeReference(*model);
    const Loaded oracle(reference, sources);
    const Logits want = Feed(reference, 0, tokens, 9, Stacked(oracle));
    EXPECT(LogitNmse(Feed(reference, 1, tokens, 9), want) > 0.01);
    Runner runner = MakeRunner(*model, {.terms = 2});
    const Loaded loaded(runner, sources);
    const Logits got = Feed(runner, 0, tokens, 9, Stacked(loaded));
    const double nmse = LogitNmse(got, want);
    std::printf("    %s: NMSE %.2e\n", shape->name, nmse);
    EXPECT_LE(nmse, 5e-4);
    EXPECT(Same(Feed(runner, 2, tokens, 1, Stacked(loaded)), got));
    EXPECT(loaded.adapters[0]->bytes() > 0);
  }
}

TEST(AdaptersMixInABatch) {
  const auto model = MakeModel(kLlama);
  const std::vector<MemoryAdapter> sources = Sources(model->program);
  Runner runner = MakeRunner(*model);
  const Loaded loaded(runner, sources);
  const std::vector<AdapterUse> uses[] = {
      {}, {loaded.Use(0)}, Stacked(loaded), {loaded.Use(1, 2), loaded.Use(0)}};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<Logits> want;
  for (int s = 0; s < 4; ++s) {
    tokens.push_back(RandomTokens(11, kLlama.vocabulary, 20 + static_cast<uint32_t>(s)));
    want.push_back(Feed(runner, s, tokens.back(), 11, uses[s]));
  }
  std::vector<Runner::Piece> pieces;
  for (int s = 0; s < 4; ++s) pieces.push_back({4 + s, 0, tokens[s], uses[s]});
  const Logits all = runner.Step(pieces);
  for (int s = 0; s < 4; ++s) EXPECT(Same({all.begin() + 11 * s, all.begin() + 11 * (s + 1)}, want[s]));
  Runner without = MakeRunner(*model);
  EXPECT(Same(Feed(without, 0, tokens[0], 11), want[0]));
}

TEST(WhatIsWrongWithAnAdapterIsSaid) {
  const auto model = MakeModel(kLlama);
  Runner runner = MakeRunner(*model), other = MakeRunner(*model);
  MemoryAdapter table;
  table.Add({0, 4, 1, DType::kF32}, std::vector<uint8_t>(16), std::vector<uint8_t>(16));
  // The tied table is the head's matrix too; a norm's vector is no linear layer.
  table.factors_[0].matrix = std::get<Head>(model->program.ops.back()).norm.weight;
  EXPECT(runner.executor().LoadAdapter(table).status().code() == Code::kInvalidArgument);
  MemoryAdapter source = RandomAdapter(model->program, {4}, 1);
  source.failing_ = 3;
  EXPECT(runner.executor().LoadAdapter(source).status().code() == Code::kCorruptFile);
  source.failing_ = -1;
  const auto foreign = other.Load(source);
  const AdapterUse use = {foreign.get(), 1};
  const int32_t token = 1;
  const StepSequence sequence = {0, 1, 0, {runner.Pages(0)}, {&use, 1}};
  StepResult result;
  EXPECT(runner.executor().Run({{&token, 1}, {&sequence, 1}, {}, nullptr}, &result).code() ==
         Code::kInternal);
}

// A prefix's pages go to another executor, and to other pages of the same one.
TEST(PagesHoldAPrefix) {
  for (const KvType type : {KvType::kF16, KvType::kInt8}) {
    const auto model = MakeModel(kGemma);
    const RunOptions options = {.kv_type = type};
    const std::vector<int32_t> tokens = RandomTokens(45, kGemma.vocabulary, 5);
    Runner first = MakeRunner(*model, options), second = MakeRunner(*model, options);
    const std::vector<int32_t> prefix(tokens.begin(), tokens.begin() + 40);
    Feed(first, 0, prefix, 40);
    for (int group = 0; group < 2; ++group) {
      std::vector<std::byte> page(first.executor().PageBytes(group)), again(page.size());
      for (int i = 0; i < 3; ++i) {
        const int kept = i < 2 ? kPageTokens : 8;
        first.executor().ReadPage(group, first.Pages(0)[i], kept, page.data());
        second.executor().WritePage(group, second.Pages(3)[i], page.data());
        second.executor().ReadPage(group, second.Pages(3)[i], kPageTokens, again.data());
        EXPECT(again == page);
        first.executor().CopyPage(group, first.Pages(0)[i], first.Pages(7)[i]);
      }
      first.executor().ReadPage(group, first.Pages(0)[0], 0, page.data());
      EXPECT(std::all_of(page.begin(), page.end(), [](std::byte b) { return b == std::byte{0}; }));
    }
    const Logits want = Rest(first, 0, tokens, 40);
    EXPECT(Same(Rest(second, 3, tokens, 40), want));
    EXPECT(Same(Rest(first, 7, tokens, 40), want));
  }
}

// A token of a sequence: one upload, one replayed graph, the head, one download.
TEST(DecodingIsReplayed) {
  const auto model = MakeModel(kLlama);
  const auto spy = std::make_shared<SpyDriver>(NewDrivers()[0]);
  Runner runner = MakeRunner(*model, {}, {spy});
  const auto step = [&](int position, int rows) {
    std::vector<HeadRow> head = {BestOf(rows - 1, 3)};
    runner.RunStep({{0, position, std::vector<int32_t>(static_cast<size_t>(rows), 5)}}, head);
    return spy->TakeCounts();
  };
  std::map<std::string, int> first = step(0, 12), recorded = step(12, 1), replayed = step(13, 1);
  const int head = replayed["Launch"];
  EXPECT(first["BeginCapture"] == 0 && first["Replay"] == 0 && first["Upload"] >= 1);
  EXPECT(recorded["BeginCapture"] == 1 && recorded["Replay"] == 1);
  EXPECT(recorded["Launch"] > head + 3 * 10);  // of three layers
  EXPECT(head > 0 && head <= 6);
  const std::map<std::string, int> expected = {
      {"Upload", 1}, {"Replay", 1}, {"Launch", head}, {"Download", 1}, {"Synchronize", 1}};
  EXPECT(replayed == expected);
  EXPECT_EQ(step(14, 4)["BeginCapture"], 1);  // some guesses: another shape
  EXPECT_EQ(step(18, 1)["BeginCapture"], 1);  // which moved the memory that graphs know
  EXPECT_EQ(step(19, 4)["BeginCapture"], 0);
  EXPECT_EQ(step(23, 1)["BeginCapture"], 0);
  EXPECT_EQ(step(256, 1)["BeginCapture"], 1);  // longer tables
}

// Whatever fails in a step is what Run says, and the next step is as if nothing had been.
TEST(AStepThatFailsLeavesTheRestAlone) {
  const auto model = MakeModel(kLlama);
  const std::vector<int32_t> tokens = RandomTokens(9, kLlama.vocabulary, 1);
  Runner untouched = MakeRunner(*model);
  const Logits want = Feed(untouched, 0, tokens, 9), one = untouched.Step({{0, 9, {1}}});
  for (const char* function : {"Allocate", "AllocatePinned", "Upload", "Fill", "Launch", "BeginCapture",
                               "Replay", "Download", "Synchronize"}) {
    for (const int nth : {0, 7}) {
      const auto spy = std::make_shared<SpyDriver>(NewDrivers()[0]);
      Runner runner = MakeRunner(*model, {}, {spy});
      const auto run = [&](int position, std::vector<int32_t> some) {
        const StepSequence sequence = {0, static_cast<int>(some.size()), position, {runner.Pages(0)}};
        const HeadRow head = BestOf(static_cast<int>(some.size()) - 1);
        StepResult result;
        return runner.executor().Run({some, {&sequence, 1}, {&head, 1}, nullptr}, &result);
      };
      spy->FailAt(function, nth, Code::kInternal);
      Status status = run(0, tokens);
      if (status.ok() && !spy->failed()) status = run(9, {1});
      EXPECT_EQ(status.ok(), !spy->failed());
      if (!status.ok()) EXPECT(status.message() == std::string("the test refuses ") + function);
      spy->FailAt("nothing", 0, Code::kInternal);
      EXPECT(Same(Feed(runner, 0, tokens, 9), want));
      EXPECT(Same(runner.Step({{0, 9, {1}}}), one));
    }
  }
}

TEST(WithoutMemoryForGraphsStepsAreLaunched) {
  const auto model = MakeModel(kLlama);
  const auto spy = std::make_shared<SpyDriver>(NewDrivers()[0]);
  Runner runner = MakeRunner(*model, {}, {spy});
  const Logits want = runner.Step({{0, 0, {1}}});
  Runner other = MakeRunner(*model, {}, {spy});
  spy->FailAt("EndCapture", 0, Code::kOutOfMemory);
  EXPECT(Same(other.Step({{0, 0, {1}}}), want));
  EXPECT(spy->failed());
}

TEST(SlabsComeAndGo) {
  const auto model = MakeModel(kLlama);
  const Drivers drivers = NewDrivers();
  const auto executor = Compile(model->program, model->weights, drivers, ToCompileOptions({}));
  const size_t before = FreeBytes(drivers);
  EXPECT(executor->AddSlab(0, 0, 4).ok());
  EXPECT(executor->AddSlab(0, 1, 4).ok());
  EXPECT(before - FreeBytes(drivers) >= 8 * executor->PageBytes(0));
  const int32_t token = 3, pages[] = {6};
  const StepSequence sequence = {0, 1, 0, {pages}};
  const HeadRow head = BestOf(0);
  const StepInput input = {{&token, 1}, {&sequence, 1}, {&head, 1}, nullptr};
  StepResult result, again;
  EXPECT(executor->Run(input, &result).ok());
  executor->RemoveSlab(0, 1);
  EXPECT(executor->Run(input, &again).code() == Code::kInternal);  // its page is gone
  EXPECT(executor->AddSlab(0, 1, 4).ok());
  EXPECT(executor->Run(input, &again).ok());
  EXPECT_EQ(again.head[0].log_sum_exp, result.head[0].log_sum_exp);
  const size_t used = FreeBytes(drivers);
  executor->RemoveSlab(0, 0);
  executor->RemoveSlab(0, 1);
  EXPECT(FreeBytes(drivers) - used >= 8 * executor->PageBytes(0));
}

TEST(ATwinSharesTheWeights) {
  const auto model = MakeModel(kLlama);
  const std::vector<int32_t> tokens = RandomTokens(20, kLlama.vocabulary, 1);
  const Drivers drivers = NewDrivers();
  auto first = std::make_unique<Runner>(MakeRunner(*model, {}, drivers));
  const Logits want = Feed(*first, 0, tokens, 20);
  const size_t before = FreeBytes(drivers);
  Runner twin(*first, 8);
  const size_t pages = size_t{Runner::kSlabs} * Runner::kSlabPages * twin.executor().PageBytes(0);
  EXPECT(twin.executor().weight_bytes() > 100000);
  EXPECT_LE(before - FreeBytes(drivers), twin.executor().scratch_bytes() + pages + 20000);
  first.reset();  // the weights stay
  EXPECT(Same(Feed(twin, 0, tokens, 7), want));
}

TEST(LoadingStopsAndFails) {
  auto model = MakeModel(kLlama);
  const Drivers drivers = NewDrivers();
  const size_t before = FreeBytes(drivers);
  CompileOptions options = ToCompileOptions({});
  size_t read = 0, expected = 0;
  for (const WeightDesc& desc : model->program.weights)
    expected += RowBytes(desc.dtype, desc.cols) * static_cast<size_t>(desc.rows);
  options.on_progress = [&](size_t bytes) {
    read += bytes;
    return true;
  };
  {
    auto compiled = CompileCuda(model->program, drivers, options);
    const size_t weights = compiled.value()->weight_bytes(), scratch = compiled.value()->scratch_bytes();
    EXPECT(weights > 0 && scratch > 0);
    EXPECT_EQ(FreeBytes(drivers), before);  // sizes cost nothing
    EXPECT(compiled.value()->LoadWeights(model->weights).ok());
    EXPECT_EQ(read, expected);
    EXPECT(compiled.value()->weight_bytes() == weights && compiled.value()->scratch_bytes() == scratch);
    EXPECT_LE(before - FreeBytes(drivers), weights + scratch + 4096);
  }
  EXPECT_EQ(FreeBytes(drivers), before);
  const auto load = [&] {
    return CompileCuda(model->program, drivers, options).value()->LoadWeights(model->weights);
  };
  options.on_progress = [](size_t) { return false; };
  EXPECT(load().code() == Code::kAborted);
  options.on_progress = nullptr;
  for (const WeightId failing : {0, 1, 2}) {
    model->weights.failing_ = failing;
    EXPECT(load().code() == Code::kCorruptFile);
    EXPECT_EQ(FreeBytes(drivers), before);
  }
}

TEST(WhatDoesNotFitIsRefused) {
  if (!Emulated()) return;  // a GPU has the memory it has
  const auto model = MakeModel(kLlama);
  const auto sizes = CompileCuda(model->program, NewDrivers(), ToCompileOptions({}));
  const size_t weights = sizes.value()->weight_bytes(), scratch = sizes.value()->scratch_bytes();
  for (const size_t memory : {scratch / 2, scratch + weights / 2, scratch + weights + 1000}) {
    const Drivers drivers = NewDrivers(1, memory);
    {
      auto compiled = CompileCuda(model->program, drivers, ToCompileOptions({}));
      EXPECT(compiled.ok());
      EXPECT(compiled.value()->LoadWeights(model->weights).code() == Code::kOutOfMemory);
    }
    EXPECT_EQ(FreeBytes(drivers), memory);
  }
  // Without room for another slab, the steps go on with those there are.
  const Drivers drivers = NewDrivers(1, size_t{24} << 20);
  const auto executor = Compile(model->program, model->weights, drivers, ToCompileOptions({}));
  EXPECT(executor->AddSlab(0, 0, 16).ok());
  const int32_t tokens[] = {3, 4}, pages[] = {1};
  const StepSequence sequence = {0, 2, 0, {pages}};
  const HeadRow head = BestOf(1);
  const StepInput input = {tokens, {&sequence, 1}, {&head, 1}, nullptr};
  StepResult result, again;
  EXPECT(executor->Run(input, &result).ok());
  const size_t before = FreeBytes(drivers);
  const Status refused = executor->AddSlab(0, 1, 100000);
  EXPECT(refused.code() == Code::kOutOfMemory);
  EXPECT(refused.message().find("100000 pages") != std::string::npos);
  EXPECT_EQ(FreeBytes(drivers), before);
  EXPECT(executor->Run(input, &again).ok());
  EXPECT_EQ(again.head[0].log_sum_exp, result.head[0].log_sum_exp);
  // Nor without memory for the adapter.
  const MemoryAdapter source = RandomAdapter(model->program, {256}, 1);
  int slab = 1;
  while (executor->AddSlab(0, slab, 16).ok()) ++slab;
  EXPECT(executor->LoadAdapter(source).status().code() == Code::kOutOfMemory);
  EXPECT(executor->Run(input, &again).ok());
  EXPECT_EQ(again.head[0].log_sum_exp, result.head[0].log_sum_exp);
}

TEST(WhatCannotRunIsSaid) {
  const auto odd = MakeModel(kPlain);  // heads of 20
  auto compiled = CompileCuda(odd->program, NewDrivers(), ToCompileOptions({}));
  EXPECT(compiled.status().code() == Code::kUnsupportedModel);
  auto broken = MakeModel(kLlama);
  std::get<Embed>(broken->program.ops[0]).out = 99;
  EXPECT(CompileCuda(broken->program, NewDrivers(), ToCompileOptions({})).status().code() == Code::kInternal);
  EXPECT(CompileCuda(odd->program, {}, ToCompileOptions({})).status().code() == Code::kInvalidArgument);
  const auto model = MakeModel(kLlama);
  Runner runner = MakeRunner(*model);
  StepResult result;
  const auto run = [&](std::vector<int32_t> tokens, StepSequence sequence, HeadRow head) {
    sequence.pages = {runner.Pages(0)};
    return runner.executor().Run({tokens, {&sequence, 1}, {&head, 1}, nullptr}, &result).code();
  };
  EXPECT(run({1}, {0, 1, 0}, BestOf(0)) == Code::kOk);
  EXPECT(run({kLlama.vocabulary}, {0, 1, 0}, BestOf(0)) == Code::kInternal);
  EXPECT(run({1}, {0, 2, 0}, BestOf(0)) == Code::kInternal);
  EXPECT(run({1, 2}, {0, 1, 0}, BestOf(0)) == Code::kInternal);
  EXPECT(run({1}, {0, 1, 0}, BestOf(1)) == Code::kInternal);
  EXPECT(run(std::vector<int32_t>(65, 1), {0, 65, 0}, BestOf(0)) == Code::kInternal);
}

TEST(LayersAreSplitByMemory) {
  const auto model = MakeModel(kGemma);
  const Program& program = model->program;
  const auto begins = [&](std::vector<size_t> memory) { return cuda::SplitOps(program, memory); };
  EXPECT_EQ(begins({100}).size(), size_t{1});
  const std::vector<int> even = begins({100, 100}), first = begins({300, 100}), last = begins({100, 300});
  EXPECT(even.size() == 2 && first.size() == 2 && last.size() == 2);
  EXPECT(last[1] < even[1] && even[1] < first[1]);
  for (const int begin : {even[1], first[1], last[1]})
    EXPECT(cuda::LiveValues(program, begin) == std::vector<ValueId>{0});
  const std::vector<int> many = begins(std::vector<size_t>(8, 100));
  EXPECT(many.size() > 4);
  for (size_t i = 1; i < many.size(); ++i) EXPECT(many[i] > many[i - 1]);
}

TEST(SeveralDevicesGiveTheSameBits) {
  for (const ModelShape* shape : {&kLlama, &kGemma}) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(40, shape->vocabulary, 9);
    const std::vector<int32_t> few(tokens.begin(), tokens.begin() + 7);
    const std::vector<MemoryAdapter> sources = Sources(model->program);
    Runner one = MakeRunner(*model);
    const Loaded on_one(one, sources);
    const Logits want = Feed(one, 0, tokens, 40), adapted = Feed(one, 1, few, 7, Stacked(on_one));
    for (const int count : {2, 3}) {
      Drivers drivers = NewDrivers(count);
      Runner several = MakeRunner(*model, {}, drivers);
      for (const auto& driver : drivers) EXPECT(FreeBytes({driver}) < (size_t{512} << 20));
      EXPECT(Same(Feed(several, 0, tokens, 40), want));
      EXPECT(Same(Feed(several, 2, few, 1), {want.begin(), want.begin() + 7}));
      const Loaded on_several(several, sources);
      EXPECT(Same(Feed(several, 1, few, 7, Stacked(on_several)), adapted));
      // Pages mean the same.
      for (int group = 0; group < static_cast<int>(model->program.kv_groups.size()); ++group) {
        std::vector<std::byte> a(one.executor().PageBytes(group)), b(several.executor().PageBytes(group));
        EXPECT_EQ(a.size(), b.size());
        for (int i = 0; i < 3; ++i) {
          const int kept = i < 2 ? kPageTokens : 8;
          one.executor().ReadPage(group, one.Pages(0)[i], kept, a.data());
          several.executor().ReadPage(group, several.Pages(0)[i], kept, b.data());
          EXPECT(a == b);
          several.executor().WritePage(group, several.Pages(5)[i], a.data());
          several.executor().CopyPage(group, several.Pages(5)[i], several.Pages(6)[i]);
        }
      }
      const std::vector<int32_t> next = {1};
      EXPECT(Same(several.Step({{6, 40, next}}), one.Step({{0, 40, next}})));
    }
  }
}

HARNESS_MAIN()
