#include "engine/fair_queue.h"

#include <algorithm>
#include <map>
#include <random>

#include "harness.h"

using namespace tokenmill;

namespace {

// Requests of some rows each, worked off in steps.
struct Bench {
  struct Work {
    FairQueue::Membership place;
    int priority;
    std::string tenant;
    int rows;
    int done = 0;
  };

  void Submit(int priority, const std::string& tenant, int rows) {
    work.push_back({queue.Join(priority, tenant), priority, tenant, rows});
  }

  // Gives out so many rows; returns those that nobody wanted.
  int Step(int budget, const std::vector<size_t>& blocked = {}) {
    queue.Begin(now);
    for (size_t i = 0; i < work.size(); ++i) {
      if (work[i].done < work[i].rows) queue.Offer(work[i].place, i);
    }
    while (budget > 0) {
      const auto turn = queue.Next();
      if (!turn) break;
      Work& item = work[turn->item];
      if (std::find(blocked.begin(), blocked.end(), turn->item) != blocked.end()) {
        queue.Skip();
        continue;
      }
      const int rows = std::min({budget, turn->rows, item.rows - item.done});
      EXPECT(rows > 0 && turn->rows <= FairQueue::kQuantum);
      if (item.done == 0) began.push_back(turn->item);
      item.done += rows;
      given[item.tenant] += rows;
      budget -= rows;
      queue.Served(rows, item.done < item.rows);
    }
    now += step;
    return budget;
  }

  FairQueue queue;  // outlives its members
  std::vector<Work> work;
  std::vector<size_t> began;
  std::map<std::string, int64_t> given;
  FairQueue::Time now = FairQueue::Time{} + std::chrono::hours(1);
  std::chrono::milliseconds step{10};
};

}  // namespace

TEST(every_row_is_given_while_somebody_wants_one) {
  std::mt19937 random(3);
  Bench bench;
  for (int step = 0; step < 3000; ++step) {
    for (uint32_t i = random() % 4; i > 0; --i)
      bench.Submit(static_cast<int>(random() % 3), std::to_string(random() % 5),
                   1 + static_cast<int>(random() % 400));
    int wanted = 0;
    for (const auto& item : bench.work) wanted += item.rows - item.done;
    const int budget = 1 + static_cast<int>(random() % 500);
    const int unwanted = std::max(0, budget - wanted);
    EXPECT_EQ(bench.Step(budget), unwanted);
    std::erase_if(bench.work, [](const auto& item) { return item.done == item.rows; });
  }
}

TEST(tenants_that_always_want_rows_get_the_same_within_a_quantum) {
  for (const int budget : {1, 7, 100, 512}) {
    Bench bench;
    std::mt19937 random(5);
    const std::vector<std::string> tenants = {"many", "few", "long"};
    for (int i = 0; i < 4000; ++i) bench.Submit(0, "many", 1 + static_cast<int>(random() % 60));
    for (int i = 0; i < 60; ++i) bench.Submit(0, "few", 1000);
    bench.Submit(0, "long", 60000);
    for (int step = 0; step < 100; ++step) {
      bench.Step(budget);
      for (const auto& tenant : tenants) {
        EXPECT_LE(std::abs(bench.given[tenant] - bench.given["long"]), FairQueue::kQuantum);
      }
    }
  }
}

TEST(a_tenant_that_comes_late_saves_nothing_up_and_owes_nothing) {
  Bench bench;
  bench.Submit(0, "early", 100000);
  for (int step = 0; step < 50; ++step) bench.Step(512);
  bench.Submit(0, "late", 100000);
  const int64_t before = bench.given["early"];
  for (int step = 0; step < 50; ++step) bench.Step(512);
  EXPECT_LE(std::abs(bench.given["early"] - before - bench.given["late"]), FairQueue::kQuantum);
}

TEST(a_tenant_with_nothing_to_do_for_a_while_saves_nothing_up) {
  Bench bench;
  bench.Submit(0, "steady", 1000000);
  bench.Submit(0, "pausing", 128);
  for (int step = 0; step < 50; ++step) bench.Step(512);
  bench.Submit(0, "pausing", 100000);  // its first request has not left yet
  const auto before = bench.given;
  for (int step = 0; step < 20; ++step) bench.Step(512);
  EXPECT_LE(std::abs(bench.given["steady"] - before.at("steady") - (bench.given["pausing"] - 128)),
            FairQueue::kQuantum);
}

TEST(rows_given_out_of_turn_count_while_others_wait) {
  Bench bench;
  bench.Submit(0, "a", 100000);
  bench.Submit(0, "b", 100000);
  int64_t charged = 0;
  for (int step = 0; step < 100; ++step) {
    bench.Step(512);
    bench.queue.Charge(bench.work[0].place, 40);
    charged += 40;
  }
  bench.Step(512);
  EXPECT_LE(std::abs(bench.given["a"] + charged - bench.given["b"]), FairQueue::kQuantum);
  // With nobody waiting they cost nothing.
  bench.work.clear();
  bench.Submit(0, "a", 100000);
  bench.queue.Begin(bench.now);
  bench.queue.Charge(bench.work[0].place, 1000000);
  bench.Submit(0, "b", 100000);
  const auto before = bench.given;
  for (int step = 0; step < 50; ++step) bench.Step(512);
  EXPECT_LE(std::abs(bench.given["a"] - before.at("a") - (bench.given["b"] - before.at("b"))),
            FairQueue::kQuantum);
}

TEST(within_a_tenant_the_oldest_goes_first) {
  Bench bench;
  std::mt19937 random(9);
  for (int i = 0; i < 300; ++i)
    bench.Submit(0, std::to_string(random() % 4), 1 + static_cast<int>(random() % 300));
  while (bench.Step(100) == 0) {
  }
  EXPECT_EQ(bench.began.size(), 300u);
  std::map<std::string, size_t> last;
  for (const size_t i : bench.began) {
    const auto& tenant = bench.work[i].tenant;
    EXPECT(last.count(tenant) == 0 || last[tenant] < i);
    last[tenant] = i;
  }
}

TEST(a_higher_priority_goes_first) {
  Bench bench;
  for (int i = 0; i < 30; ++i) bench.Submit(i % 3, "", 200);
  bench.step = {};
  while (bench.Step(64) == 0) {
  }
  for (size_t i = 1; i < bench.began.size(); ++i)
    EXPECT(bench.work[bench.began[i - 1]].priority >= bench.work[bench.began[i]].priority);
}

TEST(a_constant_stream_of_higher_priority_starves_nobody) {
  Bench bench;
  bench.step = std::chrono::milliseconds(100);
  bench.Submit(0, "low", 1000);
  bench.Submit(1, "middle", 1000);
  int finished_at[2] = {0, 0};
  for (int step = 1; step <= 4000; ++step) {
    bench.Submit(2, "high", 100);
    bench.Step(100);
    for (const size_t i : {size_t{0}, size_t{1}}) {
      if (finished_at[i] == 0 && bench.work[i].done == 1000) finished_at[i] = step;
    }
  }
  // A turn each ten seconds a level: 1,000 rows are ten turns of 100.
  EXPECT(finished_at[1] >= 900 && finished_at[1] <= 1200);
  EXPECT(finished_at[0] >= 1900 && finished_at[0] <= 2400);
}

TEST(who_cannot_use_its_turn_is_asked_first_in_the_next_step) {
  Bench bench;
  bench.Submit(0, "a", 100000);
  bench.Submit(0, "b", 100000);
  bench.Step(64);
  const size_t first = bench.began[0];
  for (int step = 0; step < 10; ++step) EXPECT_EQ(bench.Step(64, {first == 0 ? 1u : 0u}), 0);
  // The other one has been given all until now.
  const std::string waiting = first == 0 ? "b" : "a";
  const int64_t before = bench.given[waiting];
  for (int step = 0; step < 5; ++step) bench.Step(64);
  EXPECT_EQ(bench.given[waiting] - before, 5 * 64);
}

TEST(withdrawn_items_are_offered_no_more) {
  FairQueue queue;
  std::vector<FairQueue::Membership> places;
  for (int i = 0; i < 20; ++i) places.push_back(queue.Join(i % 2, std::to_string(i % 3)));
  queue.Begin({});
  for (size_t i = 0; i < places.size(); ++i) queue.Offer(places[i], i);
  queue.Withdraw([](size_t item) { return item % 5 != 0; });
  std::vector<size_t> left;
  while (const auto turn = queue.Next()) {
    left.push_back(turn->item);
    queue.Served(1, false);
  }
  std::sort(left.begin(), left.end());
  EXPECT(left == std::vector<size_t>({0, 5, 10, 15}));
}

namespace {

// The rules of FairQueue, every tenant asked at every turn.
class SimpleQueue {
 public:
  using Place = std::pair<int, std::string>;

  void Join(const Place& place) { ++levels_[place.first].flows[place.second].members; }
  void Leave(const Place& place) {
    Level& level = levels_[place.first];
    if (--level.flows[place.second].members == 0) level.flows.erase(place.second);
    if (level.flows.empty()) levels_.erase(place.first);
  }

  void Begin(FairQueue::Time now) {
    now_ = now;
    for (auto& [priority, level] : levels_) {
      level.was_contended = std::exchange(level.contended, false);
      for (auto& [tenant, flow] : level.flows) {
        flow.was_on_offer = !flow.items.empty();
        flow.items.clear();
        flow.head = 0;
      }
    }
  }

  void Offer(const Place& place, size_t item) {
    Level& level = levels_[place.first];
    Flow& flow = level.flows[place.second];
    if (!std::exchange(level.contended, true) && !level.was_contended) level.passed_since = now_;
    if (flow.items.empty() && !flow.was_on_offer) flow.rows = std::max(flow.rows, level.floor);
    flow.items.push_back(item);
  }

  void Charge(const Place& place, int rows) {
    Level& level = levels_[place.first];
    if (level.contended) level.flows[place.second].rows += rows;
  }

  std::optional<size_t> Next() {
    level_ = nullptr;
    for (auto& [priority, level] : levels_) {
      Flow* poorest = nullptr;
      for (auto& [tenant, flow] : level.flows) {
        if (flow.head == flow.items.size()) continue;
        if (poorest == nullptr || flow.rows < poorest->rows) poorest = &flow;
      }
      if (poorest == nullptr) continue;
      using Levels = std::chrono::duration<double, std::ratio<FairQueue::kAgeing.count()>>;
      const double urgency = priority + Levels(now_ - level.passed_since).count();
      if (level_ != nullptr && urgency <= urgency_) continue;
      level_ = &level;
      flow_ = poorest;
      urgency_ = urgency;
    }
    if (level_ == nullptr) return std::nullopt;
    return flow_->items[flow_->head];
  }

  void Served(int rows, bool more) {
    flow_->rows += rows;
    level_->floor = std::max(level_->floor, flow_->rows);
    level_->passed_since = now_;
    if (!more) ++flow_->head;
  }
  void Skip() { ++flow_->head; }
  void Withdraw(const std::function<bool(size_t)>& named) {
    for (auto& [priority, level] : levels_) {
      for (auto& [tenant, flow] : level.flows) {
        const auto head = flow.items.begin() + static_cast<std::ptrdiff_t>(flow.head);
        flow.items.erase(std::remove_if(head, flow.items.end(), named), flow.items.end());
      }
    }
  }

 private:
  struct Flow {
    int members = 0;
    int64_t rows = 0;
    bool was_on_offer = false;
    std::vector<size_t> items;
    size_t head = 0;
  };
  struct Level {
    std::map<std::string, Flow> flows;
    int64_t floor = 0;
    FairQueue::Time passed_since{};
    bool contended = false, was_contended = false;
  };

  std::map<int, Level, std::greater<>> levels_;
  FairQueue::Time now_{};
  Level* level_ = nullptr;
  Flow* flow_ = nullptr;
  double urgency_ = 0;
};

}  // namespace

TEST(turns_are_those_of_asking_everyone) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t limit) { return static_cast<int>(random() % limit); };
    FairQueue queue;
    SimpleQueue simple;
    struct Work {
      SimpleQueue::Place place;
      FairQueue::Membership member;
    };
    std::vector<Work> work;
    FairQueue::Time now = FairQueue::Time{} + std::chrono::hours(1);
    const uint32_t tenants = 1 + random() % 40, priorities = 1 + random() % 5;
    size_t turns = 0;
    for (int step = 0; step < 300; ++step) {
      for (int i = below(6); i > 0; --i) {
        const SimpleQueue::Place place(below(priorities), std::to_string(below(tenants)));
        simple.Join(place);
        work.push_back({place, queue.Join(place.first, place.second)});
      }
      while (!work.empty() && below(3) == 0) {
        const size_t leaves = static_cast<size_t>(below(static_cast<uint32_t>(work.size())));
        simple.Leave(work[leaves].place);
        work.erase(work.begin() + static_cast<std::ptrdiff_t>(leaves));
      }
      queue.Begin(now);
      simple.Begin(now);
      for (size_t i = 0; i < work.size(); ++i) {
        if (below(5) == 0) continue;
        queue.Offer(work[i].member, i);
        simple.Offer(work[i].place, i);
      }
      for (int i = below(4); i > 0 && !work.empty(); --i) {
        const Work& charged = work[static_cast<size_t>(below(static_cast<uint32_t>(work.size())))];
        const int rows = below(40);
        queue.Charge(charged.member, rows);
        simple.Charge(charged.place, rows);
      }
      for (int left = below(100); left > 0; --left, ++turns) {
        const auto turn = queue.Next();
        const auto expected = simple.Next();
        EXPECT_EQ(turn.has_value(), expected.has_value());
        if (!turn || !expected) break;
        EXPECT_EQ(turn->item, *expected);
        const int what = below(8);
        const int rows = below(3) * 32 + 1;
        if (what < 3) {
          queue.Skip();
          simple.Skip();
        } else {
          queue.Served(rows, what == 7);
          simple.Served(rows, what == 7);
        }
        if (below(40) != 0) continue;
        const size_t divisor = 2 + random() % 3;
        const auto named = [divisor](size_t item) { return item % divisor == 0; };
        queue.Withdraw(named);
        simple.Withdraw(named);
      }
      now += std::chrono::milliseconds(below(3) == 0 ? 5000 : 0);
    }
    EXPECT(turns > 300);
  }
}

TEST(a_turn_costs_the_logarithm_of_the_tenants) {
  constexpr size_t kRequests = 4000;
  for (const bool by_priority : {false, true}) {
    for (const bool served : {false, true}) {
      FairQueue queue;
      std::vector<FairQueue::Membership> places;
      for (size_t i = 0; i < kRequests; ++i) {
        const int name = static_cast<int>(i % 1000);
        places.push_back(queue.Join(by_priority ? name : 0, by_priority ? "" : std::to_string(name)));
      }
      queue.Begin({});
      for (size_t i = 0; i < kRequests; ++i) queue.Offer(places[i], i);
      size_t turns = 0;
      for (; queue.Next(); ++turns) served ? queue.Served(16, false) : queue.Skip();
      EXPECT_EQ(turns, kRequests);
      EXPECT_LE(queue.comparisons(), kRequests * 32);  // a thousand for each when everyone is asked
    }
  }
}

HARNESS_MAIN()
