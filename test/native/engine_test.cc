#include "engine/engine.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "allocations.h"
#include "harness.h"

using namespace tokenmill;

namespace tokenmill {

class EngineProbe {
 public:
  /// For a test that knows that the loop thread sleeps.
  static BlockPool& PoolOf(Engine& engine) { return *engine.pool_; }
};

}  // namespace tokenmill

namespace {

constexpr size_t kRequests = 600;

// Notes how requests end, without allocating.
class Ends final : public EventSink {
 public:
  void Deliver(std::vector<Event>&& events) override {
    std::unique_lock<std::mutex> lock(mutex_);
    if (++deliveries_ % refused_each == 0) throw std::bad_alloc();
    for (const Event& event : events) {
      if (!event.outcome) continue;
      snapshots_ += event.snapshot != nullptr && event.snapshot->size() >= event.snapshot_bytes;
      ++times_[event.id];
      codes_[event.id] = event.outcome->status.code();
      std::snprintf(message_.data(), message_.size(), "%s", event.outcome->status.message().c_str());
    }
    blocking_ = block_;
    ended_.notify_all();
    ended_.wait(lock, [&] { return !block_; });
    blocking_ = false;
  }

  /// Keeps the loop thread from the next events on, until Unblock.
  void Block() {
    const std::lock_guard<std::mutex> lock(mutex_);
    block_ = true;
  }
  void WaitForBlock() {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [&] { return blocking_; });
  }
  void Unblock() {
    const std::lock_guard<std::mutex> lock(mutex_);
    block_ = false;
    ended_.notify_all();
  }

  int refused_each = 1 << 30;  // of the deliveries every so many-th finds no memory

  bool Wait(RequestId id) {
    std::unique_lock<std::mutex> lock(mutex_);
    return ended_.wait_for(lock, std::chrono::seconds(20), [&] { return times_[id] > 0; });
  }

  int times(RequestId id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return times_[id];
  }
  Code code(RequestId id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return codes_[id];
  }
  /// Of what ended last.
  std::string message() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return message_.data();
  }
  int snapshots() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return snapshots_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool block_ = false, blocking_ = false;
  int deliveries_ = 0, snapshots_ = 0;
  std::array<int, kRequests> times_ = {};
  std::array<Code, kRequests> codes_ = {};
  std::array<char, 200> message_ = {};
};

std::shared_ptr<Engine> LoadTiny(EngineOptions options = {}) {
  options.threads = 2;
  options.budget.bytes = 64 << 20;
  auto engine = AcquireEngine("test/fixtures/model/tiny/llama-tied.gguf", options, nullptr);
  EXPECT(engine.ok());
  return std::move(engine).value();
}

Request Ask(RequestId id) {
  Request request;
  request.id = id;
  request.pieces = {{"the beach at Collis Point", false}};
  request.max_tokens = 3;
  request.credits = 100;
  request.ignore_eos = true;
  request.stop = {"never said"};
  if (id % 3 == 0) request.deadline = std::chrono::seconds(60);
  request.sampling.repetition_penalty = 1.1;
  request.sampling.temperature = id % 2 == 0 ? 0 : 1;
  return request;
}

// Has the client hold a conversation of one turn, request 599, for snapshots.
void HoldATurn(Engine* engine, ClientId client, Ends* ends) {
  Request turn = Ask(599);
  turn.hold = 1;
  engine->Submit(client, std::move(turn));
  EXPECT(ends->Wait(599) && engine->IdentifySnapshots().ok());
}

}  // namespace

TEST(every_request_ends_once_whichever_allocation_fails) {
  allocations::exempt = true;
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  bool all = true;
  int failed = 0;
  for (RequestId id = 1; id + 2 < kRequests && all; id += 2) {
    allocations::until_failure = static_cast<int>(id / 2);
    engine->Submit(client, Ask(id));
    engine->Submit(client, Ask(id + 1));
    for (const RequestId each : {id, id + 1}) {
      all = all && ends->Wait(each);
      failed += ends->code(each) == Code::kOutOfMemory;
    }
    allocations::until_failure = -1;
    EXPECT(all);
  }
  EXPECT(failed > 20);
  engine->Submit(client, Ask(kRequests - 1));
  EXPECT(ends->Wait(kRequests - 1) && ends->code(kRequests - 1) == Code::kOk);
  for (RequestId id = 1; id < kRequests - 2 && all; ++id) EXPECT_EQ(ends->times(id), 1);
}

TEST(a_change_of_the_budget_is_answered_once_whichever_allocation_fails) {
  allocations::exempt = true;
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  bool all = true;
  int failed = 0;
  for (RequestId id = 1; id + 1 < 200 && all; id += 2) {
    engine->Submit(client, Ask(id));
    allocations::until_failure = static_cast<int>(id / 2);
    engine->SetMemoryBudget(client, id + 1, {id % 4 == 1 ? uint64_t{48} << 20 : uint64_t{64} << 20});
    all = ends->Wait(id) && ends->Wait(id + 1);
    failed += ends->code(id + 1) == Code::kOutOfMemory;
    allocations::until_failure = -1;
  }
  EXPECT(all && failed > 0);
  engine->SetMemoryBudget(client, 200, {uint64_t{40} << 20});
  EXPECT(ends->Wait(200) && ends->code(200) == Code::kOk);
  EXPECT_EQ(engine->Stats().budget_bytes, size_t{40} << 20);
  for (RequestId id = 1; id <= 200 && all; ++id) EXPECT_EQ(ends->times(id), id == 199 ? 0 : 1);
}

TEST(a_snapshot_is_answered_once_whichever_allocation_fails) {
  allocations::exempt = true;
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  HoldATurn(engine.get(), client, ends.get());
  int failed = 0;
  for (RequestId id = 1; id < 60; ++id) {
    allocations::until_failure = static_cast<int>(id / 3);
    engine->ExportHold(client, id, 1, "what the client says");
    EXPECT(ends->Wait(id));
    allocations::until_failure = -1;
    failed += ends->code(id) != Code::kOk;
  }
  EXPECT(failed > 5 && failed < 55);
  EXPECT_EQ(ends->snapshots(), 59 - failed);
  for (RequestId id = 1; id < 60; ++id) EXPECT_EQ(ends->times(id), 1);
}

TEST(a_snapshot_that_gets_no_memory_ends_no_reply) {
  allocations::exempt = true;
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  HoldATurn(engine.get(), client, ends.get());
  Request waiting = Ask(598);  // for its reader, so that it takes no memory meanwhile
  waiting.max_tokens = 6;
  waiting.credits = 1;
  engine->Submit(client, std::move(waiting));
  while (engine->Stats().scheduler.paused == 0) std::this_thread::yield();
  int failed = 0;
  for (RequestId id = 1; id < 200; ++id) {
    allocations::until_failure = static_cast<int>(id / 3);
    engine->ExportHold(client, id, 1, "what the client says");
    EXPECT(ends->Wait(id));
    allocations::until_failure = -1;
    failed += ends->code(id) != Code::kOk;
    EXPECT_EQ(ends->times(598), 0);
  }
  EXPECT(failed > 5);
  engine->AddCredits(client, 598, 100);
  EXPECT(ends->Wait(598) && ends->code(598) == Code::kOk);
}

TEST(a_cancel_ends_a_request_once_whichever_allocation_fails) {
  allocations::exempt = true;
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  for (RequestId id = 1; id < 300; ++id) {
    Request request = Ask(id);
    request.max_tokens = id % 2 == 0 ? 1 : 100;
    request.credits = 1;  // one that is longer waits for its reader, for ever
    engine->Submit(client, std::move(request));
    if (id % 2 == 0) EXPECT(ends->Wait(id));
    allocations::until_failure = static_cast<int>(id / 20);
    engine->Cancel(client, id);
    EXPECT(ends->Wait(id));
    allocations::until_failure = -1;
  }
  engine->RemoveClient(client, Status(Code::kDisposed, "gone"));
  for (RequestId id = 1; id < 300; ++id) EXPECT_EQ(ends->times(id), 1);
}

TEST(outcomes_are_delivered_once_when_a_delivery_fails) {
  const auto engine = LoadTiny();
  std::vector<std::shared_ptr<Ends>> ends;
  std::vector<ClientId> clients;
  for (int i = 0; i < 4; ++i) {
    ends.push_back(std::make_shared<Ends>());
    if (i > 0) ends.back()->refused_each = 2 + i;
    clients.push_back(engine->AddClient(ends.back()));
  }
  for (RequestId round = 1; round < 200; round += 4) {
    for (RequestId id = round; id < round + 4; ++id) {
      for (const ClientId client : clients) engine->Submit(client, Ask(id));
    }
    for (RequestId id = round; id < round + 4; ++id) {
      for (const auto& each : ends) EXPECT(each->Wait(id));
    }
  }
  for (RequestId id = 1; id < 200; ++id) {
    for (const auto& each : ends) EXPECT_EQ(each->times(id), 1);
  }
}

TEST(a_broken_pool_ends_replies_and_not_the_process) {
  setenv("TOKENMILL_INTEGRITY", "1", 1);
  const auto engine = LoadTiny();
  unsetenv("TOKENMILL_INTEGRITY");
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  const auto ask = [&](RequestId id) {
    engine->Submit(client, Ask(id));
    EXPECT(ends->Wait(id));
    return ends->code(id);
  };
  EXPECT(ask(1) == Code::kOk);
  // Nothing runs: the loop thread is asleep. A page of the cache gets a reference that is in no table.
  BlockPool& pool = EngineProbe::PoolOf(*engine);
  EXPECT(pool.kept(0, 0) && pool.references(0, 0) == 0);
  pool.AddReference(0, 0);
  for (const RequestId id : {2, 3}) EXPECT(ask(id) == Code::kInternal);
  EXPECT_EQ(ends->message(),
            "the KV cache is inconsistent: group 0: page 0 is in 1 tables and has 2 references");
  pool.Release(0, 0);
  EXPECT(ask(4) == Code::kOk);
  for (RequestId id = 1; id <= 4; ++id) EXPECT_EQ(ends->times(id), 1);
}

TEST(a_prompt_beyond_the_context_never_reaches_the_scheduler) {
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  Request request = Ask(1);
  request.tokens.emplace(static_cast<size_t>(engine->context_length()) + 1, Token{5});
  engine->Submit(client, std::move(request));
  EXPECT(ends->Wait(1) && ends->code(1) == Code::kContextOverflow);
  EXPECT_EQ(engine->Stats().scheduler.prompt_tokens, 0u);
}

TEST(a_full_queue_refuses_before_it_tokenizes) {
  EngineOptions options;
  options.max_queue = 3;
  const auto engine = LoadTiny(options);
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  const auto beyond = [&](RequestId id) {
    Request request = Ask(id);
    request.tokens.emplace(static_cast<size_t>(engine->context_length()) + 1, Token{5});
    return request;
  };
  for (RequestId round = 1; round < 200; round += 20) {
    ends->Block();  // the loop thread, with the end of this one
    engine->Submit(client, beyond(round));
    ends->WaitForBlock();
    for (RequestId id = round + 1; id <= round + 3; ++id) {
      Request request = id % 20 == 2 ? beyond(id) : Ask(id);
      if (id % 20 == 3) request.deadline = std::chrono::nanoseconds(1);
      engine->Submit(client, std::move(request));
    }
    if (round % 40 == 1) engine->Cancel(client, round + 3);
    for (RequestId id = round + 4; id < round + 20; ++id) engine->Submit(client, beyond(id));
    ends->Unblock();
    for (RequestId id = round; id < round + 20; ++id) EXPECT(ends->Wait(id));
    EXPECT(ends->code(round + 1) == Code::kContextOverflow);
    EXPECT(ends->code(round + 2) == Code::kDeadlineExceeded);
    EXPECT(ends->code(round + 3) == Code::kOk);
    for (RequestId id = round + 4; id < round + 20; ++id) EXPECT(ends->code(id) == Code::kOverloaded);
  }
  for (RequestId id = 1; id < 200; ++id) EXPECT_EQ(ends->times(id), 1);
}

TEST(a_deadline_ends_a_request_while_nothing_runs) {
  const auto engine = LoadTiny();
  const auto ends = std::make_shared<Ends>();
  const ClientId client = engine->AddClient(ends);
  Request request = Ask(1);
  request.credits = 1;  // it waits for its reader then
  request.deadline = std::chrono::milliseconds(50);
  engine->Submit(client, std::move(request));
  EXPECT(ends->Wait(1) && ends->code(1) == Code::kDeadlineExceeded);
  EXPECT_EQ(engine->Stats().scheduler.steps, 1u);
  EXPECT_EQ(ends->times(1), 1);
}

HARNESS_MAIN()
