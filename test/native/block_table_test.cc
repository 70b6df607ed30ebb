#include "kv/block_table.h"

#include <algorithm>
#include <memory>
#include <random>

#include "token_memory.h"

using namespace tokenmill;

namespace {

const std::vector<KvGroup> kGroups = {{0, 1}, {40, 1}};

struct Branch {
  explicit Branch(BlockPool* pool) : table(pool, &kGroups) {}
  BlockTable table;
  std::vector<int32_t> tokens;
};

void Grow(BlockPool* pool, TokenMemory* memory, Branch* branch, int rows, std::mt19937* random) {
  const size_t computed = branch->tokens.size();
  EXPECT(branch->table.Reserve(static_cast<int>(computed), static_cast<int>(computed) + rows));
  for (int i = 0; i < rows; ++i) branch->tokens.push_back(static_cast<int32_t>((*random)() % 1000));
  memory->Write(*pool, branch->table, 0, branch->tokens, computed, branch->tokens.size());
}

}  // namespace

TEST(branches_of_a_fork_know_nothing_of_each_other) {
  TokenMemory memory({100, 40});
  BlockPool pool(&memory, 2, 1 << 20);
  std::mt19937 random(5);
  std::vector<std::unique_ptr<Branch>> branches;
  branches.push_back(std::make_unique<Branch>(&pool));
  for (int round = 0; round < 3000; ++round) {
    const size_t chosen = random() % branches.size();
    const int what = static_cast<int>(random() % 10);
    if (what == 0 && branches.size() < 12) {
      const size_t used = pool.used(0) + pool.used(1);
      const int copies = memory.copies;
      branches.push_back(std::make_unique<Branch>(&pool));
      const Branch& parent = *branches[chosen];
      parent.table.Fork(static_cast<int>(parent.tokens.size()), &branches.back()->table);
      branches.back()->tokens = parent.tokens;
      EXPECT_EQ(pool.used(0) + pool.used(1), used);
      EXPECT_EQ(memory.copies, copies);
    } else if (what == 1 && (branches.size() > 6 || branches[chosen]->tokens.size() > 300)) {
      branches.erase(branches.begin() + static_cast<std::ptrdiff_t>(chosen));
      if (branches.empty()) branches.push_back(std::make_unique<Branch>(&pool));
    } else {
      Grow(&pool, &memory, branches[chosen].get(), static_cast<int>(random() % 30) + 1, &random);
    }
    if (round % 20 != 0) continue;
    std::vector<const BlockTable*> tables;
    for (const auto& branch : branches) {
      tables.push_back(&branch->table);
      EXPECT(memory.Shows(branch->table, kGroups, 0, branch->tokens, branch->tokens.size()));
    }
    EXPECT(ReferencesMatch(pool, tables));
    EXPECT_EQ(pool.CheckIntegrity(), "");
  }
  EXPECT(memory.copies > 50);
  branches.clear();
  EXPECT_EQ(pool.used(0) + pool.used(1), 0u);
}

TEST(a_fork_copies_one_page_a_group_when_it_first_writes) {
  TokenMemory memory({100, 40});
  BlockPool pool(&memory, 2, 1 << 20);
  std::mt19937 random(5);
  for (const int length : {160, 165}) {
    Branch parent(&pool), copy(&pool);
    Grow(&pool, &memory, &parent, length, &random);
    parent.table.Fork(length, &copy.table);
    copy.tokens = parent.tokens;
    const size_t used = pool.used(0) + pool.used(1);
    memory.copies = 0;
    Grow(&pool, &memory, &copy, 1, &random);
    EXPECT_EQ(memory.copies, length % kPageTokens == 0 ? 0 : 2);
    EXPECT_EQ(pool.used(0) + pool.used(1), used + 2);
    Grow(&pool, &memory, &copy, 1, &random);
    Grow(&pool, &memory, &parent, 1, &random);
    EXPECT_EQ(memory.copies, length % kPageTokens == 0 ? 0 : 2);
    EXPECT(memory.Shows(parent.table, kGroups, 0, parent.tokens, parent.tokens.size()));
    EXPECT(memory.Shows(copy.table, kGroups, 0, copy.tokens, copy.tokens.size()));
  }
}

TEST(a_shared_page_without_room_for_its_copy_can_be_asked_for_again) {
  TokenMemory memory({10});
  BlockPool pool(&memory, 1, 160);
  const std::vector<KvGroup> groups = {{0, 1}};
  BlockTable first(&pool, &groups), second(&pool, &groups);
  EXPECT(first.Reserve(0, 16 * 16 - 5));
  first.Fork(16 * 16 - 5, &second);
  EXPECT(!second.Reserve(16 * 16 - 5, 16 * 16));
  first.Clear();
  EXPECT(second.Reserve(16 * 16 - 5, 16 * 16));
  EXPECT_EQ(memory.copies, 0);
}

namespace {

// Does without any page that it is asked for.
class YieldingCache final : public PageCache {
 public:
  explicit YieldingCache(BlockPool* pool) : pool_(pool) { pool->SetCache(this); }
  void Evict(int group, PageId page) noexcept override {
    ++evictions;
    pool_->Forget(group, page);
  }
  void MakeRoom(int, size_t) override {}
  void Renumber(const PageMoves&) noexcept override {}
  int evictions = 0;

 private:
  BlockPool* const pool_;
};

}  // namespace

TEST(a_cached_page_without_room_for_its_copy_is_taken_over_where_it_is) {
  const std::vector<KvGroup> groups = {{0, 1}};
  for (const bool room : {false, true}) {
    TokenMemory memory({10});
    BlockPool pool(&memory, 1, room ? 320 : 160);
    YieldingCache cache(&pool);
    BlockTable table(&pool, &groups);
    EXPECT(table.Reserve(0, 250));
    const PageId last = table.pages(0)[15];
    for (PageId page = 0; page < 16; ++page) pool.Keep(0, page);
    EXPECT(table.Reserve(250, 256));
    // Where there is room the cache keeps its page; else it does without that one alone.
    EXPECT_EQ(memory.copies, room ? 1 : 0);
    EXPECT_EQ(cache.evictions, room ? 0 : 1);
    EXPECT_EQ(table.pages(0)[15] == last, !room);
    EXPECT_EQ(pool.kept(0, last), room);
    EXPECT_EQ(pool.CountKept(0), room ? 16u : 15u);
    EXPECT(pool.references(0, table.pages(0)[15]) == 1 && !pool.kept(0, table.pages(0)[15]));
    EXPECT_EQ(pool.CheckIntegrity(), "");
  }
}

TEST(a_cached_page_that_others_read_is_never_taken_over) {
  TokenMemory memory({10});
  BlockPool pool(&memory, 1, 160);
  YieldingCache cache(&pool);
  const std::vector<KvGroup> groups = {{0, 1}};
  BlockTable first(&pool, &groups), second(&pool, &groups);
  EXPECT(first.Reserve(0, 250));
  pool.Keep(0, first.pages(0)[15]);
  first.Fork(250, &second);
  EXPECT(!second.Reserve(250, 256));
  EXPECT(second.pages(0)[15] == first.pages(0)[15] && pool.kept(0, first.pages(0)[15]));
  EXPECT_EQ(memory.copies + cache.evictions, 0);
}

TEST(pages_are_owned_by_the_tables_that_have_all_their_references) {
  TokenMemory memory({10, 10});
  BlockPool pool(&memory, 2, 100000);
  BlockTable first(&pool, &kGroups), second(&pool, &kGroups), third(&pool, &kGroups);
  EXPECT(first.Reserve(0, 100));
  first.Fork(100, &second);
  second.Fork(50, &third);
  EXPECT(second.Reserve(100, 200));
  for (int group = 0; group < 2; ++group) {
    const auto owned = [&](std::vector<const BlockTable*> tables) {
      const std::vector<PageId> pages = BlockTable::OwnedBy(pool, tables, group);
      EXPECT(std::is_sorted(pages.begin(), pages.end()));
      return pages.size();
    };
    const size_t dropped = group == 0 ? 0 : (100 - 40 + 1) / 16;  // what no position of the second sees
    EXPECT_EQ(owned({}), 0u);
    EXPECT_EQ(owned({&third}), 0u);
    EXPECT_EQ(owned({&second}), 7u);  // its copy of the seventh block and six more
    EXPECT_EQ(owned({&first}), 1u);
    EXPECT_EQ(owned({&first, &second}), 7u + 1 + 2);
    EXPECT_EQ(owned({&first, &second, &third}), pool.used(group));
    EXPECT_EQ(owned({&first, &third}), 1u + dropped);
  }
}

HARNESS_MAIN()
