#include <algorithm>
#include <map>
#include <random>

#include "toy_model.h"

using namespace tokenmill;

namespace {

std::vector<KvGroup> Groups(bool windowed) {
  return windowed ? std::vector<KvGroup>{{0, 1}, {40, 1}} : std::vector<KvGroup>{{0, 1}};
}

// Bytes that one sequence of full length takes.
size_t Least(const Rig& rig, int context, int max_rows) {
  size_t bytes = 0;
  for (int g = 0; g < rig.pool.groups(); ++g) {
    const size_t pages = BlockTable::PagesAtMost(rig.groups[static_cast<size_t>(g)], context, max_rows);
    const size_t slabs = (pages + BlockPool::kSlabPages - 1) / BlockPool::kSlabPages;
    bytes += slabs * BlockPool::kSlabPages * rig.model.PageBytes(g);
  }
  return bytes;
}

// Pages that hold their own number, so that what a holder finds behind its ids tells whether they moved rightly.
class NumberedMemory final : public PageMemory {
 public:
  explicit NumberedMemory(std::vector<size_t> page_bytes) : page_bytes_(std::move(page_bytes)) {}

  size_t PageBytes(int group) const override { return page_bytes_[static_cast<size_t>(group)]; }
  Status AddSlab(int group, int slab, int pages) override {
    for (int p = 0; p < pages; ++p) contents[{group, slab * pages + p}] = 0;
    return {};
  }
  void RemoveSlab(int group, int slab) override {
    for (int p = 0; p < BlockPool::kSlabPages; ++p)
      EXPECT_EQ(contents.erase({group, slab * BlockPool::kSlabPages + p}), 1u);
  }
  void CopyPage(int group, PageId from, PageId to) override {
    contents.at({group, to}) = contents.at({group, from});
    ++copies;
  }

  std::map<std::pair<int, PageId>, int> contents;
  int copies = 0;

 private:
  const std::vector<size_t> page_bytes_;
};

// A table of pages and a cache of others, as BlockTable and PrefixIndex are, with what each page should hold.
class Ledger final : public PageHolder, public PageCache {
 public:
  Ledger(BlockPool* pool, NumberedMemory* memory) : pool_(pool), memory_(memory) {
    pool->SetCache(this);
    pool->AddHolder(this);
  }

  void Take(int group) {
    const PageId page = pool_->Allocate(group);
    if (page == kNoPage) return;
    memory_->contents.at({group, page}) = ++last_;
    used.push_back({group, page, last_});
  }
  // Gives a page back, free or cached.
  void Give(size_t index, bool keep) {
    const Entry entry = used[index];
    used.erase(used.begin() + static_cast<std::ptrdiff_t>(index));
    if (keep) {
      pool_->Keep(entry.group, entry.page);
      cached.push_back(entry);
    }
    pool_->Release(entry.group, entry.page);
  }

  void Evict(int group, PageId page) noexcept override {
    std::erase_if(cached, [&](const Entry& entry) { return entry.group == group && entry.page == page; });
    pool_->Forget(group, page);
  }
  void MakeRoom(int, size_t) override {}
  void Renumber(const PageMoves& moves) noexcept override {
    // Called as cache first, then as holder.
    for (Entry& entry : as_cache_ ? cached : used)
      entry.page = moves[static_cast<size_t>(entry.group)][static_cast<size_t>(entry.page)];
    as_cache_ = !as_cache_;
  }

  void Check() const {
    EXPECT_EQ(pool_->CheckIntegrity(), "");
    for (const auto* entries : {&used, &cached}) {
      for (const Entry& entry : *entries) {
        const auto found = memory_->contents.find({entry.group, entry.page});
        EXPECT(found != memory_->contents.end() && found->second == entry.content);
      }
    }
  }

  struct Entry {
    int group;
    PageId page;
    int content;
  };
  std::vector<Entry> used, cached;  // cached: in the order of their last use

 private:
  BlockPool* const pool_;
  NumberedMemory* const memory_;
  int last_ = 0;
  bool as_cache_ = true;
};

void RunAll(Rig* rig) {
  int steps = 0;
  while (rig->Step()) EXPECT(++steps < 200000);
}

}  // namespace

TEST(pages_that_lie_scattered_move_together_and_keep_what_they_hold) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    NumberedMemory memory({100, 40});
    BlockPool pool(&memory, 2, 16 * 100 * 40);
    Ledger ledger(&pool, &memory);
    for (int i = 0; i < 300; ++i) ledger.Take(static_cast<int>(random() % 2));
    const size_t leave = random() % 200;
    while (ledger.used.size() > leave) ledger.Give(random() % ledger.used.size(), random() % 3 == 0);
    ledger.Check();
    const size_t committed = pool.committed_bytes(), packed = pool.PackedBytes();
    const size_t limit = packed + random() % (committed - packed + 16 * 100);
    const size_t used = ledger.used.size(), cached = ledger.cached.size();
    pool.SetLimit(limit);
    ledger.Check();
    EXPECT_EQ(ledger.used.size(), used);
    EXPECT_EQ(ledger.cached.size(), cached);
    EXPECT_EQ(pool.limit_bytes(), limit);
    EXPECT(pool.committed_bytes() <= limit);
    // No slab was given back that could have stayed.
    if (committed > limit) EXPECT(pool.committed_bytes() + 16 * 100 > limit);
    if (committed <= limit) EXPECT_EQ(memory.copies, 0);
    // The order in which cached pages go is as before.
    while (!ledger.cached.empty()) {
      const Ledger::Entry oldest = ledger.cached.front();
      EXPECT(pool.EvictOldest());
      EXPECT(ledger.cached.empty() || ledger.cached.front().content != oldest.content);
      ledger.Check();
    }
    EXPECT(!pool.EvictOldest());
    pool.SetLimit(pool.PackedBytes());
    EXPECT_EQ(pool.committed_bytes(), pool.PackedBytes());
    ledger.Check();
  }
}

TEST(a_grown_limit_is_used) {
  NumberedMemory memory({10});
  BlockPool pool(&memory, 1, 160);
  Ledger ledger(&pool, &memory);
  for (int i = 0; i < 20; ++i) ledger.Take(0);
  EXPECT_EQ(ledger.used.size(), 16u);
  pool.SetLimit(320);
  for (int i = 0; i < 20; ++i) ledger.Take(0);
  EXPECT_EQ(ledger.used.size(), 32u);
  ledger.Check();
}

TEST(a_shrunk_limit_changes_no_reply) {
  for (const bool windowed : {false, true}) {
    for (const int at : {1, 7, 25}) {
      const int context = 300, max_rows = 48;
      Rig rig(Groups(windowed), windowed ? 1600 : 400, max_rows, context);
      for (RequestId id = 1; id <= 16; ++id) {
        const bool shared = id % 4 == 0;  // some begin alike, and share pages
        rig.Submit(id, Prompt(shared ? 4 : id, 20 + static_cast<int>(id) * 6), 100,
                   id % 5 == 0 ? 8 : 1 << 30);
      }
      for (int step = 0; step < at; ++step) rig.Step();
      const size_t before = rig.pool.committed_bytes(), least = Least(rig, context, max_rows);
      const size_t half = std::max(least, before / 2);
      EXPECT(rig.scheduler.SetMemoryLimit(half));
      rig.CheckIntegrity();
      EXPECT(rig.pool.committed_bytes() <= half);
      for (int step = 0; step < 30; ++step) rig.Step();
      EXPECT(rig.scheduler.SetMemoryLimit(least));
      rig.CheckIntegrity();
      EXPECT(rig.pool.committed_bytes() <= least);
      for (RequestId id = 5; id <= 16; id += 5) rig.scheduler.AddCredits(1, id, 1 << 20);
      RunAll(&rig);
      for (RequestId id = 1; id <= 16; ++id) {
        EXPECT_EQ(rig.outcomes[id].status.message(), "");
        EXPECT(rig.replies[id] == Expected(Prompt(id % 4 == 0 ? 4 : id, 20 + static_cast<int>(id) * 6), 100));
      }
      EXPECT(rig.scheduler.Stats().preempted > 0);
      EXPECT_EQ(rig.pool.used(0), 0u);
      EXPECT(rig.pool.committed_bytes() <= least);
    }
  }
}

TEST(one_reply_of_full_length_fits_the_least_limit_wherever_its_pages_lay) {
  for (const bool windowed : {false, true}) {
    const int context = 600, max_rows = 32;
    Rig rig(Groups(windowed), windowed ? 4000 : 1000, max_rows, context);
    rig.ignore_eos = true;
    for (RequestId id = 1; id <= 12; ++id) rig.Submit(id, Prompt(id, 10), id == 6 ? -1 : 150);
    for (int step = 0; step < 140; ++step) rig.Step();
    for (RequestId id = 1; id <= 12; ++id) {
      if (id != 6) rig.scheduler.Cancel(1, id);
    }
    const uint64_t preempted = rig.scheduler.Stats().preempted;
    EXPECT(rig.scheduler.SetMemoryLimit(Least(rig, context, max_rows)));
    rig.CheckIntegrity();
    EXPECT_EQ(rig.scheduler.Stats().preempted, preempted);  // its pages moved
    RunAll(&rig);
    EXPECT(rig.replies[6] == Expected(Prompt(6, 10), context - 10, true));
    EXPECT_EQ(rig.scheduler.Stats().preempted, preempted);
  }
}

TEST(cached_pages_go_first_then_paused_replies_then_the_least_senior) {
  Rig rig(64 * 4, 64);
  rig.ignore_eos = true;
  const auto slab = BlockPool::kSlabPages * rig.model.PageBytes(0);
  const auto submit = [&](RequestId id, int credits) {
    rig.Submit(id, Prompt(id, 17 * kPageTokens), 200, credits);
  };
  rig.Submit(9, Prompt(9, 17 * kPageTokens), 1);  // leaves cached pages
  RunAll(&rig);
  submit(1, 1);  // pauses soon
  submit(2, 1 << 30);
  submit(3, 1 << 30);
  while (rig.replies[3].size() < 20) rig.Step();
  EXPECT_EQ(rig.scheduler.Stats().paused, 1);
  const size_t used = rig.pool.used(0), cached = rig.pool.cached(0);
  EXPECT(used > 3 * BlockPool::kSlabPages && used < 4 * BlockPool::kSlabPages);
  EXPECT(used + cached > 4 * BlockPool::kSlabPages);
  EXPECT(rig.scheduler.SetMemoryLimit(4 * slab));
  EXPECT_EQ(rig.pool.used(0), used);
  EXPECT_EQ(rig.pool.used(0) + rig.pool.cached(0), 4u * BlockPool::kSlabPages);
  EXPECT_EQ(rig.scheduler.Stats().preempted, 0u);
  EXPECT(rig.scheduler.SetMemoryLimit(3 * slab));
  EXPECT_EQ(rig.scheduler.Stats().preempted, 1u);
  EXPECT_EQ(rig.scheduler.Stats().running, 2);  // the paused one has none any more
  rig.CheckIntegrity();
  EXPECT(rig.scheduler.SetMemoryLimit(2 * slab));
  EXPECT_EQ(rig.scheduler.Stats().preempted, 2u);
  const size_t senior = rig.replies[2].size(), junior = rig.replies[3].size();
  rig.Step();
  EXPECT_EQ(rig.replies[2].size(), senior + 1);
  EXPECT_EQ(rig.replies[3].size(), junior);
}

TEST(random_limits_under_load_lose_nothing) {
  for (const bool windowed : {false, true}) {
    std::mt19937 random(windowed ? 3 : 5);
    const int context = 300, max_rows = 24;
    Rig rig(Groups(windowed), windowed ? 2000 : 500, max_rows, context);
    const size_t least = Least(rig, context, max_rows), most = rig.pool.limit_bytes();
    RequestId next = 1;
    const auto prompt = [](RequestId id) { return Prompt(id % 7, 1 + static_cast<int>(id * 37 % 150)); };
    for (int step = 0; step < 3000; ++step) {
      if (random() % 15 == 0 && next < 150) {
        rig.Submit(next, prompt(next), 60, static_cast<int>(random() % 60) + 1);
        ++next;
      }
      if (next > 1) rig.scheduler.AddCredits(1, 1 + random() % (next - 1), static_cast<int>(random() % 30));
      if (random() % 10 == 0) {
        EXPECT(rig.scheduler.SetMemoryLimit(least + random() % (most - least)));
        rig.CheckIntegrity();
        EXPECT(rig.pool.committed_bytes() <= rig.pool.limit_bytes());
      }
      rig.Step();
    }
    for (RequestId id = 1; id < next; ++id) rig.scheduler.AddCredits(1, id, 1000);
    RunAll(&rig);
    EXPECT(next > 80);
    for (RequestId id = 1; id < next; ++id) EXPECT(rig.replies[id] == Expected(prompt(id), 60));
    EXPECT_EQ(rig.pool.used(0), 0u);
  }
}

HARNESS_MAIN()
