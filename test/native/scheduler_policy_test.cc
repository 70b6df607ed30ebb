// Who goes first, who waits, who is refused and who runs out of time.
#include <algorithm>
#include <random>

#include "toy_model.h"

using namespace tokenmill;

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Request Ask(RequestId id, int max_tokens, int priority = 0, std::string tenant = "") {
  Request request;
  request.id = id;
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.credits = 1 << 30;
  request.priority = priority;
  request.tenant = std::move(tenant);
  return request;
}

Rig RigOf(int pages, SchedulerLimits limits) { return Rig({{0, 1}}, pages, limits); }

// The step costs what a small model's costs on two cores.
double StepMs(const StepPlan& plan) {
  int decode = 0;
  for (const auto& entry : plan.entries()) decode += entry.sequence->decoding();
  return 4 + 0.2 * decode + 0.25 * (static_cast<double>(plan.rows()) - decode);
}

void Finish(Rig* rig, int steps_max = 100000) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < steps_max);
}

void ExpectReply(Rig& rig, RequestId id, const std::vector<Token>& prompt, int max_tokens) {
  EXPECT_EQ(rig.outcomes[id].status.message(), "");
  EXPECT(rig.replies[id] == Expected(prompt, max_tokens, true));
}

}  // namespace

TEST(a_higher_priority_is_finished_first) {
  Rig rig(32, 32);  // room for one or two at a time
  for (RequestId id = 1; id <= 9; ++id) rig.Submit(Ask(id, 40, static_cast<int>(id % 3)), Prompt(id, 200));
  Finish(&rig);
  EXPECT_EQ(rig.ended.size(), 9u);
  for (size_t i = 1; i < rig.ended.size(); ++i) {
    EXPECT(rig.ended[i - 1] % 3 >= rig.ended[i] % 3);
    if (rig.ended[i - 1] % 3 == rig.ended[i] % 3) EXPECT(rig.ended[i - 1] < rig.ended[i]);
  }
}

TEST(a_higher_priority_takes_pages_from_a_lower_one) {
  Rig rig(32, 64);
  for (RequestId id = 1; id <= 2; ++id) rig.Submit(Ask(id, 200), Prompt(id, 100));
  for (int step = 0; step < 30; ++step) rig.Step();
  rig.Submit(Ask(3, 20, 1), Prompt(3, 300));
  rig.Submit(Ask(4, 20, 1), Prompt(4, 300));
  Finish(&rig);
  EXPECT_EQ(rig.ended[0], 3u);
  EXPECT_EQ(rig.ended[1], 4u);
  for (RequestId id = 1; id <= 2; ++id) ExpectReply(rig, id, Prompt(id, 100), 200);
  for (RequestId id = 3; id <= 4; ++id) ExpectReply(rig, id, Prompt(id, 300), 20);
  const auto preempted = rig.scheduler.Stats().preempted;
  EXPECT(preempted >= 1 && preempted <= 4);
}

TEST(an_equal_priority_waits_for_pages) {
  Rig rig(32, 64);
  for (RequestId id = 1; id <= 2; ++id) rig.Submit(Ask(id, 100), Prompt(id, 100));
  for (int step = 0; step < 30; ++step) rig.Step();
  rig.Submit(Ask(3, 20), Prompt(3, 300));
  Finish(&rig);
  EXPECT_EQ(rig.ended.back(), 3u);
  EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
}

TEST(what_has_run_for_long_is_not_taken_for_a_higher_priority) {
  Rig rig(32, 64);
  for (RequestId id = 1; id <= 2; ++id) rig.Submit(Ask(id, 100), Prompt(id, 100));
  for (int step = 0; step < 30; ++step) rig.Step();
  rig.now += FairQueue::kAgeing + seconds(1);
  rig.Submit(Ask(3, 20, 1), Prompt(3, 300));
  Finish(&rig);
  EXPECT_EQ(rig.ended.back(), 3u);
  EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
}

TEST(a_stream_of_higher_priorities_starves_nobody) {
  for (const int pages : {32, 200}) {
    Rig rig(pages, 32);
    rig.step_ms = [](const StepPlan&) { return 200.0; };
    rig.Submit(Ask(1, 30, 0), Prompt(1, 250));
    RequestId next = 2;
    int steps = 0;
    for (; rig.outcomes.count(1) == 0 && steps < 5000; ++steps) {
      while (rig.scheduler.Stats().queued < 8) {
        rig.Submit(Ask(next, 10, 2), Prompt(next, 100));
        ++next;
      }
      rig.Step();
    }
    EXPECT(steps > 100 && steps < 5000);
    ExpectReply(rig, 1, Prompt(1, 250), 30);
  }
}

// Everything at once, with hardly any pages: whatever is decided, the replies are those of each alone.
TEST(policies_change_no_reply) {
  std::mt19937 random(11);
  for (const double target : {0.0, 3.0, 30.0}) {
    SchedulerLimits limits{24, 400};
    limits.target_tpot_ms = target;
    Rig rig = RigOf(32, limits);
    rig.step_ms = [&](const StepPlan& plan) {
      return StepMs(plan) * (random() % 10 == 0 ? 500 : 1);  // so that time matters for priorities, too
    };
    const auto prompt = [](RequestId id) { return Prompt(id, 1 + static_cast<int>(id * 37 % 250)); };
    const auto max_tokens = [](RequestId id) { return 1 + static_cast<int>(id * 53 % 120); };
    RequestId next = 1;
    int steps = 0;
    while (next <= 120 || rig.outcomes.size() < 120) {
      EXPECT(++steps < 100000);
      if (steps >= 100000) break;
      if (next <= 120 && random() % 4 == 0) {
        Request request =
            Ask(next, max_tokens(next), static_cast<int>(random() % 5) - 2, std::to_string(random() % 3));
        if (random() % 3 == 0) request.credits = 1 + static_cast<int>(random() % 30);
        rig.Submit(std::move(request), prompt(next));
        ++next;
      }
      rig.scheduler.AddCredits(1, 1 + random() % 120, static_cast<int>(random() % 40));
      rig.Step();
    }
    for (RequestId id = 1; id <= 120; ++id) ExpectReply(rig, id, prompt(id), max_tokens(id));
    EXPECT(rig.scheduler.Stats().preempted > 0);
    EXPECT_EQ(rig.pool.used(0), 0u);
  }
}

TEST(tenants_share_evenly_whatever_they_ask_for) {
  Rig rig(64, 64);
  for (RequestId id = 1; id <= 300; ++id) {
    const bool crowd = id % 10 != 0;
    rig.Submit(Ask(id, 30, 0, crowd ? "crowd" : "single"), Prompt(id, 60));
  }
  int single = 0;
  while (rig.ended.size() < 60) rig.Step();
  for (const RequestId id : rig.ended) single += id % 10 == 0;
  EXPECT(single >= 27 && single <= 30);  // all of its 30 at equal shares
  Finish(&rig);
  RequestId last[2] = {0, 0};
  EXPECT_EQ(rig.ended.size(), 300u);
  for (const RequestId id : rig.ended) {
    EXPECT(last[id % 10 == 0] < id);  // oldest first
    last[id % 10 == 0] = id;
  }
}

TEST(a_long_prompt_does_not_stall_running_streams) {
  SchedulerLimits limits{512, 5000};
  Rig rig = RigOf(2000, limits);
  rig.step_ms = StepMs;
  for (RequestId id = 1; id <= 16; ++id) rig.Submit(Ask(id, 600), Prompt(id, 20));
  for (int step = 0; step < 100; ++step) rig.Step();
  const double alone = 4 + 0.2 * 16;
  rig.Submit(Ask(17, 1), Prompt(17, 4000));
  std::vector<double> times;
  while (rig.outcomes.count(17) == 0) {
    const auto before = rig.now;
    rig.Step();
    times.push_back(std::chrono::duration<double, std::milli>(rig.now - before).count());
  }
  std::sort(times.begin(), times.end());
  EXPECT_LE(times[times.size() * 99 / 100], 1.6 * alone);
  EXPECT(times.size() < 262);  // 16 rows a step, all but one in 33
  // With nobody to disturb, a step is as large as it may be.
  Finish(&rig);
  rig.model.rows_seen = 0;
  rig.Submit(Ask(18, 1), Prompt(18, 4000));
  EXPECT(rig.Step());
  EXPECT_EQ(rig.model.rows_seen, 512);
}

// The same crowd disturbs streams of its own priority more than those of a higher one.
TEST(a_crowd_of_lower_priority_disturbs_no_more_than_one_request) {
  double longest_ms[2];
  for (const int priority : {0, 1}) {
    Rig rig = RigOf(4000, {512, 1000});
    rig.step_ms = StepMs;
    for (RequestId id = 1; id <= 16; ++id) rig.Submit(Ask(id, 500, priority), Prompt(id, 20));
    for (int step = 0; step < 100; ++step) rig.Step();
    for (RequestId id = 101; id <= 200; ++id) rig.Submit(Ask(id, 1), Prompt(id, 300));
    longest_ms[priority] = 0;
    for (int step = 0; step < 100; ++step) {
      const auto before = rig.now;
      rig.Step();
      const std::chrono::duration<double, std::milli> took = rig.now - before;
      longest_ms[priority] = std::max(longest_ms[priority], took.count());
    }
  }
  const double alone = 4 + 0.2 * 16;
  EXPECT_LE(longest_ms[1], 2 * alone);
  EXPECT(longest_ms[0] > 3 * alone && longest_ms[0] < 8 * alone);
}

namespace {

// A reply that another one took the pages of while it was paused. What it had computed is not in the cache either.
void PauseAndPreempt(Rig* rig, RequestId id, const std::vector<Token>& prompt) {
  Request paused = Ask(id, 60, 0, "paused");
  paused.credits = 1;
  rig->Submit(std::move(paused), prompt);
  while (rig->replies[id].empty()) rig->Step();
  rig->Submit(Ask(id + 1, 1, 0, "other"), Prompt(id + 1, 385));
  Finish(rig);
  EXPECT_EQ(rig->scheduler.Stats().preempted, 1u);
  EXPECT(rig->outcomes.count(id + 1) == 1 && rig->outcomes.count(id) == 0);
  rig->pool.EvictCached();
}

}  // namespace

TEST(a_preempted_reply_that_its_reader_goes_on_with_waits_for_its_turn) {
  Rig rig(32, 32);
  PauseAndPreempt(&rig, 1, Prompt(1, 300));
  rig.Submit(Ask(3, 5, 5), Prompt(3, 300));
  rig.scheduler.AddCredits(1, 1, 1000);
  EXPECT(rig.Step());
  EXPECT_EQ(rig.plan.entries().size(), 1u);
  EXPECT_EQ(rig.plan.entries()[0].sequence->request.id, 3u);
  Finish(&rig);
  EXPECT_EQ(rig.ended.back(), 1u);
  EXPECT_EQ(rig.scheduler.Stats().preempted, 1u);
  ExpectReply(rig, 1, Prompt(1, 300), 60);
  ExpectReply(rig, 3, Prompt(3, 300), 5);
}

TEST(a_preempted_reply_that_its_reader_goes_on_with_keeps_nobody_out) {
  Rig rig(32, 32);
  PauseAndPreempt(&rig, 1, Prompt(1, 300));
  rig.scheduler.AddCredits(1, 1, 1000);
  rig.Submit(Ask(3, 5, 0, "third"), Prompt(3, 20));
  while (rig.replies[1].size() < 2) rig.Step();
  EXPECT_EQ(rig.ended.back(), 3u);
  Finish(&rig);
  ExpectReply(rig, 1, Prompt(1, 300), 60);
  ExpectReply(rig, 3, Prompt(3, 20), 5);
}

TEST(a_place_is_given_back_once_when_a_request_starts_or_ends) {
  WaitingRoom room(5);
  Rig rig(32, 32);
  const auto submit = [&](RequestId id, int length, int max_tokens = 10) {
    rig.scheduler.Submit(1, Ask(id, max_tokens), Prompt(id, length), rig.now, room.Enter());
    rig.Drain();
  };
  submit(1, 0);
  submit(2, 500);
  submit(3, 20, 0);
  EXPECT_EQ(rig.ended.size(), 3u);  // none of them can run, or has to
  EXPECT_EQ(room.taken(), 0);
  submit(4, 300, 100);
  submit(5, 300);
  EXPECT_EQ(room.taken(), 2);
  rig.Step();
  EXPECT_EQ(room.taken(), 1);
  for (RequestId id = 6; id <= 9; ++id) submit(id, 300);
  EXPECT_EQ(room.taken(), 5);
  EXPECT(!room.Enter().taken());
  rig.scheduler.Cancel(1, 6);
  EXPECT_EQ(room.taken(), 4);
  rig.scheduler.Refuse(1, 7, Status(Code::kOutOfMemory, "no"));
  EXPECT_EQ(room.taken(), 3);
  Request hurry = Ask(10, 10);
  hurry.deadline = milliseconds(5);
  rig.scheduler.Expect(1, 11, rig.now + milliseconds(5));
  rig.scheduler.Submit(1, std::move(hurry), Prompt(10, 300), rig.now, room.Enter());
  WaitingRoom::Place in_the_intake = room.Enter();
  rig.Pass(10);
  rig.scheduler.Expire();
  EXPECT_EQ(room.taken(), 4);
  rig.scheduler.Submit(1, Ask(11, 10), Prompt(11, 30), rig.now, std::move(in_the_intake));
  EXPECT_EQ(room.taken(), 3);
  rig.scheduler.EndAll(Status(Code::kDisposed, "gone"));
  EXPECT_EQ(room.taken(), 0);
}

TEST(what_has_started_takes_no_place_when_it_is_preempted) {
  WaitingRoom room(1);
  Rig rig(32, 64);
  for (RequestId id = 1; id <= 2; ++id) {
    rig.scheduler.Submit(1, Ask(id, 200), Prompt(id, 100), rig.now, room.Enter());
    rig.Step();
    EXPECT_EQ(room.taken(), 0);
  }
  rig.scheduler.Submit(1, Ask(3, 20, 1), Prompt(3, 300), rig.now, room.Enter());
  while (rig.scheduler.Stats().preempted == 0) rig.Step();
  EXPECT_EQ(room.taken(), 0);
  Finish(&rig);
  EXPECT_EQ(rig.ended.size(), 3u);
  EXPECT_EQ(room.taken(), 0);
}

namespace {

Request Hurry(RequestId id, milliseconds deadline) {
  Request request = Ask(id, 300);
  request.deadline = deadline;
  return request;
}

}  // namespace

TEST(a_deadline_ends_what_runs_waits_and_is_paused) {
  Rig rig(32, 64);
  rig.step_ms = [](const StepPlan&) { return 10.0; };
  rig.Submit(Hurry(1, milliseconds(205)), Prompt(1, 100));  // runs
  Request paused = Hurry(2, milliseconds(145));
  paused.credits = 3;
  rig.Submit(std::move(paused), Prompt(2, 100));
  rig.Submit(Hurry(3, milliseconds(95)), Prompt(3, 390));  // never fits beside the others
  for (int step = 0; step < 50; ++step) {
    const auto next = rig.scheduler.Expire();
    rig.Drain();
    for (RequestId id = 1; id <= 3; ++id) {
      const int at = std::vector<int>{0, 205, 145, 95}[id];
      EXPECT_EQ(rig.outcomes.count(id), step * 10 >= at ? 1u : 0u);
    }
    if (next) EXPECT(*next > rig.now);
    if (!rig.Step()) rig.Pass(10);
  }
  EXPECT(!rig.scheduler.Expire());
  for (RequestId id = 1; id <= 3; ++id) EXPECT(rig.outcomes[id].status.code() == Code::kDeadlineExceeded);
  EXPECT(rig.outcomes[1].status.message().find("while the request was generating") != std::string::npos);
  EXPECT(rig.outcomes[2].status.message().find("waiting for its reader") != std::string::npos);
  EXPECT(rig.outcomes[3].status.message().find("in the queue") != std::string::npos);
  // What came before is what it would have been.
  const auto whole = Expected(Prompt(1, 100), 300, true);
  EXPECT(rig.replies[1].size() > 10 && rig.replies[1].size() < 25);
  EXPECT(std::equal(rig.replies[1].begin(), rig.replies[1].end(), whole.begin()));
  EXPECT_EQ(rig.texts[1].size(),
            rig.replies[1].size() - static_cast<size_t>(std::ranges::count(rig.replies[1], kEnd)));
  EXPECT_EQ(rig.outcomes[1].completion_tokens, static_cast<int>(rig.replies[1].size()));
  EXPECT_EQ(rig.replies[2].size(), 3u);
  EXPECT_EQ(rig.replies[3].size(), 0u);
  EXPECT_EQ(rig.pool.used(0), 0u);
}

TEST(text_held_back_for_a_stop_string_is_given_out_at_the_deadline) {
  const auto reply = Expected({42}, 20, true);
  std::string text;
  for (const Token token : reply) text += static_cast<char>(token);
  Rig rig(32);
  Request request = Hurry(1, milliseconds(1));
  request.stop = {text.substr(0, 19) + "!"};
  rig.Submit(std::move(request), {42});
  for (int step = 0; step < 10; ++step) rig.Step();
  EXPECT_EQ(rig.texts[1], "");
  rig.Pass(1);
  rig.scheduler.Expire();
  rig.Drain();
  EXPECT_EQ(rig.texts[1], text.substr(0, 10));
}

TEST(a_deadline_ends_what_is_still_being_tokenized) {
  Rig rig(32);
  const auto in = [&](int ms) { return rig.now + milliseconds(ms); };
  rig.scheduler.Expect(1, 1, in(10));
  rig.scheduler.Expect(1, 2, in(20));
  rig.scheduler.Expect(1, 3, in(15));
  rig.scheduler.Expect(1, 4, in(5));
  EXPECT(rig.scheduler.Expire() == in(5));
  rig.Submit(Hurry(1, milliseconds(10)), {1, 2});
  rig.scheduler.Refuse(1, 4, Status(Code::kInvalidArgument, "no"));
  EXPECT(rig.scheduler.Expire() == in(10));
  rig.Pass(17);
  EXPECT(rig.scheduler.Expire() == in(3));
  rig.Drain();
  for (const RequestId id : {1, 3}) EXPECT(rig.outcomes[id].status.code() == Code::kDeadlineExceeded);
  EXPECT(rig.outcomes[4].status.code() == Code::kInvalidArgument);
  // Its client was told: what comes of it now is dropped.
  rig.Submit(Hurry(3, milliseconds(15)), {1, 2});
  Finish(&rig);
  EXPECT_EQ(rig.outcomes.size(), 3u);
  rig.Submit(Hurry(2, milliseconds(20)), {1, 2});
  Finish(&rig);
  ExpectReply(rig, 2, {1, 2}, 300);
}

HARNESS_MAIN()
