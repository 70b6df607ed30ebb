#include "engine/drafter.h"

#include <algorithm>

#include "toy_draft.h"

using namespace tokenmill;

namespace {

// Says what the model says but where a hash of what came before is small: one time in `one_in`.
std::function<Token(std::span<const Token>)> WrongOnceIn(uint64_t one_in) {
  return [one_in](std::span<const Token> tokens) -> Token {
    uint64_t hash = tokens.size() * 31;
    for (const Token token : tokens.last(std::min<size_t>(tokens.size(), 4)))
      hash = (hash ^ static_cast<uint64_t>(token)) * 0x9E3779B97F4A7C15ull;
    return (hash >> 40) % one_in == 0 ? Token{'#'} : NextToken(tokens);
  };
}

void Finish(Rig* rig) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < 100000);
}

void CheckReplies(Rig* rig, RequestId requests) {
  for (RequestId id = 1; id <= requests; ++id) {
    const auto prompt = Prompt(id, 5 + static_cast<int>(id * 13 % 120));
    EXPECT(rig->replies[id] == Expected(prompt, 40 + static_cast<int>(id) * 15, id % 2 == 0));
  }
}

void SubmitMixed(Rig* rig, RequestId requests) {
  const auto drafter = rig->drafter;
  for (RequestId id = 1; id <= requests; ++id) {
    rig->temperature = id % 3 == 0 ? 0.5 : 0;
    rig->ignore_eos = id % 2 == 0;
    rig->prompt_lookup = id % 5 == 0;
    rig->drafter = id % 5 == 0 || id % 7 == 0 ? nullptr : drafter;
    rig->Submit(id, Prompt(id, 5 + static_cast<int>(id * 13 % 120)), 40 + static_cast<int>(id) * 15);
  }
  rig->drafter = drafter;
}

}  // namespace

TEST(a_draft_changes_nothing_but_the_number_of_steps) {
  const std::vector<KvGroup> full = {{0, 1}}, both = {{0, 1}, {24, 1}};
  for (const uint64_t one_in : {1, 2, 5, 1000000}) {
    for (const bool windowed : {false, true}) {
      for (const int pages : {32, 1000}) {
        Rig rig(windowed ? both : full, windowed ? 8 * pages : pages, 32, 400);
        ToyDraft toy;
        toy.next = WrongOnceIn(one_in);
        toy.groups = windowed ? both : full;
        const DraftRig draft(&toy, &rig, windowed ? 8 * 200 : 200);
        SubmitMixed(&rig, 12);
        Finish(&rig);
        CheckReplies(&rig, 12);
        const SchedulerStats stats = rig.scheduler.Stats();
        EXPECT(stats.guessed_tokens > 0);
        if (pages == 32) EXPECT(stats.preempted > 0);
        for (int g = 0; g < rig.drafter->pool().groups(); ++g) EXPECT_EQ(rig.drafter->pool().used(g), 0u);
        EXPECT_EQ(rig.drafter->CheckIntegrity(), "");
        EXPECT_EQ(rig.pool.used(0), 0u);
      }
    }
  }
}

TEST(a_draft_that_says_the_same_is_always_right) {
  for (const double temperature : {0.0, 0.7}) {
    size_t steps[2];
    for (const bool drafts : {false, true}) {
      Rig rig(1000, 64);
      ToyDraft toy;
      const DraftRig draft(&toy, &rig);
      rig.ignore_eos = true;
      rig.temperature = temperature;
      if (!drafts) rig.drafter = nullptr;
      rig.Submit(1, Prompt(1, 60), 300);
      Finish(&rig);
      EXPECT(rig.replies[1] == Expected(Prompt(1, 60), 300, true));
      const SchedulerStats stats = rig.scheduler.Stats();
      EXPECT_EQ(stats.right_guesses, stats.guessed_tokens);
      EXPECT_EQ(stats.guessed_tokens > 0, drafts);
      steps[drafts] = stats.steps;
    }
    EXPECT(steps[1] * 3 < steps[0]);
  }
}

TEST(the_more_often_a_draft_is_right_the_further_it_writes_ahead) {
  double last = 0;
  for (const uint64_t one_in : {1, 2, 4, 16}) {
    Rig rig(1000, 64);
    ToyDraft toy;
    toy.next = WrongOnceIn(one_in);
    const DraftRig draft(&toy, &rig);
    rig.ignore_eos = true;
    rig.Submit(1, Prompt(1, 60), 300);
    Finish(&rig);
    const SchedulerStats stats = rig.scheduler.Stats();
    const double ahead = static_cast<double>(stats.guessed_tokens) / static_cast<double>(stats.steps);
    EXPECT(ahead > last * 1.2);
    last = ahead;
  }
  EXPECT(last > 2);
}

TEST(a_step_of_the_draft_is_shared_by_all_that_want_one) {
  Rig rig(1000, 64);
  ToyDraft toy;
  const DraftRig draft(&toy, &rig);
  rig.ignore_eos = true;
  for (RequestId id = 1; id <= 6; ++id) rig.Submit(id, Prompt(id, 20), 200);
  Finish(&rig);
  for (RequestId id = 1; id <= 6; ++id) EXPECT(rig.replies[id] == Expected(Prompt(id, 20), 200, true));
  const SchedulerStats stats = rig.scheduler.Stats();
  EXPECT_EQ(toy.sequences_most, 6u);
  EXPECT(toy.steps * 3 < stats.guessed_tokens);
  EXPECT(rig.model.rows_seen <= 64);
}

// A prompt is read beside the replies: each step of the target brings each of them on.
TEST(a_draft_reads_prompts_in_pieces) {
  Rig rig(1000, 400);
  ToyDraft toy;
  rig.step_ms = [](const StepPlan&) { return 4.0; };
  toy.passes = [&rig](size_t rows) { rig.Pass(0.1 * static_cast<double>(rows)); };
  const DraftRig draft(&toy, &rig);
  rig.ignore_eos = true;
  rig.Submit(1, Prompt(1, 10), 100);
  while (rig.replies[1].size() < 20) rig.Step();
  rig.Submit(2, Prompt(2, 300), 60);
  toy.rows_most = 0;
  while (rig.replies[2].size() < 40) {
    const size_t before = rig.replies[1].size();
    rig.Step();
    if (rig.outcomes.count(1) == 0) EXPECT(rig.replies[1].size() > before);
  }
  EXPECT(toy.rows_most > 8 && toy.rows_most <= 40);
  Finish(&rig);
  EXPECT(rig.replies[2] == Expected(Prompt(2, 300), 60, true));
}

TEST(a_draft_as_slow_as_its_target_is_hardly_asked) {
  for (const double slowness : {0.05, 1.0}) {
    Rig rig(1000, 64);
    ToyDraft toy;
    rig.step_ms = [](const StepPlan& plan) { return 3 + static_cast<double>(plan.rows()); };
    toy.passes = [&](size_t rows) { rig.Pass(slowness * (3 + static_cast<double>(rows))); };
    const DraftRig draft(&toy, &rig);
    rig.ignore_eos = true;
    rig.Submit(1, Prompt(1, 30), 350);
    Finish(&rig);
    const SchedulerStats stats = rig.scheduler.Stats();
    EXPECT(stats.guessed_tokens > 0);
    EXPECT_EQ(stats.guessed_tokens > 100, slowness < 1);
    if (slowness == 1) EXPECT(stats.guessed_tokens < 30);
  }
}

// What a draft costs changes: it is tried again and again, though it has to read what was said meanwhile.
TEST(a_draft_that_was_slow_gets_another_chance) {
  Rig rig(1000, 64, 2000);
  ToyDraft toy;
  double slowness = 2;
  rig.step_ms = [](const StepPlan& plan) { return 3 + static_cast<double>(plan.rows()); };
  toy.passes = [&](size_t rows) { rig.Pass(slowness * (3 + static_cast<double>(rows))); };
  const DraftRig draft(&toy, &rig, 4096, 2000);
  rig.ignore_eos = true;
  rig.Submit(1, Prompt(1, 100), 1500);
  while (rig.replies[1].size() < 300) rig.Step();
  const uint64_t slow = rig.scheduler.Stats().guessed_tokens;
  EXPECT(slow > 0 && slow < 40);
  slowness = 0.05;
  Finish(&rig);
  EXPECT(rig.scheduler.Stats().guessed_tokens > 500);
  EXPECT(rig.replies[1] == Expected(Prompt(1, 100), 1500, true));
}

TEST(a_draft_guesses_nothing_beyond_its_context) {
  Rig rig(1000, 64);
  ToyDraft toy;
  const DraftRig draft(&toy, &rig, 4096, 100);
  rig.ignore_eos = true;
  rig.Submit(1, Prompt(1, 50), 250);
  while (rig.replies[1].size() < 60) rig.Step();
  const uint64_t guessed = rig.scheduler.Stats().guessed_tokens;
  EXPECT(guessed > 20 && guessed <= 50);
  EXPECT_EQ(rig.drafter->pool().used(0), 0u);
  Finish(&rig);
  EXPECT_EQ(rig.scheduler.Stats().guessed_tokens, guessed);
  EXPECT(rig.replies[1] == Expected(Prompt(1, 50), 250, true));
}

TEST(whoever_finds_no_pages_goes_without_guesses) {
  for (const size_t pages : {0, 16, 32, 4096}) {
    Rig rig(1000, 64);
    ToyDraft toy;
    toy.refuses_memory = pages == 4096;
    toy.next = WrongOnceIn(6);
    const DraftRig draft(&toy, &rig, pages);
    rig.ignore_eos = true;
    for (RequestId id = 1; id <= 8; ++id) rig.Submit(id, Prompt(id, 40), 150);
    Finish(&rig);
    for (RequestId id = 1; id <= 8; ++id) EXPECT(rig.replies[id] == Expected(Prompt(id, 40), 150, true));
    EXPECT_EQ(rig.scheduler.Stats().guessed_tokens > 0, pages > 0 && !toy.refuses_memory);
    EXPECT(rig.drafter->pool().used(0) + rig.drafter->pool().cached(0) <= pages);
  }
}

TEST(a_draft_follows_its_models_budget) {
  Rig rig(1000, 64);
  ToyDraft toy;
  const DraftRig draft(&toy, &rig, 256);
  rig.ignore_eos = true;
  for (RequestId id = 1; id <= 6; ++id) rig.Submit(id, Prompt(id, 60), 300);
  for (const size_t pages : {256, 32, 16, 0, 64}) {
    draft.SetPages(pages);
    for (int i = 0; i < 8; ++i) {
      rig.Step();
      EXPECT(rig.drafter->pool().committed_bytes() <= pages * draft.source.executor->PageBytes(0));
    }
  }
  Finish(&rig);
  for (RequestId id = 1; id <= 6; ++id) EXPECT(rig.replies[id] == Expected(Prompt(id, 60), 300, true));
}

TEST(what_ends_takes_nothing_along) {
  Rig rig(200, 32);
  ToyDraft toy;
  toy.next = WrongOnceIn(5);
  DraftRig draft(&toy, &rig);
  rig.ignore_eos = true;
  for (RequestId id = 1; id <= 60; ++id) {
    rig.Submit(id, Prompt(id, 10 + static_cast<int>(id % 50)), 100);
    for (int i = 0; i < 3; ++i) rig.Step();
    if (id % 2 == 0) rig.scheduler.Cancel(1, id - 1);
    rig.CheckIntegrity();
  }
  Finish(&rig);
  for (RequestId id = 2; id <= 60; id += 2)
    EXPECT(rig.replies[id] == Expected(Prompt(id, 10 + static_cast<int>(id % 50)), 100, true));
  EXPECT_EQ(rig.drafter->pool().used(0), 0u);
  EXPECT_EQ(rig.drafter->CheckIntegrity(), "");
}

TEST(a_draft_that_fails_costs_guesses_alone) {
  for (const bool poisoned : {false, true}) {
    Rig rig(1000, 64);
    ToyDraft toy;
    const DraftRig draft(&toy, &rig);
    const auto prompt = Prompt(3, 40);
    rig.ignore_eos = true;
    if (poisoned) toy.poisoned = {prompt[0]};
    rig.Submit(1, prompt, 200);
    int steps = 0;
    while (rig.Step()) toy.fails = !poisoned && ++steps % 3 == 0;
    EXPECT(rig.replies[1] == Expected(prompt, 200, true));
    EXPECT_EQ(rig.scheduler.Stats().guessed_tokens > 0, !poisoned);
    EXPECT_EQ(rig.scheduler.Stats().right_guesses, rig.scheduler.Stats().guessed_tokens);
  }
}

// Whatever came true and whatever did not: when a draft guesses, its pages hold what was said, and guesses behind.
TEST(a_draft_has_read_what_was_said) {
  const std::vector<KvGroup> full = {{0, 1}}, both = {{0, 1}, {24, 1}};
  for (const bool windowed : {false, true}) {
    Rig rig(windowed ? both : full, 4000, 64, 400);
    ToyDraft toy;
    toy.groups = windowed ? both : full;
    const auto prompt = Prompt(1, 37);
    auto said = prompt;
    const auto reply = Expected(prompt, 300, true);
    said.insert(said.end(), reply.begin(), reply.end());
    size_t asked = 0;
    toy.next = [&](std::span<const Token> tokens) {
      const size_t certain = prompt.size() + rig.replies[1].size();
      EXPECT(tokens.size() >= certain);
      EXPECT(std::equal(said.begin(), said.begin() + static_cast<std::ptrdiff_t>(certain), tokens.begin()));
      ++asked;
      return WrongOnceIn(4)(tokens);
    };
    const DraftRig draft(&toy, &rig, 4000);
    rig.ignore_eos = true;
    rig.Submit(1, prompt, 300);
    Finish(&rig);
    EXPECT(asked > 200 && rig.replies[1] == reply);
  }
}

// The next turn of a conversation: the draft reads what is new.
TEST(a_draft_knows_prefixes_again) {
  Rig rig(1000, 64);
  ToyDraft toy;
  const DraftRig draft(&toy, &rig);
  rig.ignore_eos = true;
  auto prompt = Prompt(1, 200);
  rig.Submit(1, prompt, 40);
  Finish(&rig);
  prompt.insert(prompt.end(), rig.replies[1].begin(), rig.replies[1].end());
  prompt.push_back('?');
  toy.rows_most = 0;
  rig.Submit(2, prompt, 40);
  Finish(&rig);
  EXPECT(rig.replies[2] == Expected(prompt, 40, true));
  EXPECT(toy.rows_most > 0 && toy.rows_most < 20);
  rig.salt = "another";
  rig.Submit(3, prompt, 40);
  Finish(&rig);
  EXPECT(toy.rows_most > 20);
}

TEST(a_draft_of_another_vocabulary_is_refused) {
  Rig rig(100);
  ToyDraft toy;
  DraftRig draft(&toy, &rig);
  TokenizerSpec spec = rig.tokenizer->spec();
  spec.tokens[256] = "<stop>";
  draft.source.tokenizer = Tokenizer::Create(spec).value();
  Status status = Drafter::Open(draft.source, *rig.tokenizer).status();
  EXPECT(status.code() == Code::kIncompatible);
  EXPECT(status.message().find(
             "token 256 of the draft model 'toy' is '<stop>', and that of the model is '<end>'") !=
         std::string::npos);
  spec.tokens[256] = "<end>";
  spec.tokens.push_back("<more>");
  spec.kinds.push_back(TokenKind::kControl);
  draft.source.tokenizer = Tokenizer::Create(spec).value();
  status = Drafter::Open(draft.source, *rig.tokenizer).status();
  EXPECT(status.code() == Code::kIncompatible);
  EXPECT(status.message().find("has 258 tokens, and the model has 257") != std::string::npos);
}

HARNESS_MAIN()
