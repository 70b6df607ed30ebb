// The table between the engine and a backend's library, over a real one (library/reference_device.cc): whatever the
// reference executor does, it does the same behind the table.

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include "adapter_test_util.h"
#include "cpu_test_runner.h"
#include "ops/backend_call.h"
#include "ops/backend_client.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

std::shared_ptr<const Backend> TheBackend() {
  auto backend = Backend::Open(TOKENMILL_TEST_LIBRARY);
  if (!backend.ok()) std::printf("    %s\n", backend.status().message().c_str());
  return std::move(backend).value();
}

class Mode {
 public:
  explicit Mode(const char* mode) { setenv("TOKENMILL_TEST_DEVICE", mode, 1); }
  ~Mode() { unsetenv("TOKENMILL_TEST_DEVICE"); }
};

CompileOptions Options(KvType kv_type = KvType::kF16) {
  CompileOptions options;
  options.max_rows = 24;
  options.max_head_rows = 3;
  options.threads = 2;
  options.kv_type = kv_type;
  options.pool = &ThreadPool::Process();
  return options;
}

constexpr int kDevice[] = {0};

// The reference executor, and the same behind the table; without weights.
struct Pair {
  explicit Pair(const Program& program, const CompileOptions& options = Options())
      : direct(CompileReference(program, options).value()),
        client(TheBackend()->Compile(program, kDevice, options).value()) {}
  std::unique_ptr<Executor> direct, client;
};

bool Same(const Candidate& a, const Candidate& b) {
  return a.token == b.token && SameBits(&a.logit, &b.logit, 1) && SameBits(&a.raw, &b.raw, 1);
}

bool Same(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) { return Same(x, y); });
}

bool Same(const StepResult& a, const StepResult& b) {
  if (a.head.size() != b.head.size()) return false;
  for (size_t i = 0; i < a.head.size(); ++i) {
    const HeadResult &x = a.head[i], &y = b.head[i];
    if (x.finite != y.finite || x.targets.size() != y.targets.size()) return false;
    if (!SameBits(&x.log_sum_exp, &y.log_sum_exp, 1)) return false;
    if (!SameBits(x.targets.data(), y.targets.data(), x.targets.size())) return false;
    if (!Same(x.candidates, y.candidates) || !Same(x.raw_top, y.raw_top)) return false;
  }
  return true;
}

void ExpectSame(const Status& a, const Status& b) {
  EXPECT(a.code() == b.code());
  EXPECT_EQ(a.message(), b.message());
}

// A step's head with everything that can be asked for.
struct AskedFor {
  explicit AskedFor(int vocabulary) : beyond(vocabulary + 7) {
    edits = {{1, 1.5f, 0.25f}, {2, 1, 3}, {vocabulary - 1, 0.5f, -2}};
    targets = {3, 0, vocabulary - 1};
  }
  std::vector<HeadRow> Rows(int rows) const {
    std::vector<HeadRow> head;
    for (int row = 0; row < rows; ++row) {
      HeadRow one{row, row % 3 == 0 ? 4 : 0, row % 4 == 1 ? beyond : 0, row % 2 == 0, {}, {}};
      if (row % 3 != 1) one.edits = edits;
      if (row % 2 == 1) one.targets = targets;
      head.push_back(one);
    }
    return head;
  }
  int beyond;  // more candidates than there are tokens
  std::vector<LogitEdit> edits;
  std::vector<int32_t> targets;
};

void ExpectSameStep(Runner* direct, Runner* client, std::vector<Runner::Piece> pieces,
                    const std::vector<std::vector<AdapterUse>>& own_adapters, int vocabulary) {
  int rows = 0;
  for (const Runner::Piece& piece : pieces) rows += static_cast<int>(piece.tokens.size());
  const AskedFor asked(vocabulary);
  const auto head = asked.Rows(rows);
  Collector wanted(head.size()), got(head.size());
  const StepResult a = direct->RunStep(pieces, head, &wanted);
  for (size_t i = 0; i < pieces.size(); ++i) pieces[i].adapters = own_adapters[i];
  const StepResult b = client->RunStep(pieces, head, &got);
  EXPECT(Same(a, b));
  EXPECT(wanted.logits_ == got.logits_);
  EXPECT(!got.logits_[0].empty());
}

void ExpectSamePages(const Executor& direct, const Executor& client, size_t groups, PageId page, int tokens) {
  for (int g = 0; g < static_cast<int>(groups); ++g) {
    EXPECT_EQ(direct.PageBytes(g), client.PageBytes(g));
    std::vector<std::byte> a(direct.PageBytes(g)), b(client.PageBytes(g), std::byte{0xaa});
    direct.ReadPage(g, page, tokens, a.data());
    client.ReadPage(g, page, tokens, b.data());
    EXPECT(a == b);
  }
}

class ThrowingWeights final : public WeightSource {
 public:
  Status Read(WeightId, int64_t, int64_t, void*) const override { throw std::bad_alloc(); }
};

}  // namespace

TEST(StepsGiveTheSameBitsAndPages) {
  for (const ModelShape* shape : kShapes) {
    for (const KvType kv_type : {KvType::kF16, KvType::kInt8}) {
      const auto model = MakeModel(*shape);
      Pair pair(model->program, Options(kv_type));
      EXPECT_EQ(pair.direct->weight_bytes(), pair.client->weight_bytes());
      EXPECT_EQ(pair.direct->scratch_bytes(), pair.client->scratch_bytes());
      EXPECT(pair.direct->LoadWeights(model->weights).ok() && pair.client->LoadWeights(model->weights).ok());
      Runner direct(model->program, std::move(pair.direct)), client(model->program, std::move(pair.client));
      const auto tokens = RandomTokens(40, shape->vocabulary, 3);
      const auto part = [&](int begin, int end) {
        return std::vector<int32_t>(tokens.begin() + begin, tokens.begin() + end);
      };
      const std::vector<std::vector<AdapterUse>> none(3);
      ExpectSameStep(&direct, &client, {{0, 0, part(0, 9)}, {1, 0, part(9, 10)}}, none, shape->vocabulary);
      ExpectSameStep(&direct, &client, {{2, 0, part(3, 20)}, {0, 9, part(10, 11)}, {1, 1, part(0, 2)}}, none,
                     shape->vocabulary);
      ExpectSamePages(direct.executor(), client.executor(), model->program.kv_groups.size(),
                      direct.Pages(2)[0], 11);
      ExpectSamePages(direct.executor(), client.executor(), model->program.kv_groups.size(),
                      direct.Pages(0)[0], kPageTokens);
    }
  }
}

TEST(PagesAreCopiedAndWrittenAlike) {
  const auto model = MakeModel(kGemma);
  Pair pair(model->program);
  const size_t groups = model->program.kv_groups.size();
  for (Executor* executor : {pair.direct.get(), pair.client.get()}) {
    for (int g = 0; g < static_cast<int>(groups); ++g) {
      EXPECT(executor->AddSlab(g, 0, 4).ok());
      std::vector<std::byte> data(executor->PageBytes(g));
      for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 >> 3 & 0x3f);
      executor->WritePage(g, 1, data.data());
      executor->CopyPage(g, 1, 3);
    }
  }
  for (const PageId page : {1, 3}) ExpectSamePages(*pair.direct, *pair.client, groups, page, 5);
  pair.client->RemoveSlab(0, 0);
  EXPECT(pair.client->AddSlab(0, 0, 4).ok());
}

TEST(AdaptersAddTheSame) {
  const auto model = MakeModel(kLlama);
  const Program& program = model->program;
  Pair pair(program);
  EXPECT(pair.direct->LoadWeights(model->weights).ok() && pair.client->LoadWeights(model->weights).ok());
  Runner direct(program, std::move(pair.direct)), client(program, std::move(pair.client));
  const MemoryAdapter first = RandomAdapter(program, {3, 0, 8}, 1), second = RandomAdapter(program, {5}, 2);
  const auto a1 = direct.Load(first), a2 = direct.Load(second);
  const auto b1 = client.Load(first), b2 = client.Load(second);
  EXPECT_EQ(a1->bytes(), b1->bytes());
  const auto tokens = RandomTokens(12, kLlama.vocabulary, 5);
  std::vector<Runner::Piece> pieces = {{0, 0, {tokens.begin(), tokens.begin() + 4}, {{a1.get(), 0.5f}}},
                                       {1, 0, {tokens.begin() + 4, tokens.begin() + 9}},
                                       {2, 0, {tokens.begin() + 9, tokens.end()}, {{a2.get(), 1}, {a1.get(), -2}}}};
  ExpectSameStep(&direct, &client, pieces, {{{b1.get(), 0.5f}}, {}, {{b2.get(), 1}, {b1.get(), -2}}},
                 kLlama.vocabulary);
}

TEST(ATwinSharesTheWeightsAndHasItsOwnPages) {
  const auto model = MakeModel(kQwen);
  Pair pair(model->program);
  EXPECT(pair.direct->LoadWeights(model->weights).ok() && pair.client->LoadWeights(model->weights).ok());
  Runner direct(model->program, std::move(pair.direct)), client(model->program, std::move(pair.client));
  Runner direct_twin(direct, 5), client_twin(client, 5);
  EXPECT_EQ(direct_twin.executor().scratch_bytes(), client_twin.executor().scratch_bytes());
  const auto tokens = RandomTokens(5, kQwen.vocabulary, 9);
  ExpectSameStep(&direct_twin, &client_twin, {{0, 0, tokens}}, {{}}, kQwen.vocabulary);
  ExpectSameStep(&direct, &client, {{0, 0, {tokens[4], tokens[1]}}}, {{}}, kQwen.vocabulary);
}

TEST(ErrorsAreTheSame) {
  const auto model = MakeModel(kPlain);
  Program& program = model->program;
  // A layer that no operation uses, whose pages no machine has room for.
  program.kv_layers.push_back({0, program.kv_groups[0].layers++, 1024, 1024, 4096});
  Pair pair(program);
  const Status refused = pair.client->AddSlab(0, 0, 1 << 30);
  ExpectSame(pair.direct->AddSlab(0, 0, 1 << 30), refused);
  EXPECT(refused.code() == Code::kOutOfMemory);

  MemoryAdapter unreadable = RandomAdapter(program, {2}, 1), wrong = RandomAdapter(program, {2}, 1);
  unreadable.failing_ = 1;
  wrong.factors_[0].matrix = 9999;
  for (const MemoryAdapter* adapter : {&unreadable, &wrong}) {
    const auto a = pair.direct->LoadAdapter(*adapter), b = pair.client->LoadAdapter(*adapter);
    EXPECT(!b.ok());
    ExpectSame(a.status(), b.status());
  }

  model->weights.failing_ = 3;
  const Status status = pair.client->LoadWeights(model->weights);
  ExpectSame(pair.direct->LoadWeights(model->weights), status);
  EXPECT(status.code() == Code::kCorruptFile);
  EXPECT(pair.client->LoadWeights(ThrowingWeights()).code() == Code::kOutOfMemory);
}

TEST(ProgressIsToldAndEndsALoad) {
  const auto model = MakeModel(kLlama);
  std::atomic<size_t> told{0};
  size_t most = SIZE_MAX;
  CompileOptions options = Options();
  options.on_progress = [&](size_t bytes) { return (told += bytes) <= most; };
  Pair pair(model->program, options);
  EXPECT(pair.direct->LoadWeights(model->weights).ok());
  const size_t all = told.exchange(0);
  EXPECT(all > 0 && pair.client->LoadWeights(model->weights).ok());
  EXPECT_EQ(told.exchange(0), all);

  most = all / 2;
  Pair aborted(model->program, options);
  const Status direct = aborted.direct->LoadWeights(model->weights);
  told = 0;
  const Status client = aborted.client->LoadWeights(model->weights);
  ExpectSame(direct, client);
  EXPECT(client.code() == Code::kAborted);

  options.on_progress = [](size_t) -> bool { throw std::bad_alloc(); };
  Pair throwing(model->program, options);
  EXPECT(throwing.client->LoadWeights(model->weights).code() == Code::kAborted);
}

TEST(ARowThatIsNotFiniteIsToldAlike) {
  const auto model = MakeModel(kPlain);
  Model broken = {model->program, model->weights};
  Pair pair(model->program);
  // The last weight is the final norm, in f32: NaN throughout.
  class Poisoned final : public WeightSource {
   public:
    explicit Poisoned(const Model& model) : model_(model) {}
    Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
      TM_RETURN_IF_ERROR(model_.weights.Read(weight, row, rows, out));
      if (weight + 1 != static_cast<WeightId>(model_.program.weights.size())) return {};
      std::memset(out, 0xff, RowBytes(DType::kF32, model_.program.weights.back().cols));
      return {};
    }
    const Model& model_;
  } weights(broken);
  EXPECT(pair.direct->LoadWeights(weights).ok() && pair.client->LoadWeights(weights).ok());
  Runner direct(model->program, std::move(pair.direct)), client(model->program, std::move(pair.client));
  const std::vector<HeadRow> head = {{0, 3, 2, false, {}, {}}};
  const StepResult a = direct.RunStep({{0, 0, {1}}}, head), b = client.RunStep({{0, 0, {1}}}, head);
  EXPECT(!b.head[0].finite && b.head[0].candidates.empty());
  EXPECT(Same(a, b));
}

TEST(DevicesAreDescribed) {
  const auto devices = TheBackend()->Devices();
  EXPECT(devices.ok() && devices.value().size() == 1);
  const BackendDevice& device = devices.value()[0];
  EXPECT_EQ(device.name, "Reference GPU");
  EXPECT(device.problem.empty() && device.major == 8 && device.minor == 9 && device.index == 0);
  EXPECT_EQ(device.memory_bytes, uint64_t{8} << 30);
  const Mode two("two");
  EXPECT_EQ(TheBackend()->Devices().value().size(), size_t{2});
}

TEST(WhatADeviceLacksIsSaid) {
  {
    const Mode none("none");
    const auto devices = TheBackend()->Devices();
    EXPECT(devices.status().code() == Code::kDeviceUnavailable);
    EXPECT_EQ(devices.status().message(), "the driver's library libtest.so was not found");
  }
  const Mode old("old");
  EXPECT(TheBackend()->Devices().value()[0].problem.find("7.5") != std::string::npos);
}

TEST(LibrariesThatAreNoneOrAreOfAnotherVersionAreRefused) {
  const auto expect_refused = [](const char* path, const char* reason) {
    const auto backend = Backend::Open(path);
    EXPECT(!backend.ok() && backend.status().code() == Code::kDeviceUnavailable);
    EXPECT(backend.status().message().find(path) != std::string::npos);
    EXPECT(backend.status().message().find(reason) != std::string::npos);
  };
  expect_refused("/nonexistent/libtokenmill-cuda.so", "cannot open");
  expect_refused(__FILE__, "could not be loaded");
  expect_refused("libm.so.6", "tokenmill_backend");
  const Mode version("version");
  expect_refused(TOKENMILL_TEST_LIBRARY, "another version");
}

TEST(AMessageThatIsTooLongEndsWithAWholeCharacter) {
  TmMessage message;
  std::string text(sizeof(message.text) - 2, 'x');
  text += "\xe2\x82\xac";  // the euro sign would need three bytes of the one that is left
  EXPECT_EQ(ToStatus(ToCode(Status(Code::kInternal, text), &message), message).message(),
            text.substr(0, sizeof(message.text) - 2));
  EXPECT(ToStatus(99, message).code() == Code::kInternal);
}

HARNESS_MAIN()
