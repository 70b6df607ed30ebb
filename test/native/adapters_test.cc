// Which adapters are in memory, who keeps them there, and what happens when files change.
#include "engine/adapters.h"

#include <atomic>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "harness.h"

using namespace tokenmill;

namespace {

constexpr ClientId kClient = 1, kOther = 2;
constexpr int kRows = 6, kCols = 4;

struct ToyAdapter final : LoadedAdapter {
  ToyAdapter(size_t size, std::atomic<int>* count) : size(size), count(count) { ++*count; }
  ~ToyAdapter() override { --*count; }
  size_t bytes() const override { return size; }
  const size_t size;
  std::atomic<int>* const count;
};

// Knows one matrix; an adapter takes 100 bytes a rank.
class ToyExecutor final : public Executor {
 public:
  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override {
    ++loads;
    const AdapterFactors& factors = source.factors()[0];
    std::vector<float> a(static_cast<size_t>(factors.rank * kCols)),
        b(static_cast<size_t>(factors.rank * kRows));
    TM_RETURN_IF_ERROR(source.Read(0, AdapterFactor::kB, b.data()));
    TM_RETURN_IF_ERROR(source.Read(0, AdapterFactor::kA, a.data()));
    return std::shared_ptr<const LoadedAdapter>(
        std::make_shared<ToyAdapter>(100 * static_cast<size_t>(factors.rank), &alive));
  }
  Status LoadWeights(const WeightSource&) override { return {}; }
  Result<std::unique_ptr<Executor>> Twin(int) const override { return Status(Code::kInternal, "no twin"); }
  Status Run(const StepInput&, StepResult*) override { return {}; }
  void ReadPage(int, PageId, int, std::byte*) const override {}
  void WritePage(int, PageId, const std::byte*) override {}
  size_t weight_bytes() const override { return 0; }
  size_t scratch_bytes() const override { return 0; }
  size_t PageBytes(int) const override { return 64; }
  Status AddSlab(int, int, int) override { return {}; }
  void RemoveSlab(int, int) override {}
  void CopyPage(int, PageId, PageId) override {}

  mutable std::atomic<int> loads = 0, alive = 0;
};

// Factors that a number determines; `changed` and `failure` as if the file had changed or gone.
class ToySource final : public AdapterSource {
 public:
  ToySource(float value, int rank, const float* changed = nullptr, const Status* failure = nullptr)
      : factors_{{0, rank, 1.0f, DType::kF32}}, value_(value), changed_(changed), failure_(failure) {}
  std::span<const AdapterFactors> factors() const override { return factors_; }
  Status Read(size_t, AdapterFactor which, void* out) const override {
    if (failure_ != nullptr && !failure_->ok()) return *failure_;
    const int length = which == AdapterFactor::kA ? kCols : kRows;
    float* values = static_cast<float*>(out);
    const float value = changed_ != nullptr ? *changed_ : value_;
    for (int i = 0; i < length * factors_[0].rank; ++i) values[i] = value + static_cast<float>(i);
    return {};
  }

 private:
  const std::vector<AdapterFactors> factors_;
  const float value_;
  const float* const changed_;
  const Status* const failure_;
};

template <class Source, class... Arguments>
AdapterSet::Opener Opener(Arguments... arguments) {
  return [=]() -> Result<std::unique_ptr<AdapterSource>> {
    return std::unique_ptr<AdapterSource>(std::make_unique<Source>(arguments...));
  };
}

struct Bench {
  explicit Bench(size_t budget) {
    program.weights.push_back({"blk.0.ffn_up.weight", DType::kF32, kRows, kCols});
    set.emplace(&program, &executor, budget);
  }
  AdapterInfo Load(float value, int rank = 1, ClientId client = kClient) {
    const auto info = set->Load(client, Opener<ToySource>(value, rank));
    EXPECT(info.ok());
    return info.value();
  }
  Result<AdapterStack> Open(std::vector<AdapterChoice> choices, ClientId client = kClient) {
    return set->Open(client, choices);
  }

  Program program;
  ToyExecutor executor;
  std::optional<AdapterSet> set;
};

}  // namespace

TEST(equal_adapters_are_one_until_their_last_name_goes) {
  Bench bench(1000);
  const AdapterInfo first = bench.Load(1), same = bench.Load(1), shared = bench.Load(1, 1, kOther);
  EXPECT(first.id != same.id && same.id != shared.id);
  EXPECT(first.digest == same.digest && first.digest == shared.digest);
  EXPECT(bench.Load(2).digest != first.digest);
  EXPECT_EQ(bench.set->Stats().registered, 2u);
  EXPECT_EQ(bench.set->Stats().bytes, 200u);
  EXPECT_EQ(bench.executor.alive, 2);
  bench.set->Release(kClient, first.id);
  bench.set->Release(kClient, same.id);
  bench.set->Release(kOther, same.id);  // not its name
  EXPECT_EQ(bench.set->Stats().registered, 2u);
  bench.set->ReleaseAll(kOther);
  EXPECT_EQ(bench.set->Stats().registered, 1u);
  EXPECT_EQ(bench.set->Stats().bytes, 100u);
  EXPECT_EQ(bench.executor.alive, 1);
}

TEST(scale_and_rank_make_another_adapter) {
  Bench bench(10000);
  const AdapterInfo one = bench.Load(1, 1);
  EXPECT(bench.Load(1, 2).digest != one.digest);
  class Scaled final : public AdapterSource {
   public:
    std::span<const AdapterFactors> factors() const override { return factors_; }
    Status Read(size_t i, AdapterFactor which, void* out) const override {
      return inner_.Read(i, which, out);
    }

   private:
    const ToySource inner_{1, 1};
    const std::vector<AdapterFactors> factors_{{0, 1, 0.5f, DType::kF32}};
  };
  const auto scaled = bench.set->Load(kClient, Opener<Scaled>());
  EXPECT(scaled.ok() && scaled.value().digest != one.digest);
}

// An adapter whose first factor has these bits changed.
class Changed final : public AdapterSource {
 public:
  using Bits = std::vector<std::pair<size_t, uint32_t>>;
  explicit Changed(Bits bits) : bits_(std::move(bits)) {}
  std::span<const AdapterFactors> factors() const override { return inner_.factors(); }
  Status Read(size_t index, AdapterFactor which, void* out) const override {
    TM_RETURN_IF_ERROR(inner_.Read(index, which, out));
    for (const auto& [position, bits] : bits_) {
      if (which == AdapterFactor::kA) static_cast<uint32_t*>(out)[position] ^= bits;
    }
    return {};
  }

 private:
  const ToySource inner_{1, 8};
  const Bits bits_;
};

// Changes of A that Hash64 does not see: the second word of a lane takes back what the first one makes of it.
Changed::Bits ForgedBits() {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u, kMix = 0xd6e8feb86659fd93u;
  constexpr uint64_t kChange = 0x12345;
  uint64_t seed = kOdd;  // of the first lane
  for (int i = 0; i < 2; ++i) seed = (seed ^ seed >> 32) * kMix;
  seed ^= seed >> 32;
  std::vector<float> values(8 * kCols);
  EXPECT(ToySource(1, 8).Read(0, AdapterFactor::kA, values.data()).ok());
  uint64_t word = 0;
  std::memcpy(&word, values.data(), sizeof(word));
  const auto step = [&](uint64_t changed) {
    __extension__ using Product = unsigned __int128;
    const Product product = Product{seed ^ changed} * kOdd;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  const uint64_t next = step(word) ^ step(word ^ kChange);
  return {{0, static_cast<uint32_t>(kChange)},
          {16, static_cast<uint32_t>(next)},
          {17, static_cast<uint32_t>(next >> 32)}};
}

TEST(what_was_made_to_have_anothers_checksum_is_another_adapter) {
  Bench bench(10000);
  const auto forged = bench.set->Load(kClient, Opener<Changed>(ForgedBits()));
  const auto sound = bench.set->Load(kOther, Opener<Changed>(Changed::Bits{}));
  EXPECT(forged.ok() && sound.ok());
  EXPECT_EQ(forged.value().digest.first, sound.value().digest.first);
  EXPECT(forged.value().digest != sound.value().digest);
  EXPECT_EQ(bench.set->Stats().registered, 2u);
  const auto key = [&](ClientId client, AdapterId id) { return bench.Open({{id, 1}}, client).value().key; };
  EXPECT(key(kClient, forged.value().id) != key(kOther, sound.value().id));
}

TEST(names_belong_to_their_client_and_end) {
  Bench bench(1000);
  const AdapterInfo info = bench.Load(1);
  EXPECT(bench.Open({{info.id, 1}}).ok());
  EXPECT(bench.Open({{info.id, 1}}, kOther).status().code() == Code::kDisposed);
  auto stack = bench.Open({{info.id, 1}}).value();
  bench.set->Release(kClient, info.id);
  EXPECT(bench.Open({{info.id, 1}}).status().code() == Code::kDisposed);
  EXPECT_EQ(bench.set->Stats().bytes, 0u);
  EXPECT_EQ(bench.executor.alive, 1);  // the request keeps it
  EXPECT_EQ(stack.uses[0].adapter->bytes(), 100u);
  stack = {};
  EXPECT_EQ(bench.executor.alive, 0);
}

TEST(keys_tell_adapters_their_order_and_scales_apart) {
  Bench bench(1000);
  const AdapterId a = bench.Load(1).id, b = bench.Load(2).id, a_again = bench.Load(1).id;
  const auto key = [&](std::vector<AdapterChoice> choices) { return bench.Open(choices).value().key; };
  EXPECT(key({}).empty());
  EXPECT(key({{a, 1}}) == key({{a_again, 1}}));
  EXPECT(key({{a, 1}}) != key({{b, 1}}));
  EXPECT(key({{a, 1}}) != key({{a, 2}}));
  EXPECT(key({{a, 1}, {b, 1}}) != key({{b, 1}, {a, 1}}));
  EXPECT(key({{a, 1}, {b, 1}}) != key({{a, 1}}));
}

TEST(an_adapter_that_is_named_twice_is_used_once_with_the_sum) {
  Bench bench(1000);
  const AdapterId a = bench.Load(1).id, b = bench.Load(2).id, a_again = bench.Load(1).id;
  const auto stack = bench.Open({{a, 0.5f}, {b, 1}, {a_again, 0.25f}});
  EXPECT(stack.ok());
  EXPECT_EQ(stack.value().uses.size(), 2u);
  EXPECT_EQ(stack.value().uses[0].scale, 0.75f);
  EXPECT(stack.value().uses[0].adapter != stack.value().uses[1].adapter);
  EXPECT(stack.value().key == bench.Open({{a, 0.75f}, {b, 1}}).value().key);
}

TEST(what_nobody_uses_gives_way_the_longest_unused_first) {
  Bench bench(300);
  std::vector<AdapterId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(bench.Load(static_cast<float>(i)).id);
  EXPECT_EQ(bench.executor.loads, 3);
  EXPECT(bench.Open({{ids[0], 1}}).ok());  // 1 is the longest unused now
  ids.push_back(bench.Load(3).id);
  EXPECT_EQ(bench.set->Stats().loaded, 3u);
  EXPECT_EQ(bench.set->Stats().registered, 4u);
  EXPECT(bench.Open({{ids[0], 1}}).ok());
  EXPECT(bench.Open({{ids[2], 1}}).ok());
  EXPECT_EQ(bench.executor.loads, 4);
  EXPECT(bench.Open({{ids[1], 1}}).ok());  // in the place of 3
  EXPECT_EQ(bench.executor.loads, 5);
  EXPECT_EQ(bench.set->Stats().reloads, 1u);
  EXPECT_EQ(bench.executor.alive, 3);
  EXPECT(bench.Open({{ids[3], 1}}).ok());
  EXPECT_EQ(bench.executor.loads, 6);
}

TEST(what_is_used_stays_and_leaves_no_room) {
  Bench bench(300);
  const AdapterId big = bench.Load(1, 2).id, small = bench.Load(2).id, late = bench.Load(3, 2).id;
  EXPECT_EQ(bench.set->Stats().bytes, 300u);  // big has gone: late and small are there
  auto used = bench.Open({{late, 1}});
  EXPECT(used.ok());
  const auto refused = bench.Open({{big, 1}});
  EXPECT(refused.status().code() == Code::kOverloaded);
  EXPECT(refused.status().message().find("200") != std::string::npos);
  EXPECT_EQ(bench.set->Stats().bytes, 300u);  // nothing went for one that did not fit anyway
  EXPECT(bench.Open({{small, 1}}).ok());
  used = Status(Code::kInternal, "");
  EXPECT(bench.Open({{big, 1}}).ok());
}

TEST(what_can_never_fit_is_refused_for_good) {
  Bench bench(300);
  EXPECT(bench.set->Load(kClient, Opener<ToySource>(1.0f, 4)).status().code() == Code::kOutOfMemory);
  EXPECT_EQ(bench.set->Stats().registered, 0u);
  const AdapterId a = bench.Load(1, 2).id, b = bench.Load(2, 2).id, a_again = bench.Load(1, 2).id;
  EXPECT(bench.Open({{a, 1}, {b, 1}}).status().code() == Code::kOutOfMemory);
  EXPECT(bench.Open({{a, 1}, {a_again, 1}}).ok());
}

TEST(a_client_that_has_left_gets_no_names) {
  Bench bench(300);
  bench.Load(1, 1, kOther);
  bench.set->ReleaseAll(kOther);
  EXPECT(bench.set->Load(kOther, Opener<ToySource>(1.0f, 1)).status().code() == Code::kDisposed);
  EXPECT_EQ(bench.set->Stats().registered, 0u);
  EXPECT_EQ(bench.executor.alive, 0);
}

TEST(an_equal_adapters_own_file_serves_when_the_first_one_is_gone) {
  Bench bench(100);
  Status gone;
  const float value = 1;
  const auto first = bench.set->Load(kClient, Opener<ToySource>(1.0f, 1, &value, &gone));
  const AdapterId second = bench.Load(1).id;
  EXPECT(first.value().digest == bench.Load(1).digest);
  bench.Load(7);  // in its place
  gone = Status(Code::kModelNotFound, "gone");
  EXPECT(bench.Open({{second, 1}}).ok());
  EXPECT(bench.Open({{first.value().id, 1}}).ok());
}

TEST(files_that_changed_or_went_are_refused_and_take_no_room) {
  Bench bench(100);
  float value = 1;
  Status failure;
  const auto load = [&] {
    return bench.set->Load(kClient, Opener<ToySource>(0.0f, 1, &value, &failure)).value().id;
  };
  const AdapterId id = load();
  bench.Load(7);  // in its place
  value = 2;
  EXPECT(bench.Open({{id, 1}}).status().code() == Code::kCorruptFile);
  EXPECT_EQ(bench.set->Stats().bytes, 0u);
  value = 1;
  failure = Status(Code::kModelNotFound, "gone");
  EXPECT(bench.Open({{id, 1}}).status().code() == Code::kModelNotFound);
  failure = {};
  EXPECT(bench.Open({{id, 1}}).ok());
  EXPECT_EQ(bench.set->Stats().bytes, 100u);
}

TEST(an_equal_adapter_that_is_loaded_while_one_is_read_again_counts_once) {
  Bench bench(200);
  bool loads = false;
  const auto opener = [&]() -> Result<std::unique_ptr<AdapterSource>> {
    if (std::exchange(loads, false)) bench.Load(1, 1, kOther);
    return std::unique_ptr<AdapterSource>(std::make_unique<ToySource>(1.0f, 1));
  };
  const AdapterId id = bench.set->Load(kClient, opener).value().id;
  bench.set->Release(kClient, bench.Load(7, 2).id);  // was in its place
  loads = true;
  const auto stack = bench.Open({{id, 1}});
  EXPECT(stack.ok() && !loads);
  EXPECT_EQ(bench.set->Stats().loaded, 1u);
  EXPECT_EQ(bench.set->Stats().bytes, 100u);
  EXPECT_EQ(bench.executor.alive, 1);
  bench.set->ReleaseAll(kClient);
  bench.set->ReleaseAll(kOther);
  EXPECT_EQ(bench.set->Stats().bytes, 0u);
}

TEST(a_load_that_fails_leaves_nothing) {
  Bench bench(100);
  const Status failure(Code::kCorruptFile, "not a number");
  const auto info = bench.set->Load(kClient, Opener<ToySource>(0.0f, 1, nullptr, &failure));
  EXPECT(info.status().code() == Code::kCorruptFile);
  EXPECT_EQ(bench.set->Stats().registered, 0u);
}

TEST(threads_that_load_open_and_release_agree) {
  Bench bench(400);
  std::vector<std::thread> threads;
  for (ClientId client = 1; client <= 4; ++client) {
    threads.emplace_back([&bench, client] {
      for (int i = 0; i < 300; ++i) {
        const auto info = bench.set->Load(client, Opener<ToySource>(static_cast<float>(i % 7), 1));
        EXPECT(info.ok());
        const auto stack = bench.set->Open(client, {{info.value().id, 1}});
        EXPECT(stack.ok() || stack.status().code() == Code::kOverloaded);
        bench.set->Release(client, info.value().id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bench.set->Stats().registered, 0u);
  EXPECT_EQ(bench.set->Stats().bytes, 0u);
  EXPECT_EQ(bench.executor.alive, 0);
}

HARNESS_MAIN()
