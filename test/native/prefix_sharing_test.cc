#include <random>

#include "toy_model.h"

using namespace tokenmill;

namespace {

std::vector<Token> Joined(std::vector<Token> tokens, const std::vector<Token>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

void RunAll(Rig* rig) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < 100000);
}

// Pages that are neither used, cached nor free are lost.
void ExpectConserved(const Rig& rig) {
  size_t pages = 0, bytes = 0;
  for (int g = 0; g < rig.pool.groups(); ++g) {
    EXPECT_EQ(rig.pool.used(g), 0u);
    const size_t in_group = rig.pool.cached(g) + rig.pool.free(g);
    pages += in_group;
    bytes += in_group * rig.model.PageBytes(g);
  }
  EXPECT_EQ(bytes, rig.pool.committed_bytes());
  EXPECT(pages <= rig.pool.Maximum());
}

// A window of 40 tokens beside full attention.
std::vector<KvGroup> TwoGroups() { return {{0, 1}, {40, 1}}; }

}  // namespace

TEST(equal_prompts_at_once_are_computed_once) {
  for (const bool windowed : {false, true}) {
    for (const int length : {2000, 2001, 1993}) {
      Rig rig(windowed ? TwoGroups() : std::vector<KvGroup>{{0, 1}}, 20000, 512, 2100);
      rig.ignore_eos = true;
      const auto prompt = Prompt(1, length);
      for (RequestId id = 1; id <= 32; ++id) rig.Submit(id, prompt, 5);
      RunAll(&rig);
      const auto expected = Expected(prompt, 5, true);
      for (RequestId id = 1; id <= 32; ++id) {
        EXPECT(rig.replies[id] == expected);
        EXPECT(id == 1 || rig.outcomes[id].cached_tokens >= length * 97 / 100);
      }
      EXPECT_EQ(rig.outcomes[1].cached_tokens, 0);
      const size_t decoded = 32 * 4;
      EXPECT_LE(rig.model.rows_run,
                static_cast<size_t>(length) + 31 * static_cast<size_t>(length) * 3 / 100 + decoded);
      EXPECT_EQ(rig.scheduler.Stats().prefix.hits, 31u);
      ExpectConserved(rig);
    }
  }
}

TEST(who_waits_for_a_prefix_does_not_hold_up_others) {
  Rig rig(1000, 64, 1000);
  rig.Submit(1, Prompt(1, 600), 5);
  rig.Submit(2, Prompt(1, 600), 5);
  rig.Submit(3, Prompt(2, 20), 5);
  // The first takes all rows of a step but of the last one, where the third gets on.
  for (int step = 0; step < 10; ++step) rig.Step();
  EXPECT_EQ(rig.replies[1].size(), 1u);
  EXPECT_EQ(rig.replies[3].size(), 1u);
  EXPECT_EQ(rig.model.rows_run, 620u);
  RunAll(&rig);
  EXPECT_EQ(rig.outcomes[2].cached_tokens, 592);
}

TEST(who_waits_goes_on_when_the_other_ends) {
  for (const bool poisoned : {false, true}) {
    for (const int steps : {0, 1, 3}) {
      Rig rig(1000, 64, 1000);
      const auto prompt = Prompt(1, 400);
      rig.Submit(1, prompt, 5);
      rig.Submit(2, prompt, 5);
      for (int step = 0; step < steps; ++step) rig.Step();
      if (poisoned) {
        rig.model.fails = true;
        rig.Step();
        rig.model.fails = false;
        EXPECT(rig.outcomes[1].status.code() == Code::kInternal);
      } else {
        rig.scheduler.Cancel(1, 1);
        rig.Drain();
      }
      RunAll(&rig);
      EXPECT(rig.replies[2] == Expected(prompt, 5));
      EXPECT_EQ(rig.outcomes[2].cached_tokens, 64 * steps);
    }
  }
}

TEST(a_salt_is_a_wall) {
  Rig rig(1000, 64, 1000);
  const auto prompt = Prompt(1, 300);
  const std::vector<std::string> salts = {"", "a", "b", "a", "", "b"};
  for (RequestId id = 0; id < salts.size(); ++id) {
    rig.salt = salts[id];
    rig.Submit(id, prompt, 3);
    RunAll(&rig);
    EXPECT(rig.replies[id] == Expected(prompt, 3));
    EXPECT_EQ(rig.outcomes[id].cached_tokens, id < 3 ? 0 : 299);
  }
  // Nor do they wait for each other.
  for (RequestId id = 10; id < 12; ++id) {
    rig.salt = salts[id - 9];
    rig.Submit(id, Prompt(2, 30), 3);
  }
  const size_t before = rig.model.rows_run;
  rig.Step();
  EXPECT_EQ(rig.model.rows_run - before, 60u);
}

TEST(a_conversation_goes_on_from_the_middle_of_a_page) {
  for (const bool windowed : {false, true}) {
    Rig rig(windowed ? TwoGroups() : std::vector<KvGroup>{{0, 1}}, 4000, 64, 1000);
    rig.ignore_eos = true;
    std::vector<Token> tokens = Prompt(1, 37);
    size_t known = 0;
    for (RequestId turn = 1; turn <= 6; ++turn) {
      rig.Submit(turn, tokens, 30);
      RunAll(&rig);
      EXPECT(rig.replies[turn] == Expected(tokens, 30, true));
      EXPECT_EQ(rig.outcomes[turn].cached_tokens, static_cast<int>(known));
      tokens = Joined(tokens, rig.replies[turn]);
      known = tokens.size() - 1;  // the last token was drawn, not computed
      tokens = Joined(tokens, Prompt(turn + 1, 11));
    }
    // Another continuation of an earlier turn shares the page up to where it differs.
    auto other = tokens;
    other.resize(150);
    other.push_back(tokens[150] == 7 ? 8 : 7);
    rig.Submit(100, other, 30);
    RunAll(&rig);
    EXPECT(rig.replies[100] == Expected(other, 30, true));
    EXPECT_EQ(rig.outcomes[100].cached_tokens, 150);
    ExpectConserved(rig);
  }
}

TEST(a_preempted_reply_resumes_behind_what_is_left_of_it) {
  Rig rig(16, 64, 256);
  rig.ignore_eos = true;
  rig.Submit(1, Prompt(1, 100), 60, 1);
  RunAll(&rig);
  EXPECT_EQ(rig.pool.used(0), 7u);
  // Needs ten pages of the nine that are left: the last one of the paused reply goes.
  rig.Submit(2, Prompt(2, 128), 20);
  RunAll(&rig);
  EXPECT_EQ(rig.scheduler.Stats().preempted, 1u);
  EXPECT_EQ(rig.pool.evicted(), 1u);
  const size_t before = rig.model.rows_run;
  rig.scheduler.AddCredits(1, 1, 1000);
  RunAll(&rig);
  EXPECT_EQ(rig.model.rows_run - before, 5u + 58u);
  EXPECT(rig.replies[1] == Expected(Prompt(1, 100), 60, true));
  EXPECT_EQ(rig.outcomes[1].cached_tokens, 0);
  EXPECT_EQ(rig.scheduler.Stats().prefix.hit_tokens, 96u);
}

TEST(what_is_not_sound_is_not_shared) {
  Rig rig(1000, 64, 1000);
  rig.model.poisoned = {200};
  const auto prompt = Joined({200}, Prompt(1, 300));
  rig.Submit(1, prompt, 5);
  RunAll(&rig);
  EXPECT(rig.outcomes[1].status.code() == Code::kInternal);
  EXPECT_EQ(rig.pool.cached(0), 0u);
  EXPECT_EQ(rig.prefix.nodes(), 0u);
  rig.model.poisoned = {};
  rig.Submit(2, prompt, 5);
  RunAll(&rig);
  EXPECT(rig.replies[2] == Expected(prompt, 5));
  EXPECT_EQ(rig.outcomes[2].cached_tokens, 0);
}

TEST(a_score_gives_its_prefix_and_takes_none) {
  Rig rig(1000, 64, 1000);
  const auto prompt = Prompt(1, 200);
  for (RequestId id = 1; id <= 2; ++id) {
    rig.score = true;
    const size_t before = rig.model.rows_run;
    rig.Submit(id, prompt);
    RunAll(&rig);
    EXPECT_EQ(rig.model.rows_run - before, 199u);
    EXPECT_EQ(rig.outcomes[id].score_logprobs.size(), prompt.size());
  }
  EXPECT_EQ(rig.pool.cached(0), 200u / kPageTokens + 1);
  rig.score = false;
  rig.Submit(3, prompt, 5);
  RunAll(&rig);
  EXPECT(rig.replies[3] == Expected(prompt, 5));
  EXPECT_EQ(rig.outcomes[3].cached_tokens, 199);
}

TEST(nobody_waits_behind_a_score_for_what_is_known) {
  for (const bool windowed : {false, true}) {
    Rig rig(windowed ? TwoGroups() : std::vector<KvGroup>{{0, 1}}, 4000, 128, 1000);
    const auto prompt = Prompt(1, 60);
    rig.Submit(1, prompt, 5);
    RunAll(&rig);
    rig.score = true;
    rig.Submit(2, prompt);
    rig.score = false;
    rig.Submit(3, prompt, 5);
    rig.Step();  // the score computes all of it again
    EXPECT_EQ(rig.replies[3].size(), 1u);
    RunAll(&rig);
    EXPECT_EQ(rig.outcomes[3].cached_tokens, 59);
    EXPECT(rig.replies[3] == Expected(prompt, 5));
  }
}

// Who waits for a block of a score that is not known yet takes it as soon as it is.
TEST(who_waits_behind_a_score_takes_what_it_computes) {
  Rig rig(1000, 64, 1000);
  const auto prompt = Prompt(1, 60);
  rig.score = true;
  rig.Submit(1, prompt);
  rig.score = false;
  rig.Submit(2, prompt, 5);
  rig.Step();
  EXPECT_EQ(rig.model.rows_run, 59u);
  RunAll(&rig);
  EXPECT_EQ(rig.outcomes[2].cached_tokens, 59);
  EXPECT(rig.replies[2] == Expected(prompt, 5));
}

TEST(a_sequence_of_full_length_fits_whatever_is_cached) {
  for (const bool windowed : {false, true}) {
    const int pages = windowed ? (2 * ToyModel::kLargePage + 1) * BlockPool::kSlabPages : 32;
    Rig rig(windowed ? TwoGroups() : std::vector<KvGroup>{{0, 1}}, pages, 32, 512);
    rig.ignore_eos = true;
    const auto prompt = Prompt(1, 300);
    std::mt19937 random(2);
    for (RequestId id = 1; id <= 30; ++id) {
      for (RequestId other = id * 100; other < id * 100 + 12; ++other)
        rig.Submit(other, Prompt(other, 10 + static_cast<int>(random() % 60)),
                   1 + static_cast<int>(random() % 50));
      RunAll(&rig);
      const auto own = Prompt(id, 300);
      rig.Submit(id, own, -1);
      RunAll(&rig);
      EXPECT_EQ(rig.outcomes[id].status.message(), "");
      EXPECT(rig.replies[id] == Expected(own, 212, true));
    }
    ExpectConserved(rig);
    // A prompt as long as the context, known but for its last token: there is no page for a copy of the last one.
    const auto whole = Joined(prompt, Expected(prompt, 211, true));
    rig.Submit(9999, whole, -1);
    RunAll(&rig);
    EXPECT(rig.replies[9999] == Expected(whole, 1, true));
  }
}

// Few pages, many requests that have much in common, cancelled and paused at random.
TEST(shared_prefixes_under_pressure_change_no_reply) {
  std::mt19937 random(11);
  for (const bool windowed : {false, true}) {
    for (const int max_rows : {7, 40}) {
      const int pages = windowed ? (2 * ToyModel::kLargePage + 2) * BlockPool::kSlabPages : 48;
      Rig rig(windowed ? TwoGroups() : std::vector<KvGroup>{{0, 1}}, pages, max_rows, 450);
      std::map<RequestId, std::vector<Token>> prompts;
      std::set<RequestId> cancelled;
      for (RequestId next = 1; next <= 150;) {
        if (random() % 6 == 0) {
          auto prompt = Prompt(random() % 3, static_cast<int>(random() % 200) + 1);
          prompt = Joined(prompt, Prompt(100 + random() % 3, static_cast<int>(random() % 100)));
          // Or it continues an earlier reply.
          if (next > 1 && random() % 4 == 0) {
            const RequestId earlier = 1 + random() % (next - 1);
            prompt = Joined(Joined(prompts[earlier], rig.replies[earlier]), Prompt(random(), 3));
            if (prompt.size() > 380) prompt.resize(380);
          }
          prompts[next] = prompt;
          rig.salt = random() % 8 == 0 ? "other" : "";
          rig.Submit(next, prompt, 60, static_cast<int>(random() % 60) + 1);
          ++next;
        }
        if (next > 1 && random() % 30 == 0) {
          const RequestId id = 1 + random() % (next - 1);
          if (rig.outcomes.count(id) == 0) cancelled.insert(id);
          rig.scheduler.Cancel(1, id);
          rig.Drain();
        }
        if (next > 1) rig.scheduler.AddCredits(1, 1 + random() % (next - 1), static_cast<int>(random() % 30));
        rig.Step();
      }
      for (const auto& [id, prompt] : prompts) rig.scheduler.AddCredits(1, id, 1000);
      RunAll(&rig);
      for (const auto& [id, prompt] : prompts) {
        auto expected = Expected(prompt, 60);
        EXPECT(rig.outcomes[id].status.ok());
        if (cancelled.count(id) > 0) expected.resize(std::min(expected.size(), rig.replies[id].size()));
        EXPECT(rig.replies[id] == expected);
      }
      const SchedulerStats stats = rig.scheduler.Stats();
      EXPECT(stats.preempted > 0 && stats.prefix.hits > 20 && rig.pool.evicted() > 100);
      EXPECT(cancelled.size() > 5);
      ExpectConserved(rig);
    }
  }
}

HARNESS_MAIN()
