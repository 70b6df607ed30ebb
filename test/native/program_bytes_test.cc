// Programs as bytes: there and back, and damaged.

#include "ops/program_bytes.h"

#include <random>

#include "cpu_test_models.h"
#include "harness.h"
#include "ops/program_check.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

std::vector<std::byte> BytesOf(const ModelShape& shape) { return EncodeProgram(MakeModel(shape)->program); }

// What a damaged program comes to: an error, or one that is as good as any.
void CheckDamaged(const std::vector<std::byte>& bytes, int* accepted) {
  const Result<Program> program = DecodeProgram(bytes);
  if (!program.ok()) {
    EXPECT(program.status().code() == Code::kInternal || program.status().code() == Code::kIncompatible);
    return;
  }
  ++*accepted;
  EXPECT(CheckProgram(program.value()).ok());
  EXPECT(EncodeProgram(program.value()) == bytes);
  CompileOptions options;
  options.max_rows = 2;
  EXPECT(CompileReference(program.value(), options).ok());
}

}  // namespace

TEST(EveryProgramIsTheSameThereAndBack) {
  for (const ModelShape* shape : kShapes) {
    const Program program = MakeModel(*shape)->program;
    const std::vector<std::byte> bytes = EncodeProgram(program);
    const Result<Program> decoded = DecodeProgram(bytes);
    EXPECT(decoded.ok());
    if (!decoded.ok()) continue;
    EXPECT(EncodeProgram(decoded.value()) == bytes);
    EXPECT_EQ(decoded.value().ops.size(), program.ops.size());
    EXPECT_EQ(decoded.value().weights.back().name, program.weights.back().name);
    EXPECT_EQ(decoded.value().kv_groups.size(), program.kv_groups.size());
    EXPECT(decoded.value().ropes[1].frequencies == program.ropes[1].frequencies);
    for (size_t i = 0; i < program.ops.size(); ++i)
      EXPECT_EQ(decoded.value().ops[i].index(), program.ops[i].index());
  }
}

TEST(AFieldThatChangesChangesTheBytes) {
  const Program original = MakeModel(kGemma)->program;
  const auto differs = [&](auto change) {
    Program program = original;
    change(&program);
    return EncodeProgram(program) != EncodeProgram(original);
  };
  EXPECT(differs([](Program* p) { std::get<Embed>(p->ops[0]).scale = 3; }));
  EXPECT(differs([](Program* p) { std::get<NormProject>(p->ops[1]).norm.epsilon = 1; }));
  EXPECT(differs([](Program* p) { std::get<NormProject>(p->ops[1]).projections[2].bias = 0; }));
  EXPECT(differs([](Program* p) { std::get<RopeWriteKv>(p->ops[2]).k_norm.weight = kNone; }));
  EXPECT(differs([](Program* p) { std::get<PagedAttention>(p->ops[3]).softcap = 1; }));
  EXPECT(differs([](Program* p) { std::get<ProjectAdd>(p->ops[4]).post_norm.weight = kNone; }));
  EXPECT(differs([](Program* p) { std::get<GatedMlp>(p->ops[5]).activation = Activation::kSilu; }));
  EXPECT(differs([](Program* p) { std::get<Head>(p->ops.back()).softcap = 1; }));
  EXPECT(differs([](Program* p) { p->ropes[0].magnitude = 2; }));
  EXPECT(differs([](Program* p) { p->ropes[0].style = RopeStyle::kInterleaved; }));
  EXPECT(differs([](Program* p) { p->kv_groups[1].window = 1; }));
}

TEST(WhatIsCutOffOrLongerIsRefused) {
  const std::vector<std::byte> bytes = BytesOf(kPlain);
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT(!DecodeProgram(std::span(bytes).first(length)).ok());
  std::vector<std::byte> longer = bytes;
  longer.push_back({});
  EXPECT(!DecodeProgram(longer).ok());
}

TEST(AnotherVersionIsRefusedAsSuch) {
  std::vector<std::byte> bytes = BytesOf(kLlama);
  bytes[4] ^= std::byte{2};
  EXPECT(DecodeProgram(bytes).status().code() == Code::kIncompatible);
}

TEST(EachByteChangedGivesAnErrorOrAProgramThatIsAsGood) {
  const std::vector<std::byte> bytes = BytesOf(kPlain);
  int accepted = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint8_t flip : {0x01, 0x02, 0x10, 0x80, 0xff}) {
      std::vector<std::byte> damaged = bytes;
      damaged[at] ^= std::byte{flip};
      CheckDamaged(damaged, &accepted);
    }
  }
  EXPECT(accepted > 0);  // numbers such as a norm's epsilon may be any
}

TEST(ManyBytesChangedGiveAnErrorOrAProgramThatIsAsGood) {
  std::mt19937 engine(7);
  int accepted = 0;
  for (const ModelShape* shape : {&kLlama, &kGemma, &kQwen}) {
    const std::vector<std::byte> bytes = BytesOf(*shape);
    for (int round = 0; round < 2000; ++round) {
      std::vector<std::byte> damaged = bytes;
      const size_t changes = 1 + engine() % 8;
      for (size_t i = 0; i < changes; ++i) damaged[engine() % damaged.size()] = static_cast<std::byte>(engine());
      const size_t begin = engine() % damaged.size();
      if (round % 4 == 0) damaged.erase(damaged.begin() + static_cast<long>(begin), damaged.end());
      if (round % 4 == 1) damaged.insert(damaged.end(), damaged.begin() + static_cast<long>(begin), damaged.end());
      CheckDamaged(damaged, &accepted);
    }
  }
}

TEST(ProgramsWhosePartsDoNotFitAreRefused) {
  const auto refused = [](auto change) {
    Program program = MakeModel(kLlama)->program;
    change(&program);
    return !DecodeProgram(EncodeProgram(program)).ok();
  };
  EXPECT(!refused([](Program*) {}));
  EXPECT(refused([](Program* p) { std::get<Embed>(p->ops[0]).out = 99; }));
  EXPECT(refused([](Program* p) { std::get<NormProject>(p->ops[1]).projections[0].matrix = kNone; }));
  EXPECT(refused([](Program* p) { p->kv_layers[1].index = 3; }));
  EXPECT(refused([](Program* p) { p->kv_layers[1].kv_heads = 1 << 30; }));
  EXPECT(refused([](Program* p) { p->values[5].width = -1; }));
  EXPECT(refused([](Program* p) { p->vocabulary += 1; }));
  EXPECT(refused([](Program* p) { p->weights[0].cols += 1; }));
  EXPECT(refused([](Program* p) { p->ropes[0].dims = 64; }));
  EXPECT(refused([](Program* p) { p->kv_groups.resize(3, {0, 1}); }));
}

HARNESS_MAIN()
