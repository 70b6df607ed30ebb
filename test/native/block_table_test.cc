#include "kv/block_table.h"

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

HARNESS_MAIN()
