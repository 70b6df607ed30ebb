#include <algorithm>

#include "toy_model.h"

using namespace tokenmill;

namespace {

// Replies of few letters that depend on six tokens: guesses by three often come true, and often do not.
struct Repeating {
  Repeating() {
    toy_memory = 6;
    toy_letters = 3;
  }
  ~Repeating() {
    toy_memory = SIZE_MAX;
    toy_letters = 26;
  }
};

void Finish(Rig* rig) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < 100000);
}

size_t RowsFor(bool lookup, size_t replies) {
  Rig rig(1000, 64);
  rig.ignore_eos = true;
  rig.prompt_lookup = lookup;
  for (RequestId id = 1; id <= replies; ++id) rig.Submit(id, Prompt(id, 20), 300);
  Finish(&rig);
  return rig.scheduler.Stats().steps;
}

}  // namespace

TEST(guesses_change_nothing_but_the_number_of_steps) {
  const Repeating repeating;
  for (const bool windowed : {false, true}) {
    for (const int pages : {32, 1000}) {
      for (const int max_rows : {3, 16, 64}) {
        const std::vector<KvGroup> full = {{0, 1}}, both = {{0, 1}, {24, 1}};
        Rig rig(windowed ? both : full, windowed ? 8 * pages : pages, max_rows, 400);
        rig.prompt_lookup = true;
        for (RequestId id = 1; id <= 12; ++id) {
          rig.temperature = id % 3 == 0 ? 0.5 : 0;
          rig.ignore_eos = id % 2 == 0;
          rig.Submit(id, Prompt(id, 5 + static_cast<int>(id * 13 % 120)), 40 + static_cast<int>(id) * 15);
        }
        Finish(&rig);
        for (RequestId id = 1; id <= 12; ++id) {
          const auto prompt = Prompt(id, 5 + static_cast<int>(id * 13 % 120));
          const auto expected = Expected(prompt, 40 + static_cast<int>(id) * 15, id % 2 == 0);
          EXPECT(rig.replies[id] == expected);
          EXPECT_EQ(rig.outcomes[id].completion_tokens, static_cast<int>(expected.size()));
        }
        const SchedulerStats stats = rig.scheduler.Stats();
        if (max_rows > 12) EXPECT(stats.guessed_tokens > stats.right_guesses && stats.right_guesses > 0);
        EXPECT(rig.model.rows_seen <= max_rows);
        EXPECT_EQ(rig.pool.used(0), 0u);
      }
    }
  }
}

TEST(right_guesses_save_steps) {
  const Repeating repeating;
  EXPECT(RowsFor(true, 1) * 2 < RowsFor(false, 1));
  EXPECT(RowsFor(true, 4) < RowsFor(false, 4));
}

TEST(a_reply_ends_where_it_would_without_guesses) {
  const Repeating repeating;
  const auto prompt = Prompt(5, 30);
  const auto whole = Expected(prompt, 200, true);
  for (int length = 1; length < 60; ++length) {
    Rig rig(1000, 64);
    rig.ignore_eos = true;
    rig.prompt_lookup = true;
    rig.Submit(1, prompt, length);
    Request stopped;
    stopped.id = 2;
    stopped.prompt_lookup = stopped.ignore_eos = true;
    stopped.max_tokens = 200;
    stopped.credits = 1 << 30;
    for (int i = 0; i < 5; ++i)
      stopped.stop.resize(1), stopped.stop[0] += static_cast<char>(whole[static_cast<size_t>(length + i)]);
    rig.Submit(stopped, prompt);
    Finish(&rig);
    EXPECT(rig.replies[1] == std::vector<Token>(whole.begin(), whole.begin() + length));
    const std::string text(whole.begin(), whole.end());
    EXPECT_EQ(rig.texts[2], text.substr(0, text.find(stopped.stop[0])));
    EXPECT_EQ(rig.pool.used(0), 0u);
  }
  Rig full(1000, 64, 100);  // the context's end
  full.ignore_eos = full.prompt_lookup = true;
  full.Submit(1, prompt, -1);
  Finish(&full);
  EXPECT_EQ(full.replies[1].size(), 70u);
}

TEST(a_reader_that_waits_gets_no_more_than_it_asked_for) {
  const Repeating repeating;
  Rig rig(1000, 64);
  rig.ignore_eos = rig.prompt_lookup = true;
  rig.Submit(1, Prompt(5, 30), 200, 7);
  size_t asked = 7;
  for (int round = 0; round < 20; ++round) {
    while (rig.Step()) {
    }
    EXPECT_EQ(rig.replies[1].size(), asked);
    rig.scheduler.AddCredits(1, 1, 1 + round % 9);
    asked += static_cast<size_t>(1 + round % 9);
  }
  EXPECT(rig.scheduler.Stats().right_guesses > 0);
}

TEST(what_is_wrong_with_a_wrong_guess_is_nobodys_matter) {
  const Repeating repeating;
  const auto prompt = Prompt(5, 30);
  Rig rig(1000, 64);
  rig.ignore_eos = rig.prompt_lookup = true;
  rig.model.poisoned_guesses = prompt.size();
  rig.Submit(1, prompt, 200);
  Finish(&rig);
  EXPECT(rig.replies[1] == Expected(prompt, 200, true));
  EXPECT(rig.scheduler.Stats().guessed_tokens > rig.scheduler.Stats().right_guesses);
}

TEST(nobody_waits_for_guesses) {
  const Repeating repeating;
  Rig rig(1000, 32);
  rig.ignore_eos = rig.prompt_lookup = true;
  rig.Submit(1, Prompt(5, 30), 300);
  while (rig.replies[1].size() < 100) rig.Step();
  rig.Submit(2, Prompt(6, 300), 10);
  while (rig.replies[2].empty()) {
    const uint64_t guessed = rig.scheduler.Stats().guessed_tokens;
    rig.Step();
    EXPECT_EQ(rig.scheduler.Stats().guessed_tokens, guessed);
  }
}

// What was guessed wrong lies in pages behind the reply's end, which others must not take over.
TEST(guesses_leave_nothing_in_the_cache) {
  const Repeating repeating;
  Rig rig(1000, 64);
  rig.ignore_eos = rig.prompt_lookup = true;
  for (RequestId id = 1; id <= 30; ++id) {
    const auto prompt = Prompt(5, 30);
    rig.Submit(id, prompt, 20 + static_cast<int>(id) * 7);
    Finish(&rig);
    auto longer = prompt;
    longer.insert(longer.end(), rig.replies[id].begin(), rig.replies[id].end());
    rig.Submit(100 + id, longer, 30);
    Finish(&rig);
    EXPECT(rig.replies[100 + id] == Expected(longer, 30, true));
  }
  EXPECT(rig.scheduler.Stats().prefix.hits > 30);
}

HARNESS_MAIN()
