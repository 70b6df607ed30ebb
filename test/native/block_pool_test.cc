#include "kv/block_pool.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "harness.h"
#include "kv/block_table.h"

using namespace tokenmill;

namespace {

class CountingMemory : public PageMemory {
 public:
  explicit CountingMemory(std::vector<size_t> page_bytes) : page_bytes_(std::move(page_bytes)) {}
  size_t PageBytes(int group) const override { return page_bytes_[static_cast<size_t>(group)]; }
  Status AddSlab(int group, int slab, int pages) override {
    if (refuse) return Error(Code::kOutOfMemory, "refused");
    EXPECT(mapped.insert({group, slab}).second);
    EXPECT_EQ(pages, BlockPool::kSlabPages);
    return {};
  }
  void RemoveSlab(int group, int slab) override { EXPECT_EQ(mapped.erase({group, slab}), 1u); }
  void CopyPage(int group, PageId from, PageId to) override {
    EXPECT(mapped.count({group, from / BlockPool::kSlabPages}) == 1);
    EXPECT(mapped.count({group, to / BlockPool::kSlabPages}) == 1);
    ++copies;
  }
  bool refuse = false;
  int copies = 0;
  std::set<std::pair<int, int>> mapped;

 private:
  std::vector<size_t> page_bytes_;
};

}  // namespace

TEST(pages_are_conserved_under_random_use) {
  CountingMemory memory({100, 40});
  {
    BlockPool pool(&memory, 2, 100 * 16 * 4 + 50);
    std::mt19937 random(1);
    std::multimap<int, PageId> held;
    for (int step = 0; step < 20000; ++step) {
      const int group = static_cast<int>(random() % 2);
      const bool take = random() % 100 < (step / 2000 % 2 == 0 ? 60 : 40);
      if (take) {
        const std::array<size_t, 2> one = {group == 0 ? 1u : 0u, group == 1 ? 1u : 0u};
        const bool fits = pool.Fits(one);
        const PageId page = pool.Allocate(group);
        EXPECT_EQ(page != kNoPage, fits);
        if (page != kNoPage) {
          held.insert({group, page});
          if (random() % 4 == 0) {
            pool.AddReference(group, page);
            held.insert({group, page});
          }
        }
      } else if (!held.empty()) {
        auto it = held.begin();
        std::advance(it, random() % held.size());
        pool.Release(it->first, it->second);
        held.erase(it);
      }
      EXPECT(pool.committed_bytes() <= pool.limit_bytes());
      if (step % 50 == 0) EXPECT_EQ(pool.CheckIntegrity(), "");
    }
    for (const auto& [group, page] : held) pool.Release(group, page);
    EXPECT_EQ(pool.used(0) + pool.used(1), 0u);
    EXPECT_EQ(pool.CheckIntegrity(), "");
  }
  EXPECT(memory.mapped.empty());
}

TEST(what_fits_in_all_groups_at_once_can_be_taken) {
  for (const std::array<size_t, 2> pages : {std::array<size_t, 2>{48, 16}, {32, 64}, {33, 33}, {17, 81}}) {
    CountingMemory memory({100, 40});
    BlockPool pool(&memory, 2, 16 * (3 * 100 + 2 * 40));
    const bool fits = pool.Fits(pages);
    bool taken = true;
    for (int group = 0; group < 2; ++group) {
      for (size_t i = 0; i < pages[static_cast<size_t>(group)]; ++i)
        taken = taken && pool.Allocate(group) != kNoPage;
    }
    EXPECT_EQ(fits, taken);
  }
}

TEST(the_maximum_counts_bytes_once) {
  CountingMemory memory({100, 40});
  BlockPool pool(&memory, 2, 16 * 3 * (100 + 40) + 50);
  const size_t maximum = pool.Maximum();
  EXPECT_EQ(maximum, 2u * 3 * BlockPool::kSlabPages);
  for (bool more = true; more;) {
    more = false;
    for (int group = 0; group < 2; ++group) more = pool.Allocate(group) != kNoPage || more;
    EXPECT(pool.used(0) + pool.used(1) + pool.free(0) + pool.free(1) <= pool.Maximum());
  }
  EXPECT_EQ(pool.used(0) + pool.used(1), maximum);
}

TEST(a_system_that_refuses_is_an_empty_pool) {
  CountingMemory memory({10});
  BlockPool pool(&memory, 1, 1000);
  memory.refuse = true;
  EXPECT_EQ(pool.Allocate(0), kNoPage);
  memory.refuse = false;
  EXPECT(pool.Allocate(0) != kNoPage);
  EXPECT_EQ(pool.CheckIntegrity(), "");
}

namespace {

// Forgets what it is asked for, and notes it.
class NotingCache : public PageCache {
 public:
  explicit NotingCache(BlockPool* pool) : pool_(pool) { pool->SetCache(this); }
  void Evict(int group, PageId page) noexcept override {
    evicted.push_back({group, page});
    pool_->Forget(group, page);
  }
  void MakeRoom(int, size_t) override {}
  void Renumber(const PageMoves&) noexcept override {}
  std::vector<std::pair<int, PageId>> evicted;

 private:
  BlockPool* const pool_;
};

}  // namespace

TEST(evicting_the_cache_leaves_what_is_used) {
  CountingMemory memory({10, 20});
  BlockPool pool(&memory, 2, 10000);
  NotingCache cache(&pool);
  EXPECT(!pool.EvictCached());
  std::vector<std::pair<int, PageId>> released;
  for (int i = 0; i < 50; ++i) {
    const int group = i % 2;
    const PageId page = pool.Allocate(group);
    if (i % 5 != 0) pool.Keep(group, page);
    if (i % 3 == 0) continue;
    pool.Release(group, page);
    if (i % 5 != 0) released.push_back({group, page});
  }
  EXPECT_EQ(pool.cached(0) + pool.cached(1), released.size());
  const size_t used = pool.used(0) + pool.used(1), committed = pool.committed_bytes();
  EXPECT(pool.EvictCached());
  std::sort(released.begin(), released.end());
  std::sort(cache.evicted.begin(), cache.evicted.end());
  EXPECT(cache.evicted == released);
  EXPECT_EQ(pool.evicted(), released.size());
  EXPECT_EQ(pool.cached(0) + pool.cached(1), 0u);
  EXPECT_EQ(pool.used(0) + pool.used(1), used);
  EXPECT_EQ(pool.committed_bytes(), committed);
  EXPECT_EQ(pool.CheckIntegrity(), "");
  EXPECT(!pool.EvictCached());
}

TEST(what_would_fit_without_some_pages_fits_when_they_are_given_back) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    CountingMemory memory({30, 10});
    BlockPool pool(&memory, 2, 16 * 30 * 5);
    std::array<std::vector<PageId>, 2> freed;
    for (int i = 0; i < 150; ++i) {
      const int group = static_cast<int>(random() % 2);
      const PageId page = pool.Allocate(group);
      // Stretches, so that slabs become free as a whole.
      if (page != kNoPage && (page / 16 + round) % 3 != 0) freed[static_cast<size_t>(group)].push_back(page);
    }
    for (auto& pages : freed) std::sort(pages.begin(), pages.end());
    const std::array<size_t, 2> wanted = {random() % 60, random() % 120};
    const bool fits = pool.Fits(wanted, freed);
    for (size_t group = 0; group < 2; ++group) {
      for (const PageId page : freed[group]) pool.Release(static_cast<int>(group), page);
    }
    EXPECT_EQ(fits, pool.Fits(wanted));
  }
}

TEST(windowed_pages_are_dropped_as_they_pass) {
  CountingMemory memory({10, 10});
  BlockPool pool(&memory, 2, 100000);
  const std::vector<KvGroup> groups = {{0, 1}, {40, 1}};
  BlockTable table(&pool, &groups);
  const int chunk = 24;
  for (int computed = 0; computed < 600; computed += chunk) {
    EXPECT(table.Reserve(computed, computed + chunk));
    EXPECT_EQ(pool.used(0), static_cast<size_t>((computed + chunk + 15) / 16));
    EXPECT(pool.used(1) <= BlockTable::PagesAtMost(groups[1], 600, chunk));
    for (int p = std::max(0, computed - 39); p < computed + chunk; ++p)
      EXPECT(table.pages(1)[p / 16] != kNoPage);
    EXPECT_EQ(table.held(), pool.used(0) + pool.used(1));
  }
  EXPECT(table.pages(1)[0] == kNoPage);
  table.Clear();
  EXPECT_EQ(pool.used(0) + pool.used(1), 0u);
}

TEST(a_reservation_that_ran_out_can_be_repeated) {
  CountingMemory memory({10});
  BlockPool pool(&memory, 1, 160);
  const std::vector<KvGroup> groups = {{0, 1}};
  BlockTable first(&pool, &groups), second(&pool, &groups);
  EXPECT(first.Reserve(0, 12 * 16));
  EXPECT(!second.Reserve(0, 8 * 16));
  first.Clear();
  EXPECT(second.Reserve(0, 8 * 16));
  EXPECT_EQ(pool.used(0), 8u);
}

TEST(a_sequence_alone_lies_in_no_more_slabs_than_its_pages_fill) {
  CountingMemory memory({10, 10});
  BlockPool pool(&memory, 2, 1 << 20);
  const std::vector<KvGroup> groups = {{0, 1}, {700, 1}};
  {
    std::vector<std::unique_ptr<BlockTable>> others;
    for (int i = 0; i < 30; ++i) others.push_back(std::make_unique<BlockTable>(&pool, &groups));
    for (int tokens = 16; tokens < 400; tokens += 16) {
      for (auto& other : others) EXPECT(other->Reserve(0, tokens));
    }
    std::shuffle(others.begin(), others.end(), std::mt19937(3));
    while (!others.empty()) others.pop_back();
  }
  BlockTable table(&pool, &groups);
  const int chunk = 24;
  const size_t most = BlockTable::PagesAtMost(groups[1], 4000, chunk);
  for (int computed = 0; computed + chunk < 4000; computed += chunk) {
    EXPECT(table.Reserve(computed, computed + chunk));
    std::set<int> slabs;
    for (int p = 0; p <= (computed + chunk - 1) / kPageTokens; ++p) {
      if (table.pages(1)[p] != kNoPage) slabs.insert(table.pages(1)[p] / BlockPool::kSlabPages);
    }
    EXPECT_LE(slabs.size(), (most + BlockPool::kSlabPages - 1) / BlockPool::kSlabPages);
  }
}

HARNESS_MAIN()
