#include <random>

#include "toy_model.h"

using namespace tokenmill;

TEST(replies_are_the_same_with_few_pages_and_many) {
  for (const int pages : {32, 48, 1000}) {
    for (const int max_rows : {3, 16, 64}) {
      Rig rig(pages, max_rows);
      for (uint64_t id = 1; id <= 20; ++id)
        rig.Submit(id, Prompt(id, 5 + static_cast<int>(id * 13 % 120)), 90);
      int steps = 0;
      while (rig.Step()) EXPECT(++steps < 100000);
      for (uint64_t id = 1; id <= 20; ++id) {
        const auto prompt = Prompt(id, 5 + static_cast<int>(id * 13 % 120));
        EXPECT(rig.replies[id] == Expected(prompt, 90));
        EXPECT(rig.outcomes[id].status.ok());
        EXPECT_EQ(rig.outcomes[id].prompt_tokens, static_cast<int>(prompt.size()));
      }
      EXPECT_EQ(rig.pool.used(0), 0u);
      EXPECT(rig.model.rows_seen <= max_rows);
      if (pages == 32 && max_rows == 64) EXPECT(rig.scheduler.Stats().preempted > 0);
    }
  }
}

TEST(random_cancels_and_pauses_lose_nothing) {
  std::mt19937 random(7);
  Rig rig(40, 24);
  std::set<RequestId> cancelled;
  RequestId next = 1;
  for (int step = 0; step < 4000; ++step) {
    if (random() % 20 == 0 && next < 120) {
      rig.Submit(next, Prompt(next, 1 + static_cast<int>(random() % 100)), 60,
                 static_cast<int>(random() % 40) + 1);
      ++next;
    }
    if (next > 1 && random() % 40 == 0) {
      const RequestId id = 1 + random() % (next - 1);
      if (rig.outcomes.count(id) == 0) cancelled.insert(id);
      rig.scheduler.Cancel(1, id);
      rig.Drain();
    }
    if (next > 1) rig.scheduler.AddCredits(1, 1 + random() % (next - 1), static_cast<int>(random() % 30));
    rig.Step();
  }
  for (RequestId id = 1; id < next; ++id) rig.scheduler.AddCredits(1, id, 1000);
  while (rig.Step()) {
  }
  EXPECT(next > 60 && cancelled.size() > 5);
  for (RequestId id = 1; id < next; ++id) {
    EXPECT_EQ(rig.outcomes.count(id), 1u);
    if (cancelled.count(id) > 0) {
      EXPECT(rig.outcomes[id].reason == FinishReason::kAborted);
    } else {
      EXPECT_EQ(rig.outcomes[id].completion_tokens, static_cast<int>(rig.replies[id].size()));
    }
    EXPECT_EQ(rig.texts[id].size(), rig.replies[id].size());
  }
  EXPECT_EQ(rig.pool.used(0), 0u);
}

TEST(a_paused_reply_waits_and_others_go_on) {
  Rig rig(100);
  rig.Submit(1, {1, 2, 3}, 40, 4);
  rig.Submit(2, {4, 5, 6}, 40);
  while (rig.Step()) {
  }
  EXPECT_EQ(rig.replies[1].size(), 4u);
  EXPECT(rig.outcomes.count(2) == 1 && rig.outcomes.count(1) == 0);
  EXPECT_EQ(rig.scheduler.Stats().paused, 1);
  rig.scheduler.AddCredits(1, 1, 1000);
  while (rig.Step()) {
  }
  EXPECT(rig.replies[1] == Expected({1, 2, 3}, 40));
}

TEST(a_paused_reply_gives_its_pages_before_anyone_else) {
  Rig rig(16, 64);
  rig.Submit(1, Prompt(5, 100), 60, 1);
  rig.Step();
  rig.Step();
  EXPECT(rig.pool.used(0) >= 7);
  rig.Submit(2, Prompt(6, 150), 100);
  while (rig.Step()) {
  }
  EXPECT_EQ(rig.outcomes.count(2), 1u);
  EXPECT(rig.scheduler.Stats().preempted >= 1);
  rig.scheduler.AddCredits(1, 1, 1000);
  while (rig.Step()) {
  }
  EXPECT(rig.replies[1] == Expected(Prompt(5, 100), 60));
  EXPECT(rig.replies[2] == Expected(Prompt(6, 150), 100));
}

// A window of 40 tokens beside full attention; one sequence of `context` tokens just fits.
Rig TwoGroupRig(int context, int max_rows = 32) {
  const int full_slabs = (context / kPageTokens + BlockPool::kSlabPages - 1) / BlockPool::kSlabPages;
  const int slabs = full_slabs * ToyModel::kLargePage + 1;
  return Rig({{0, 1}, {40, 1}}, slabs * BlockPool::kSlabPages, max_rows, context);
}

TEST(windowed_pages_that_lie_scattered_cost_no_reply_its_full_length) {
  Rig rig = TwoGroupRig(2048);
  rig.ignore_eos = true;
  for (RequestId id = 1; id <= 16; ++id) rig.Submit(id, Prompt(id, 10), id == 1 ? -1 : 54);
  int steps = 0;
  while (rig.Step()) EXPECT(++steps < 10000);
  for (RequestId id = 1; id <= 16; ++id) {
    EXPECT_EQ(rig.outcomes[id].status.message(), "");
    EXPECT(rig.replies[id] == Expected(Prompt(id, 10), id == 1 ? 2038 : 54, true));
  }
  EXPECT_EQ(rig.pool.used(0) + rig.pool.used(1), 0u);
}

TEST(windowed_pages_that_lie_scattered_starve_no_long_reply_in_a_crowd) {
  Rig rig = TwoGroupRig(2048);
  rig.ignore_eos = true;
  rig.Submit(1, Prompt(1, 10), -1);
  RequestId next = 2;
  int steps = 0;
  for (; rig.outcomes.count(1) == 0 && steps < 20000; ++steps) {
    while (rig.scheduler.Stats().queued + rig.scheduler.Stats().running < 17) {
      Request request;
      request.id = next;
      request.tenant = std::to_string(next % 5);
      request.max_tokens = 20 + static_cast<int>(next * 37 % 300);
      request.ignore_eos = true;
      request.credits = 1000;
      rig.Submit(std::move(request), Prompt(next++, 10));
    }
    rig.Step();
  }
  EXPECT(steps < 10000);
  EXPECT(rig.scheduler.Stats().preempted > 0);
  EXPECT(rig.replies[1] == Expected(Prompt(1, 10), 2038, true));
}

TEST(two_groups_that_compete_for_memory_lose_nothing) {
  for (const int max_rows : {5, 32, 100}) {
    Rig rig = TwoGroupRig(512, max_rows);
    rig.ignore_eos = true;
    const auto prompt = [](RequestId id) { return Prompt(id, 3 + static_cast<int>(id * 97 % 300)); };
    for (RequestId id = 1; id <= 24; ++id) rig.Submit(id, prompt(id), -1);
    int steps = 0;
    while (rig.Step()) EXPECT(++steps < 100000);
    for (RequestId id = 1; id <= 24; ++id) {
      EXPECT_EQ(rig.outcomes[id].status.message(), "");
      EXPECT(rig.replies[id] == Expected(prompt(id), 512 - static_cast<int>(prompt(id).size()), true));
    }
    EXPECT_EQ(rig.pool.used(0) + rig.pool.used(1), 0u);
  }
}

TEST(a_prompt_that_fits_in_each_group_but_not_in_both_waits) {
  constexpr int kUnits = 2 * ToyModel::kLargePage + 1;
  Rig rig({{0, 1}, {40, 1}}, kUnits * BlockPool::kSlabPages, 64, 272);
  rig.ignore_eos = true;
  for (RequestId id = 1; id <= 3; ++id) rig.Submit(id, Prompt(id, 10), 60);
  for (int step = 0; step < 40; ++step) rig.Step();
  rig.Submit(4, Prompt(4, 256), 10);
  while (rig.Step()) {
  }
  EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
  EXPECT(rig.replies[4] == Expected(Prompt(4, 256), 10, true));
}

TEST(decode_rows_go_before_prefill) {
  Rig rig(200, 16);
  rig.Submit(1, {9, 9, 9}, 200);
  rig.Step();
  rig.Submit(2, Prompt(3, 300), 5);
  for (int step = 0; step < 10; ++step) {
    const size_t before = rig.replies[1].size();
    rig.Step();
    EXPECT(rig.replies[1].size() == before + 1 || rig.outcomes.count(1) == 1);
  }
}

TEST(refusals) {
  Rig rig(100, 16, 64);
  rig.Submit(1, {});
  EXPECT(rig.outcomes[1].status.code() == Code::kInvalidArgument);
  rig.Submit(2, Prompt(1, 64));
  EXPECT(rig.outcomes[2].status.code() == Code::kContextOverflow);
  rig.Submit(3, {1, 2, 999});
  EXPECT(rig.outcomes[3].status.code() == Code::kInvalidArgument);
  rig.Submit(4, {1, 2}, 0);
  EXPECT(rig.outcomes[4].status.ok() && rig.outcomes[4].reason == FinishReason::kLength);
  EXPECT(!rig.Step());
}

TEST(a_context_that_fills_up_ends_with_length) {
  Rig rig(100, 16, 64);
  rig.Submit(1, Prompt(77, 60), -1);
  while (rig.Step()) {
  }
  const auto expected = Expected(Prompt(77, 60), 4);
  EXPECT(rig.replies[1] == expected);
  EXPECT(rig.outcomes[1].reason == (expected.size() == 4 ? FinishReason::kLength : FinishReason::kStop));
}

TEST(a_row_of_nan_rejects_its_own_reply_only) {
  Rig rig(100);
  rig.model.poisoned = {200};
  rig.Submit(1, {200, 1}, 20);
  rig.Submit(2, {100, 1}, 20);
  while (rig.Step()) {
  }
  EXPECT(rig.outcomes[1].status.code() == Code::kInternal);
  EXPECT(rig.outcomes[2].status.ok());
  EXPECT(rig.replies[2] == Expected({100, 1}, 20));
}

TEST(a_row_without_memory_to_draw_from_rejects_its_own_reply_only) {
  Rig rig(100);
  rig.temperature = 1;
  rig.model.hungry = {200};
  rig.Submit(1, {200, 1}, 20);
  rig.Submit(2, {100, 1}, 20);
  while (rig.Step()) {
  }
  EXPECT(rig.outcomes[1].status.code() == Code::kOutOfMemory);
  EXPECT(rig.outcomes[2].status.ok());
  EXPECT(rig.replies[2] == Expected({100, 1}, 20));
}

TEST(scores_cover_every_token_but_the_first) {
  for (const int max_rows : {1, 7, 64}) {
    Rig rig(100, max_rows);
    std::vector<Token> tokens = {7, 8, 9};
    for (int i = 0; i < 50; ++i) tokens.push_back(NextToken(tokens) == kEnd ? 1 : NextToken(tokens));
    tokens[20] = 'A';
    Request request;
    request.id = 1;
    request.score = true;
    rig.scheduler.Submit(1, request, tokens, rig.now);
    while (rig.Step()) {
    }
    const Outcome& outcome = rig.outcomes[1];
    EXPECT(outcome.score_tokens == tokens);
    EXPECT_EQ(outcome.score_logprobs.size(), tokens.size());
    EXPECT(std::isnan(outcome.score_logprobs[0]));
    for (size_t i = 1; i < tokens.size(); ++i) {
      const std::vector<Token> before(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_EQ(outcome.score_logprobs[i], tokens[i] == NextToken(before) ? -1.0f : -7.0f);
    }
  }
}

TEST(scores_survive_preemption) {
  Rig rig(32, 8, 480);
  // An older reply grows beside the score and takes its pages when the pool is used up.
  Request growing;
  growing.id = 1;
  growing.max_tokens = 250;
  growing.credits = 1000;
  growing.ignore_eos = true;
  rig.scheduler.Submit(1, growing, Prompt(1, 216), rig.now);
  for (int step = 0; step < 32; ++step) rig.Step();
  std::vector<Token> prompt = {7};
  while (prompt.size() < 268) {
    const Token next = NextToken(prompt);
    prompt.push_back(UniformAt(5, prompt.size()) < 0.5 || next == kEnd ? 'A' : next);
  }
  Request request;
  request.id = 2;
  request.score = true;
  rig.scheduler.Submit(1, request, prompt, rig.now);
  while (rig.Step()) {
  }
  EXPECT(rig.scheduler.Stats().preempted > 0);
  EXPECT_EQ(rig.outcomes[2].score_logprobs.size(), prompt.size());
  for (size_t i = 1; i < prompt.size(); ++i) {
    const std::vector<Token> before(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(rig.outcomes[2].score_logprobs[i], prompt[i] == NextToken(before) ? -1.0f : -7.0f);
  }
}

TEST(a_system_that_refuses_memory_fails_replies_and_recovers) {
  Rig rig(100);
  rig.model.refuses_memory = true;
  rig.Submit(1, {1, 2});
  rig.Submit(2, {3, 4});
  EXPECT(!rig.Step());
  EXPECT(rig.outcomes[1].status.code() == Code::kOutOfMemory);
  EXPECT(rig.outcomes[2].status.code() == Code::kOutOfMemory);
  rig.model.refuses_memory = false;
  rig.Submit(3, {5, 6}, 10);
  while (rig.Step()) {
  }
  EXPECT(rig.replies[3] == Expected({5, 6}, 10));
}

TEST(stop_strings_are_never_given_out_in_part) {
  const auto reply = Expected({42}, 50);
  std::string text;
  for (const Token token : reply) text += static_cast<char>(token);
  for (size_t begin = 1; begin + 3 < text.size(); begin += 5) {
    Rig rig(100);
    Request request;
    request.id = 1;
    request.max_tokens = 50;
    request.credits = 1000;
    request.stop = {text.substr(begin, 3), text.substr(begin, 2) + "!"};
    const size_t at = text.find(request.stop[0]);
    rig.scheduler.Submit(1, request, {42}, rig.now);
    while (rig.Step()) EXPECT(text.substr(0, at).rfind(rig.texts[1], 0) == 0);
    EXPECT_EQ(rig.texts[1], text.substr(0, at));
    EXPECT_EQ(rig.replies[1].size(), at + 3);
    EXPECT(rig.outcomes[1].reason == FinishReason::kStop);
  }
}

TEST(ending_all_tells_everyone) {
  Rig rig(100);
  for (RequestId id = 1; id <= 5; ++id) rig.Submit(id, Prompt(id, 20), 100);
  rig.Step();
  rig.scheduler.EndAll(1, Status(Code::kDisposed, "gone"));
  rig.Drain();
  for (RequestId id = 1; id <= 5; ++id) EXPECT(rig.outcomes[id].status.code() == Code::kDisposed);
  EXPECT_EQ(rig.pool.used(0), 0u);
  EXPECT(!rig.Step());
}

HARNESS_MAIN()
