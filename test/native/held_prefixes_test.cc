// What sessions hold stays while cached pages go, gives way to what runs, and changes no reply.
#include <random>

#include "toy_model.h"

using namespace tokenmill;

namespace {

constexpr ClientId kClient = 1;  // the rig's

// A window of 40 tokens beside full attention.
const std::vector<std::vector<KvGroup>> kGroups = {{{0, 1}}, {{0, 1}, {40, 1}}};

void RunAll(Rig* rig) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < 100000);
}

Request Turn(RequestId id, HoldId hold, int max_tokens = 10) {
  Request request;
  request.id = id;
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.credits = 1 << 30;
  request.hold = hold;
  return request;
}

size_t Used(const Rig& rig) {
  size_t used = 0;
  for (int g = 0; g < rig.pool.groups(); ++g) used += rig.pool.used(g);
  return used;
}

std::vector<Token> Joined(std::vector<Token> tokens, const std::vector<Token>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

std::vector<Token> Take(Rig* rig, RequestId id, HoldId hold, const std::vector<Token>& prompt) {
  rig->Submit(Turn(id, hold), prompt);
  RunAll(rig);
  EXPECT(rig->replies[id] == Expected(prompt, 10, true));
  return rig->replies[id];
}

}  // namespace

TEST(a_held_conversation_outlives_what_is_only_cached) {
  for (const auto& groups : kGroups) {
    for (const bool holds : {true, false}) {
      Rig rig(groups, 400, 64, 400);
      const auto first = Prompt(1, 100);
      const auto reply = Take(&rig, 1, holds ? 7 : 0, first);
      for (RequestId id = 10; id < 60; ++id) Take(&rig, id, 0, Prompt(id, 200));
      EXPECT(rig.pool.evicted() > 0);
      const auto next = Joined(Joined(first, reply), Prompt(2, 20));
      Take(&rig, 2, 7, next);
      EXPECT_EQ(rig.outcomes[2].cached_tokens, holds ? 109 : 0);
      rig.scheduler.held().Release({kClient, 7});
      EXPECT_EQ(Used(rig), 0u);
      rig.CheckIntegrity();
    }
  }
}

TEST(what_runs_takes_held_pages_and_preempts_nobody_for_them) {
  for (const auto& groups : kGroups) {
    Rig rig(groups, groups.size() == 1 ? 100 : 400, 64, 400);
    std::map<RequestId, std::vector<Token>> prompts;
    for (RequestId id = 1; id <= 30; ++id) Take(&rig, id, id, prompts[id] = Prompt(id, 150));
    EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
    EXPECT(Used(rig) > 0);
    // The last one is held, the first one has long been given up.
    Take(&rig, 101, 0, prompts[30]);
    EXPECT_EQ(rig.outcomes[101].cached_tokens, 149);
    Take(&rig, 102, 0, Joined(prompts[1], {5}));
    EXPECT_EQ(rig.outcomes[102].cached_tokens, 0);
    // One of full length finds room.
    Take(&rig, 103, 0, Prompt(99, 390));
    EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
    rig.scheduler.held().ReleaseAll(kClient);
    EXPECT_EQ(Used(rig), 0u);
    rig.CheckIntegrity();
  }
}

TEST(what_is_held_is_not_given_up_in_vain) {
  for (const auto& groups : kGroups) {
    Rig rig(groups, groups.size() == 1 ? 96 : (6 * ToyModel::kLargePage + 2) * 16, 64, 1400);
    const auto& held = rig.scheduler.held();
    const auto holds = [&](HoldId hold) { return held.At(held.Find({kClient, hold})) != nullptr; };
    for (RequestId id = 1; id <= 3; ++id) Take(&rig, id, id, Prompt(id, 100));
    rig.Submit(Turn(10, 0, 60), Prompt(10, 900));
    while (rig.replies[10].empty()) rig.Step();
    // Does not fit beside the one that runs, whatever sessions hold.
    rig.Submit(Turn(11, 0), Prompt(11, 900));
    for (int step = 0; step < 5; ++step) rig.Step();
    EXPECT_EQ(rig.scheduler.Stats().queued, 1);
    for (HoldId hold = 1; hold <= 3; ++hold) EXPECT(holds(hold));
    // Fits when some of it goes: the oldest, and no more than that.
    Rig other(groups, groups.size() == 1 ? 96 : (6 * ToyModel::kLargePage + 2) * 16, 64, 1400);
    for (RequestId id = 1; id <= 3; ++id) Take(&other, id, id, Prompt(id, 100));
    other.Submit(Turn(10, 0, 60), Prompt(10, 900));
    while (other.replies[10].empty()) other.Step();
    other.Submit(Turn(11, 0), Prompt(11, 300));
    for (int step = 0; step < 9; ++step) other.Step();
    EXPECT_EQ(other.scheduler.Stats().queued, 0);
    const auto& others = other.scheduler.held();
    EXPECT(others.At(others.Find({kClient, 1})) == nullptr);
    EXPECT(others.At(others.Find({kClient, 3})) != nullptr);
    RunAll(&other);
    RunAll(&rig);
    EXPECT(rig.replies[11] == Expected(Prompt(11, 900), 10, true));
    EXPECT(other.replies[11] == Expected(Prompt(11, 300), 10, true));
    EXPECT_EQ(rig.scheduler.Stats().preempted + other.scheduler.Stats().preempted, 0u);
  }
}

TEST(what_is_restored_makes_room_only_where_it_fits) {
  for (const auto& groups : kGroups) {
    Rig rig(groups, groups.size() == 1 ? 32 : (2 * ToyModel::kLargePage + 2) * 16, 64, 400);
    HeldPrefixes& held = rig.scheduler.held();
    const auto reserve = [&](HoldId hold, int tokens) {
      return held.Reserve({kClient, hold}, Prompt(hold, tokens), {});
    };
    for (RequestId id = 1; id <= 2; ++id) Take(&rig, id, id, Prompt(id, 100));
    Take(&rig, 3, 0, Prompt(3, 150));  // stays cached
    const size_t used = Used(rig);
    EXPECT(reserve(4, 100000) == 0 && reserve(4, 32 * kPageTokens + 1) == 0);
    EXPECT_EQ(Used(rig), used);
    EXPECT_EQ(rig.pool.evicted(), 0u);
    EXPECT(reserve(5, 24 * kPageTokens) != 0);
    EXPECT(held.At(held.Find({kClient, 1})) == nullptr);
    EXPECT(held.At(held.Find({kClient, 2})) != nullptr);
    rig.CheckIntegrity();
    held.ReleaseAll(kClient);
    EXPECT_EQ(Used(rig), 0u);
  }
}

TEST(forks_take_no_pages_until_they_diverge) {
  for (const auto& groups : kGroups) {
    Rig rig(groups, 4000, 512, 2100);
    const auto first = Prompt(1, 2000);
    const auto common = Joined(first, Take(&rig, 1, 1, first));
    const size_t used = Used(rig);
    auto& held = rig.scheduler.held();
    for (HoldId copy = 2; copy <= 101; ++copy) held.Fork({kClient, 1}, {kClient, copy});
    EXPECT_EQ(Used(rig), used);
    held.Release({kClient, 1});
    EXPECT_EQ(Used(rig), used);
    for (RequestId id = 2; id <= 4; ++id) {
      Take(&rig, id, id, Joined(common, Prompt(id, 10)));
      EXPECT_EQ(rig.outcomes[id].cached_tokens, id == 2 ? 2009 : 2010);
    }
    // Each has its own end, and all the pages before that once.
    EXPECT_LE(Used(rig), used + 3 * 3 * groups.size());
    held.Fork({kClient, 77}, {kClient, 77});
    for (HoldId copy = 2; copy <= 101; ++copy) held.Release({kClient, copy});
    EXPECT_EQ(Used(rig), 0u);
    rig.CheckIntegrity();
  }
}

TEST(turns_that_fail_leave_what_was_held) {
  Rig rig(400, 64, 400);
  const auto first = Prompt(1, 100);
  Take(&rig, 1, 1, first);
  const size_t used = Used(rig);
  rig.Submit(Turn(2, 1), Prompt(2, 500));  // beyond the context
  rig.Submit(Turn(3, 1), Prompt(3, 50));
  rig.scheduler.Cancel(kClient, 3);  // before its first step
  rig.Submit(Turn(4, 1), Prompt(4, 50));
  rig.model.fails = true;
  RunAll(&rig);
  rig.model.fails = false;
  EXPECT_EQ(Used(rig), used);
  rig.Submit(Turn(5, 1, 50), Prompt(5, 150));
  for (int step = 0; step < 6; ++step) rig.Step();
  rig.scheduler.Cancel(kClient, 5);
  EXPECT(Used(rig) > used);  // what a cancelled turn has computed is the conversation's
  rig.scheduler.held().Release({kClient, 1});
  rig.scheduler.held().Release({kClient, 1});
  EXPECT_EQ(Used(rig), 0u);
}

// Conversations that are held, forked and released at random on few pages: every reply is the one that a conversation
// has alone, and in the end all pages are there.
TEST(random_conversations) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](size_t count) {
      return std::uniform_int_distribution<size_t>(0, count - 1)(random);
    };
    Rig rig(kGroups[seed % 2], seed % 2 == 0 ? 80 : 320, 64, 400);
    auto& held = rig.scheduler.held();
    struct Conversation {
      std::vector<Token> tokens, prompt;
      RequestId running = 0;
    };
    std::map<HoldId, Conversation> conversations;
    HoldId holds = 0;
    RequestId ids = 0;
    for (int round = 0; round < 400; ++round) {
      if (conversations.size() < 6 || pick(10) == 0) {
        ++holds;
        conversations[holds].tokens = Prompt(holds % 4, 40);
      }
      auto chosen = conversations.begin();
      std::advance(chosen, static_cast<std::ptrdiff_t>(pick(conversations.size())));
      auto& [hold, conversation] = *chosen;
      if (conversation.running == 0 && conversation.tokens.size() < 300) {
        conversation.prompt = Joined(conversation.tokens, Prompt(ids + 100, static_cast<int>(pick(40)) + 1));
        conversation.running = ++ids;
        rig.Submit(Turn(ids, hold, 8), conversation.prompt);
      } else if (conversation.running == 0 && pick(2) == 0) {
        held.Fork({kClient, hold}, {kClient, ++holds});
        conversations[holds].tokens = conversation.tokens;
      } else if (conversation.running == 0) {
        held.Release({kClient, hold});
        conversations.erase(chosen);
      }
      for (size_t steps = pick(4); steps > 0; --steps) rig.Step();
      for (auto& [name, each] : conversations) {
        if (rig.outcomes.count(each.running) == 0) continue;
        EXPECT_EQ(rig.outcomes[each.running].status.message(), "");
        EXPECT(rig.replies[each.running] == Expected(each.prompt, 8, true));
        each.tokens = Joined(each.prompt, rig.replies[each.running]);
        each.running = 0;
      }
    }
    RunAll(&rig);
    for (RequestId id = 1; id <= ids; ++id) EXPECT(rig.outcomes.count(id) == 1);
    held.ReleaseAll(kClient);
    EXPECT_EQ(Used(rig), 0u);
    rig.CheckIntegrity();
  }
}

HARNESS_MAIN()
