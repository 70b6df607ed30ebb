// What a snapshot that somebody else wrote can do: nothing to anyone but the session that is restored from it.
#include "engine/snapshot.h"

#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

#include "engine/engine.h"
#include "harness.h"
#include "snapshot_forger.h"

using namespace tokenmill;

namespace {

class Results final : public EventSink {
 public:
  struct Result {
    std::vector<Token> tokens;
    std::optional<Outcome> outcome;
    std::vector<std::byte> snapshot;
  };

  void Deliver(std::vector<Event>&& events) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Event& event : events) {
      Result& result = results_[event.id];
      result.tokens.insert(result.tokens.end(), event.tokens.begin(), event.tokens.end());
      if (event.outcome) result.outcome = std::move(event.outcome);
      if (event.snapshot)
        result.snapshot.assign(event.snapshot->data(), event.snapshot->data() + event.snapshot_bytes);
    }
    changed_.notify_all();
  }

  Result Wait(RequestId id) {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT(
        changed_.wait_for(lock, std::chrono::seconds(30), [&] { return results_[id].outcome.has_value(); }));
    EXPECT(results_[id].outcome && results_[id].outcome->status.ok());
    return results_[id];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<RequestId, Result> results_;
};

// An engine of its own with a client.
struct Host {
  Host() {
    EngineOptions options;
    options.threads = 1;
    options.budget.bytes = 64 << 20;
    auto loaded = AcquireEngine("test/fixtures/model/tiny/llama-tied.gguf", options, nullptr);
    EXPECT(loaded.ok());
    engine = std::move(loaded).value();
    client = engine->AddClient(results);
  }

  Results::Result Ask(const std::vector<Token>& prompt, HoldId hold, const char* salt = "") {
    Request request;
    request.id = ++ids;
    request.tokens = prompt;
    request.max_tokens = 12;
    request.ignore_eos = true;
    request.credits = 100;
    request.hold = hold;
    request.cache_salt = salt;
    engine->Submit(client, std::move(request));
    return results->Wait(ids);
  }

  std::vector<std::byte> Export(HoldId hold) {
    engine->ExportHold(client, ++ids, hold, "state");
    return results->Wait(ids).snapshot;
  }

  void Import(HoldId hold, std::vector<std::byte> bytes, const char* salt = "") {
    auto opened = Snapshot::Open(std::move(bytes), engine->IdentifySnapshots().value(),
                                 engine->model().tokenizer->vocabulary_size());
    EXPECT(opened.ok());
    if (!opened.ok()) return;
    engine->ImportHold(client, ++ids, hold, opened.value(), salt);
    results->Wait(ids);
  }

  std::shared_ptr<Engine> engine;
  std::shared_ptr<Results> results = std::make_shared<Results>();
  ClientId client = 0;
  RequestId ids = 0;
};

std::vector<Token> Prompt() {
  std::vector<Token> prompt;
  for (Token i = 0; i < 50; ++i) prompt.push_back(5 + i * 7 % 40);
  return prompt;
}

// The same with other keys and values, and right checksums.
std::vector<std::byte> Forged(std::vector<std::byte> bytes) {
  SnapshotHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const size_t pages = sizeof(header) + header.state_bytes + header.tokens * sizeof(Token);
  EXPECT(bytes.size() > pages + 1000);
  for (size_t at = pages + 1; at < bytes.size(); at += 2)
    bytes[at] ^= std::byte{0x81};  // signs of 16-bit floats
  FixChecksums(bytes);
  return bytes;
}

}  // namespace

TEST(checksums_that_are_fixed_are_those_of_a_snapshot) {
  Host host;
  host.Ask(Prompt(), 1);
  const auto snapshot = host.Export(1);
  auto fixed = snapshot;
  FixChecksums(fixed);
  EXPECT(fixed == snapshot && snapshot.size() > 1000);
}

TEST(forged_pages_mislead_their_own_session_alone) {
  const std::vector<Token> prompt = Prompt();
  std::optional<Host> writer(std::in_place);
  const auto expected = writer->Ask(prompt, 1);
  EXPECT_EQ(expected.outcome->cached_tokens, 0);
  const auto snapshot = writer->Export(1);
  writer.reset();  // the next engine has computed nothing

  for (const char* salt : {"", "salt"}) {
    Host host;
    host.Import(7, Forged(snapshot), salt);
    host.engine->ForkHold(host.client, 7, 8);
    // The session goes on from what it brought.
    for (const HoldId own : {7, 8}) {
      const auto misled = host.Ask(prompt, own, salt);
      EXPECT_EQ(misled.outcome->cached_tokens, 49);
      EXPECT(misled.tokens != expected.tokens);
    }
    // Nobody else does, whether in a session or not.
    for (const HoldId other : {0, 9}) {
      const auto result = host.Ask(prompt, other, salt);
      EXPECT(result.tokens == expected.tokens);
      EXPECT_EQ(result.outcome->cached_tokens, other == 0 ? 0 : 49);
    }
    // Nor does the session find what others computed, and a second restoration is none of the first one's business.
    host.Import(10, snapshot, salt);
    const auto sound = host.Ask(prompt, 10, salt);
    EXPECT(sound.tokens == expected.tokens);
    EXPECT_EQ(sound.outcome->cached_tokens, 49);
    EXPECT(host.Ask(prompt, 7, salt).tokens != expected.tokens);
    // Its next snapshot is what it would have been.
    EXPECT(host.Export(10) == snapshot);
  }
}

HARNESS_MAIN()
